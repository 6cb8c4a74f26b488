"""Estimators of log p(x), of its error, and of the quality of q(z|x).

`log_marginal` is the importance-weighted bound, `pareto_k` and `jackknife` judge and
correct it, `psis_weights` smooths its weights. Annealing bounds log p(x) more tightly
and, on simulated data, from both sides; an `AnnealingPath` holds its options.
`correct_bound` corrects the bound of a set by annealing a part of it. `inference_gap`
and `aggregate_decomposition` take the ELBO and its KL apart. `fit_independent_columns`
is the model of a table without latents. Read `marginal.py` first, then `annealing.py`.
"""

from vaejax.estimators.aggregate_posterior import (
    AggregateBounds,
    AggregateDecomposition,
    MonteCarloMean,
    aggregate_decomposition,
)
from vaejax.estimators.annealing import (
    BidirectionalEstimate,
    annealed_importance_sampling,
    bidirectional_monte_carlo,
    reverse_annealed_importance_sampling,
)
from vaejax.estimators.annealing_chains import (
    AnnealedEstimate,
    AnnealingState,
    anneal,
    annealed_estimate,
    init_annealing,
    init_reverse_annealing,
)
from vaejax.estimators.annealing_path import (
    AnnealingPath,
    InitialFn,
    start_at_posterior,
    start_at_prior,
)
from vaejax.estimators.corrected_marginal import CorrectedMarginal, correct_bound
from vaejax.estimators.hamiltonian import Transition, hamiltonian_transition
from vaejax.estimators.importance_weights import jackknife
from vaejax.estimators.independent_columns import fit_independent_columns
from vaejax.estimators.inference import (
    InferenceGap,
    inference_gap,
    optimal_posterior,
)
from vaejax.estimators.marginal import (
    MarginalEstimate,
    log_marginal,
    marginal_of_weights,
)
from vaejax.estimators.pareto_smoothing import (
    SmoothedWeights,
    pareto_k,
    pareto_k_threshold,
    psis_weights,
)
from vaejax.estimators.step_sizes import adapt_step_sizes
from vaejax.estimators.temperature_schedules import (
    TemperatureSchedule,
    linear_temperature_schedule,
    sigmoidal_temperature_schedule,
)
from vaejax.estimators.used_units import active_units, units_by_kl

__all__ = [
    "AggregateBounds",
    "AggregateDecomposition",
    "AnnealedEstimate",
    "AnnealingPath",
    "AnnealingState",
    "BidirectionalEstimate",
    "CorrectedMarginal",
    "InferenceGap",
    "InitialFn",
    "MarginalEstimate",
    "MonteCarloMean",
    "SmoothedWeights",
    "TemperatureSchedule",
    "Transition",
    "active_units",
    "adapt_step_sizes",
    "aggregate_decomposition",
    "anneal",
    "annealed_estimate",
    "annealed_importance_sampling",
    "bidirectional_monte_carlo",
    "correct_bound",
    "fit_independent_columns",
    "hamiltonian_transition",
    "inference_gap",
    "init_annealing",
    "init_reverse_annealing",
    "jackknife",
    "linear_temperature_schedule",
    "log_marginal",
    "marginal_of_weights",
    "optimal_posterior",
    "pareto_k",
    "pareto_k_threshold",
    "psis_weights",
    "reverse_annealed_importance_sampling",
    "sigmoidal_temperature_schedule",
    "start_at_posterior",
    "start_at_prior",
    "units_by_kl",
]
