"""Distributions over one event, the heads that make them, and their divergences.

Every class is a pytree with `log_prob` in nats, summed over the event and normalized.
A `Head` turns the arrays of a network into a distribution. Read `continuous.py` first:
`Normal` and its heads show the pattern that all other files follow.
"""

from vaejax.base import END_TOKEN
from vaejax.columns import Column, MaskedEvent
from vaejax.distributions.adapters import from_numpyro
from vaejax.distributions.affine import Affine
from vaejax.distributions.autoregressive import (
    Autoregressive,
    TeacherForcedTokens,
    as_teacher_forced,
    make_word_dropout,
    token_mask,
)
from vaejax.distributions.cells import LogNormal, Ordinal, RoundedNormal
from vaejax.distributions.continuous import (
    ContinuousBernoulli,
    Normal,
    fixed_variance_normal_head,
    normal_head,
    reparameterize,
    shared_variance_normal_head,
)
from vaejax.distributions.counts import (
    NegativeBinomial,
    Poisson,
    negative_binomial_head,
    poisson_head,
)
from vaejax.distributions.discrete import Bernoulli, Categorical, categorical_head
from vaejax.distributions.flow import Flow, FlowLayer
from vaejax.distributions.flow_layers import (
    AffineCoupling,
    InverseAutoregressive,
    PlanarLayer,
    Reversal,
    SylvesterLayer,
)
from vaejax.distributions.heads import (
    as_head,
    parameter_free_head,
    soft_clip,
    support_of,
    with_initial_outputs,
)
from vaejax.distributions.heavy_tailed import (
    Laplace,
    StudentT,
    laplace_head,
    student_t_head,
)
from vaejax.distributions.joint import Joint, mask_parts
from vaejax.distributions.joint_heads import JointHead, joint_head
from vaejax.distributions.kl import kl_divergence
from vaejax.distributions.masked import Masked, masked_head
from vaejax.distributions.mixed import Mixed
from vaejax.distributions.mixed_heads import MixedHead, mixed_head, row_features
from vaejax.distributions.mixture import Mixture
from vaejax.distributions.multivariate import (
    MultivariateNormal,
    full_covariance_normal_head,
)
from vaejax.distributions.pixels import (
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    DiscretizedNormal,
    bits_per_dimension,
    discretized_logistic_head,
    discretized_logistic_mixture_head,
    discretized_normal_head,
)
from vaejax.distributions.quantized import (
    Codebook,
    CodeVectors,
    FiniteScalars,
    Quantized,
    Quantizer,
    code_perplexity,
)
from vaejax.distributions.relaxed import (
    ExpRelaxedCategorical,
    OneHotCategorical,
    RelaxedCategorical,
)
from vaejax.distributions.spherical import (
    UniformSphere,
    VonMisesFisher,
    von_mises_fisher_head,
)
from vaejax.distributions.units import (
    AffineUnits,
    LevelUnits,
    Log1pUnits,
    Units,
    units_from_dict,
)
from vaejax.distributions.zero_inflated import (
    ZeroInflatedNegativeBinomial,
    with_library_size,
    zero_inflated_negative_binomial_head,
)

__all__ = [
    "Affine",
    "AffineCoupling",
    "AffineUnits",
    "Autoregressive",
    "Bernoulli",
    "Categorical",
    "CodeVectors",
    "Codebook",
    "Column",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "DiscretizedNormal",
    "END_TOKEN",
    "ExpRelaxedCategorical",
    "FiniteScalars",
    "Flow",
    "FlowLayer",
    "InverseAutoregressive",
    "Joint",
    "JointHead",
    "Laplace",
    "LevelUnits",
    "Log1pUnits",
    "LogNormal",
    "Masked",
    "MaskedEvent",
    "Mixed",
    "MixedHead",
    "Mixture",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "Ordinal",
    "PlanarLayer",
    "Poisson",
    "Quantized",
    "Quantizer",
    "RelaxedCategorical",
    "Reversal",
    "RoundedNormal",
    "StudentT",
    "SylvesterLayer",
    "TeacherForcedTokens",
    "UniformSphere",
    "Units",
    "VonMisesFisher",
    "ZeroInflatedNegativeBinomial",
    "as_head",
    "as_teacher_forced",
    "bits_per_dimension",
    "categorical_head",
    "code_perplexity",
    "discretized_logistic_head",
    "discretized_logistic_mixture_head",
    "discretized_normal_head",
    "fixed_variance_normal_head",
    "from_numpyro",
    "full_covariance_normal_head",
    "joint_head",
    "kl_divergence",
    "laplace_head",
    "make_word_dropout",
    "mask_parts",
    "masked_head",
    "mixed_head",
    "negative_binomial_head",
    "normal_head",
    "parameter_free_head",
    "poisson_head",
    "reparameterize",
    "row_features",
    "shared_variance_normal_head",
    "soft_clip",
    "student_t_head",
    "support_of",
    "token_mask",
    "units_from_dict",
    "von_mises_fisher_head",
    "with_initial_outputs",
    "with_library_size",
    "zero_inflated_negative_binomial_head",
]
