"""The section `objectives` of the benchmark covers all that it should, and counts the
operations of loops.
"""

import jax
import jax.numpy as jnp
import pytest
from support import objectives as table

import vaejax
from experiments.benchmarks import objectives as section
from experiments.benchmarks.operations import operations_of
from vaejax import estimators

# The rest of the package: types, and parts of the estimators.
OTHER_ESTIMATORS = [
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
    "anneal",
    "annealed_estimate",
    "correct_bound",
    "fit_independent_columns",
    "hamiltonian_transition",
    "init_annealing",
    "init_reverse_annealing",
    "linear_temperature_schedule",
    "marginal_of_weights",
    "pareto_k_threshold",
    "psis_weights",
    "sigmoidal_temperature_schedule",
    "start_at_posterior",
    "start_at_prior",
]


def test_every_objective_and_estimator_has_a_row():
    vae = table.make_vae()
    gradients = section.gradient_rows(vae, table.make_vae, 1000)
    assert set(gradients) == set(table.OBJECTIVES)
    rows = {name.split(",")[0] for name in section.estimator_rows(vae, 20)}
    assert sorted([*rows, *OTHER_ESTIMATORS]) == sorted(estimators.__all__)


def compiled_operations(function, *args, **options):
    compiled = jax.jit(function).lower(*args).compile()
    return operations_of(function, compiled, *args, **options)


def repeated(matrix, x, times):
    """As many products as `times`, unrolled."""
    for _ in range(times):
        x = jnp.tanh(matrix @ x)
    return x


LOOPS = {
    "scan": lambda matrix, x: jax.lax.scan(
        lambda x, _: (jnp.tanh(matrix @ x), None), x, None, 7
    )[0],
    "fori_loop": lambda matrix, x: jax.lax.fori_loop(
        0, 7, lambda _, x: jnp.tanh(matrix @ x), x
    ),
    "while_loop": lambda matrix, x: jax.lax.while_loop(
        lambda state: state[0] < 7,
        lambda state: (state[0] + 1, jnp.tanh(matrix @ state[1])),
        (jnp.int32(0), x),
    )[1],
}


@pytest.mark.parametrize("name", LOOPS)
def test_operations_of_a_loop_are_those_of_the_unrolled_program(name):
    args = jnp.ones((30, 30)), jnp.ones((30, 20))
    unrolled = compiled_operations(lambda *args: repeated(*args, 7), *args)
    looped = compiled_operations(LOOPS[name], *args, while_iterations=7)
    assert looped == pytest.approx(unrolled, rel=0.03)


@pytest.mark.slow
def test_operations_of_log_marginal_do_not_depend_on_its_chunks():
    vae = table.make_vae()
    x = jnp.zeros(784)
    params = vae.init(jax.random.key(0), x)

    def operations(chunk_size):
        def function(params, key):
            return vaejax.log_marginal(
                vae, params, key, x, num_samples=40, chunk_size=chunk_size
            ).log_marginal

        return compiled_operations(function, params, jax.random.key(1))

    assert operations(10) == pytest.approx(operations(40), rel=0.03)
