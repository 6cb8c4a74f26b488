"""The table of every objective in `vaejax.objectives`, as losses of a batch."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import vaejax
from vaejax import VAE, mean_over_batch, objectives
from vaejax.base import LossFn


def make_vae(
    likelihood=vaejax.Bernoulli,
    sizes=(400,),
    latent_size=20,
    builder=vaejax.gaussian_vae,
) -> VAE:
    return builder(
        latent_size=latent_size,
        encoder=vaejax.MLP(sizes),
        decoder=vaejax.MLP(sizes, (784,)),
        likelihood=likelihood,
    )


class Row(NamedTuple):
    """An objective, and the bound of its temporary memory.

    Attributes:
      make_loss: `vae -> loss_fn` of a batch.
      num_samples: samples of z per example, as the loss draws them.
      memory: temporary memory of its gradient, at most this multiple of that of
        `negative_iwae` with as many samples.
      make_vae: the model that it is made for.
    """

    make_loss: Callable[[VAE], LossFn]
    num_samples: int
    memory: float
    make_vae: Callable[[], VAE] = make_vae


def of_example(objective, **options):
    """The loss that is the mean of an objective over examples."""
    return lambda vae: mean_over_batch(partial(objective, vae, **options))


def of_means(combine, **options):
    """The loss that combines the mean terms of the ELBO."""
    terms = partial(vaejax.elbo_terms, kl_fn=objectives.kl_per_dimension)
    return lambda vae: objectives.loss_of_means(
        partial(terms, vae), partial(combine, **options)
    )


def shared_variance_vae() -> VAE:
    return make_vae(
        vaejax.distributions.shared_variance_normal_head(
            min_log_variance=-math.inf, max_log_variance=math.inf
        )
    )


def binary_vae() -> VAE:
    return make_vae(builder=vaejax.models.bernoulli_vae)


DISCRIMINATOR = vaejax.MLP((400,), (1,))


OBJECTIVES = {
    "negative_elbo": Row(of_example(objectives.negative_elbo, num_samples=4), 4, 1.05),
    "negative_iwae": Row(of_example(objectives.negative_iwae, num_samples=4), 4, 1.0),
    "negative_dreg": Row(of_example(objectives.negative_dreg, num_samples=4), 4, 1.25),
    "negative_miwae": Row(
        of_example(objectives.negative_miwae, num_groups=2, num_samples=2, mixing=0.5),
        4,
        1.05,
    ),
    "negative_piwae": Row(
        of_example(objectives.negative_piwae, num_groups=2, num_samples=2), 4, 1.05
    ),
    "negative_renyi": Row(
        of_example(objectives.negative_renyi, num_samples=4, alpha=0.5), 4, 1.05
    ),
    "negative_disarm": Row(
        of_example(objectives.negative_disarm, num_samples=4), 4, 1.05, binary_vae
    ),
    "negative_reinforce": Row(
        of_example(objectives.negative_reinforce, num_samples=4), 4, 1.05, binary_vae
    ),
    "negative_vimco": Row(
        of_example(objectives.negative_vimco, num_samples=4), 4, 1.05, binary_vae
    ),
    "free_bits_loss": Row(of_means(objectives.free_bits_loss, minimum=0.1), 1, 1.05),
    "capacity_loss": Row(
        of_means(objectives.capacity_loss, target=1.0, gamma=10.0), 1, 1.05
    ),
    "optimal_variance_loss": Row(
        objectives.optimal_variance_loss, 1, 1.05, shared_variance_vae
    ),
    "beta_tcvae_loss": Row(
        partial(objectives.beta_tcvae_loss, dataset_size=1000), 1, 1.7
    ),
    "dip_vae_loss": Row(objectives.dip_vae_loss, 1, 1.05),
    "info_vae_loss": Row(objectives.info_vae_loss, 1, 1.7),
    "factor_vae_loss": Row(
        partial(objectives.factor_vae_loss, discriminator=DISCRIMINATOR),
        1,
        1.3,
        lambda: objectives.with_discriminator(make_vae(), DISCRIMINATOR),
    ),
}
# The rest of the package: types, terms, estimators and parts of these losses, and
# objectives of models with parts or classes.
OTHERS = [
    "AggregateLogRatios",
    "CombineFn",
    "CovarianceTerms",
    "DiscrepancyTerms",
    "DiscriminatorTerms",
    "ElboTerms",
    "IwaeTerms",
    "Kernel",
    "SemiSupervisedTerms",
    "TermsFn",
    "TotalCorrelationTerms",
    "aggregate_log_ratios",
    "covariance_of_aggregate",
    "covariance_of_means",
    "elbo_terms",
    "gaussian_kernel",
    "inverse_multiquadratic_kernel",
    "kl_closed_form",
    "kl_monte_carlo",
    "kl_of_categoricals",
    "kl_per_dimension",
    "kl_per_level",
    "kl_sticking_the_landing",
    "log_weight",
    "log_weight_given_posterior",
    "log_weights",
    "loss_of_means",
    "maximum_mean_discrepancy",
    "mean_over_batch",
    "minibatch_stratified",
    "minibatch_weighted",
    "negative_semi_supervised_elbo",
    "negative_subset_elbo",
    "permute_dimensions",
    "vector_quantization_terms",
    "with_discriminator",
    "with_revived_codes",
    "with_transform",
]
