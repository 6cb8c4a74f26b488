"""vaejax: variational autoencoders as pure functions."""

from vaejax.base import VAE, Distribution, Head, KlFn, Latents
from vaejax.datasets import binarize
from vaejax.distributions import (
    Bernoulli,
    Categorical,
    Normal,
    categorical_head,
    fixed_variance_normal_head,
    kl_divergence,
    normal_head,
    reparameterize,
    shared_variance_normal_head,
    simple_head,
    soft_bounds,
)
from vaejax.estimators import MarginalEstimate, active_units, log_marginal
from vaejax.latent import embed, interpolate, manifold, reconstruct, sample, traverse
from vaejax.models import gaussian_vae, with_compute_dtype
from vaejax.networks import MLP, Network, as_network, chain
from vaejax.objectives import (
    ElboTerms,
    IwaeTerms,
    elbo_terms,
    kl_closed_form,
    kl_monte_carlo,
    log_weight,
    loss_of_means,
    mean_over_batch,
    negative_elbo,
    negative_iwae,
    with_transform,
)
from vaejax.training import StepMetrics, TrainState, init_train_state, make_train_epoch, make_train_step

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "VAE",
    "Bernoulli",
    "Categorical",
    "Distribution",
    "ElboTerms",
    "Head",
    "IwaeTerms",
    "KlFn",
    "Latents",
    "MarginalEstimate",
    "Network",
    "Normal",
    "StepMetrics",
    "TrainState",
    "active_units",
    "as_network",
    "binarize",
    "categorical_head",
    "chain",
    "elbo_terms",
    "embed",
    "fixed_variance_normal_head",
    "gaussian_vae",
    "init_train_state",
    "interpolate",
    "kl_closed_form",
    "kl_divergence",
    "kl_monte_carlo",
    "log_marginal",
    "log_weight",
    "loss_of_means",
    "make_train_epoch",
    "make_train_step",
    "manifold",
    "mean_over_batch",
    "negative_elbo",
    "negative_iwae",
    "normal_head",
    "reconstruct",
    "reparameterize",
    "sample",
    "shared_variance_normal_head",
    "simple_head",
    "soft_bounds",
    "traverse",
    "with_compute_dtype",
    "with_transform",
]
