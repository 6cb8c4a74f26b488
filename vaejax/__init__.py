"""vaejax: variational autoencoders as pure functions.

A `VAE` is four pure functions, `init`, `encode`, `prior` and `decode`; the last three
return distributions over one example, an objective is a function of
`(vae, params, key, x)`, and a batch is `jax.vmap`. The names below are the core;
everything else is reached through its package, such as
`vaejax.objectives.negative_dreg` or `vaejax.distributions.StudentT`. Read `base.py`
first.
"""

import importlib
from typing import TYPE_CHECKING, Any

from vaejax import (
    base as base,
    distributions as distributions,
    estimators as estimators,
    latent as latent,
    models as models,
    networks as networks,
    objectives as objectives,
    posteriors as posteriors,
    priors as priors,
    training as training,
)
from vaejax.base import (
    VAE,
    Distribution,
    Head,
    HeadLike,
    KlFn,
    Latents,
    LossFn,
    NetworkLike,
    Objective,
    TrainStep,
)
from vaejax.datasets import binarize
from vaejax.distributions import (
    Bernoulli,
    Categorical,
    Normal,
    kl_divergence,
    normal_head,
    reparameterize,
)
from vaejax.estimators import MarginalEstimate, active_units, log_marginal
from vaejax.latent import embed, interpolate, manifold, reconstruct, sample, traverse
from vaejax.models import gaussian_vae, sequence_vae
from vaejax.networks import MLP, ConvolutionalDecoder, ConvolutionalEncoder, GatedMLP
from vaejax.objectives import (
    ElboTerms,
    elbo_terms,
    kl_closed_form,
    kl_monte_carlo,
    kl_per_dimension,
    log_weight,
    loss_of_means,
    mean_over_batch,
    negative_elbo,
    negative_iwae,
    with_transform,
)
from vaejax.training import (
    TrainState,
    init_train_state,
    make_train_epoch,
    make_train_step,
)

if TYPE_CHECKING:
    from vaejax import (
        checkpoints as checkpoints,
        datasets as datasets,
        exporting as exporting,
        metrics as metrics,
        plots as plots,
    )

__version__ = "0.1.0"

# Imported when they are first used: they need packages that `import vaejax` does not.
_LAZY = ("checkpoints", "datasets", "exporting", "metrics", "plots")

__all__ = [
    "Bernoulli",
    "Categorical",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Distribution",
    "ElboTerms",
    "GatedMLP",
    "Head",
    "HeadLike",
    "KlFn",
    "Latents",
    "LossFn",
    "MLP",
    "MarginalEstimate",
    "NetworkLike",
    "Normal",
    "Objective",
    "TrainState",
    "TrainStep",
    "VAE",
    "active_units",
    "binarize",
    "elbo_terms",
    "embed",
    "gaussian_vae",
    "init_train_state",
    "interpolate",
    "kl_closed_form",
    "kl_divergence",
    "kl_monte_carlo",
    "kl_per_dimension",
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
    "sequence_vae",
    "traverse",
    "with_transform",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
