"""Objectives of one example, estimators of their KL term, and losses of a batch.

Quantities to minimize are called `negative_...` or `..._loss`; values are in nats.
`mean_over_batch` and `loss_of_means` turn objectives of one example into a
`loss_fn(params, key, batch)`, the form that training takes. Objectives that need a
whole batch, such as `beta_tcvae_loss`, have this form already. Read `elbo.py` first,
then `batching.py`.
"""

from vaejax.objectives.batching import (
    CombineFn,
    TermsFn,
    loss_of_means,
    mean_over_batch,
    with_transform,
)
from vaejax.objectives.beta_tcvae import (
    AggregateLogRatios,
    TotalCorrelationTerms,
    aggregate_log_ratios,
    beta_tcvae_loss,
    minibatch_stratified,
    minibatch_weighted,
)
from vaejax.objectives.dip_vae import (
    CovarianceTerms,
    covariance_of_aggregate,
    covariance_of_means,
    dip_vae_loss,
)
from vaejax.objectives.doubly_reparameterized import negative_dreg
from vaejax.objectives.elbo import ElboTerms, elbo_terms, negative_elbo
from vaejax.objectives.factor_vae import (
    DiscriminatorTerms,
    factor_vae_loss,
    permute_dimensions,
    with_discriminator,
)
from vaejax.objectives.importance_weighted import (
    negative_iwae,
    negative_miwae,
    negative_piwae,
    negative_renyi,
)
from vaejax.objectives.importance_weights import (
    IwaeTerms,
    log_weight,
    log_weight_given_posterior,
    log_weights,
)
from vaejax.objectives.info_vae import (
    DiscrepancyTerms,
    Kernel,
    gaussian_kernel,
    info_vae_loss,
    inverse_multiquadratic_kernel,
    maximum_mean_discrepancy,
)
from vaejax.objectives.kl_constraints import capacity_loss, free_bits_loss
from vaejax.objectives.kl_estimators import (
    kl_closed_form,
    kl_monte_carlo,
    kl_of_categoricals,
    kl_per_dimension,
    kl_per_level,
    kl_sticking_the_landing,
)
from vaejax.objectives.optimal_variance import optimal_variance_loss
from vaejax.objectives.score_function import (
    negative_disarm,
    negative_reinforce,
    negative_vimco,
)
from vaejax.objectives.semi_supervised import (
    SemiSupervisedTerms,
    negative_semi_supervised_elbo,
)
from vaejax.objectives.subsets import negative_subset_elbo
from vaejax.objectives.vector_quantization import (
    vector_quantization_terms,
    with_revived_codes,
)

__all__ = [
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
    "beta_tcvae_loss",
    "capacity_loss",
    "covariance_of_aggregate",
    "covariance_of_means",
    "dip_vae_loss",
    "elbo_terms",
    "factor_vae_loss",
    "free_bits_loss",
    "gaussian_kernel",
    "info_vae_loss",
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
    "negative_disarm",
    "negative_dreg",
    "negative_elbo",
    "negative_iwae",
    "negative_miwae",
    "negative_piwae",
    "negative_reinforce",
    "negative_renyi",
    "negative_semi_supervised_elbo",
    "negative_subset_elbo",
    "negative_vimco",
    "optimal_variance_loss",
    "permute_dimensions",
    "vector_quantization_terms",
    "with_discriminator",
    "with_revived_codes",
    "with_transform",
]
