"""Estimators in half precision against float32, and far tails against float64."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from support.leave_out import leave_out
from support.linear_gaussian import make_params, vae, with_best_encoder

import vaejax
from vaejax import estimators
from vaejax.estimators import (
    AnnealingState,
    annealed_estimate,
    jackknife,
    marginal_of_weights,
    pareto_k,
    psis_weights,
)

HALVES = {"bfloat16": jnp.bfloat16, "float16": jnp.float16}
X = np.array([1.0, -0.5, 0.25, 2.0, -1.0], np.float32)
XS = np.stack([X, 2 * X, -X, X / 4])
Z = np.array([0.25, -0.5], np.float32)
PARAMS = jax.tree.map(
    lambda leaf: jnp.asarray(leaf, jnp.bfloat16).astype(jnp.float32),
    with_best_encoder(make_params(), widen=0.5),
)


def prior_of(params):
    zeros = jnp.zeros(params.loadings.shape[1], params.loadings.dtype)
    return vaejax.Normal(zeros, zeros)


MODEL = vae._replace(prior=prior_of)
ANNEALING = {
    "path": estimators.AnnealingPath(
        num_temperatures=20, num_leapfrog=4, step_sizes=np.full(20, 0.4, np.float32)
    ),
    "num_chains": 4,
}
# Of `(params, key, x, xs, z)`; each returns numbers of which float32 has the values.
CALLS = {
    "log_marginal": lambda p, k, x, xs, z: estimators.log_marginal(
        MODEL, p, k, x, num_samples=40
    )[:3],
    "annealed_importance_sampling": lambda p, k, x, xs, z: (
        estimators.annealed_importance_sampling(MODEL, p, k, x, **ANNEALING)
    ),
    "reverse_annealed_importance_sampling": lambda p, k, x, xs, z: (
        estimators.reverse_annealed_importance_sampling(MODEL, p, k, x, z, **ANNEALING)
    ),
    "bidirectional_monte_carlo": lambda p, k, x, xs, z: (
        estimators.bidirectional_monte_carlo(MODEL, p, k, **ANNEALING).gap
    ),
    "adapt_step_sizes": lambda p, k, x, xs, z: jnp.mean(
        estimators.adapt_step_sizes(
            MODEL, p, k, x, path=ANNEALING["path"], num_transitions=20, num_chains=4
        )
    ),
    "optimal_posterior": lambda p, k, x, xs, z: jax.tree.map(
        jnp.mean, estimators.optimal_posterior(MODEL, p, k, x, num_steps=200)
    ),
    "inference_gap": lambda p, k, x, xs, z: estimators.inference_gap(
        MODEL, p, k, x, jnp.float32(-9), num_steps=50, num_samples=30
    ),
    "aggregate_decomposition": lambda p, k, x, xs, z: values_of(
        estimators.aggregate_decomposition(MODEL, p, k, xs, num_samples=8)
    ),
}


def values_of(parts):
    return [part.value for part in (*parts[:5], *parts.lower, *parts.upper)]


def moments(name, dtype, num=200):
    """Mean and its standard error of each number, over keys, in one precision."""
    arguments = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (X, XS, Z))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    call = jax.jit(jax.vmap(lambda key: CALLS[name](params, key, *arguments)))
    with jax.numpy_dtype_promotion("standard"):  # Optax is not written for strict ones
        found = call(jax.random.split(jax.random.key(0), num))
    columns = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]
    numbers = np.stack(columns)
    return numbers.mean(axis=1), numbers.std(axis=1) / math.sqrt(num)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CALLS)
def test_every_estimator_in_bfloat16_has_the_mean_of_float32(name):
    (half, half_error), (single, single_error) = (
        moments(name, dtype) for dtype in (jnp.bfloat16, jnp.float32)
    )
    # Five standard errors, and the rounding of a mean or a log-variance by one unit.
    rounding = 2**-8 * np.abs(single) if name == "optimal_posterior" else 0
    allowed = 5 * np.hypot(half_error, single_error) + rounding + 1e-6
    assert np.all(np.abs(half - single) < allowed), (half, single, allowed)


def test_the_table_of_half_precision_has_every_estimator_of_a_model():
    functions = {
        name
        for name in estimators.__all__
        if not isinstance(getattr(estimators, name), type)
        and getattr(getattr(estimators, name), "__code__", None)
        and getattr(estimators, name).__code__.co_varnames[:3]
        == ("vae", "params", "key")
    }
    # Pieces of `annealed_importance_sampling`.
    assert functions - {"init_annealing", "anneal"} == set(CALLS)


@pytest.mark.slow
def test_the_chunk_size_moves_nothing_in_half_precision():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    run = partial(estimators.log_marginal, MODEL, params, jax.random.key(1))
    x = jnp.asarray(100 * X, jnp.bfloat16)
    found = [run(x, num_samples=300, chunk_size=size) for size in (7, 100, 1000)]
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5)


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("function", [pareto_k, jackknife, partial(jackknife, order=2)])
def test_half_precision_weights_give_the_float32_value_of_the_same_numbers(
    function, dtype
):
    log_weights = jnp.asarray(
        np.random.default_rng(0).normal(-90, 2, 60), HALVES[dtype]
    )
    found, expected = function(log_weights), function(log_weights.astype(jnp.float32))
    assert found.dtype == jnp.float32
    assert np.isfinite(found)
    assert found == expected


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("function", [psis_weights, marginal_of_weights])
def test_half_precision_weights_give_the_float32_record_of_the_same_numbers(
    function, dtype
):
    log_weights = jnp.asarray(
        np.random.default_rng(0).normal(-90, 2, 60), HALVES[dtype]
    )
    found, expected = function(log_weights), function(log_weights.astype(jnp.float32))
    assert {leaf.dtype for leaf in found} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def annealed(log_weights):
    """The public function of given log-weights that returns mean, error and ESS."""
    log_weights = jnp.asarray(log_weights, jnp.float32)
    return annealed_estimate(
        AnnealingState(
            jnp.zeros((len(log_weights), 1)),
            log_weights,
            jnp.ones(len(log_weights)),
            position=jnp.int32(1),
            remaining=jnp.int32(0),
        )
    )


FAR = {
    "near 0": np.linspace(-1, 1, 16),
    "1e5 nats": np.linspace(-1e5, -1e5 + 20, 16),
    "spread over 500 nats": np.linspace(0, -500, 16),
    "two dominant": np.array([0.0, -0.5] + [-400.0] * 14),
    "zeros among them": np.array([0.0, -1.0, -2.0, -3.0] + [-np.inf] * 12),
    "equal": np.full(16, -3e4),
}


@pytest.mark.parametrize("function", [annealed, marginal_of_weights])
@pytest.mark.parametrize("name", FAR)
def test_weights_in_far_tails_are_those_of_float64(name, function):
    log_weights = np.float32(FAR[name]).astype(np.float64)
    scale = log_weights.max()
    weights = np.exp(log_weights - scale)
    size = weights.sum() ** 2 / np.square(weights).sum()
    found = function(np.float32(log_weights))
    np.testing.assert_allclose(
        found.log_marginal, np.log(weights.mean()) + scale, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(found.effective_sample_size, size, rtol=1e-5)
    error = weights.std(ddof=1) / weights.mean() / 4
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-4, atol=1e-6)


JACKKNIFE = {
    "two dominant": np.array([0.0, 0.0] + [-50.0] * 10),
    "two dominant, by far": np.array([0.0, -1.0] + [-300.0] * 8),
    "one dominant": np.array([0.0] + [-500.0] * 8),
    "three dominant": np.array([5.0, 5.0, 5.0, -80.0, -200.0]),
    "at 1e4 nats": np.linspace(-1e4, -1e4 + 3, 9),
    "one and another": np.array([1.0, 2.0, -1000.0]),
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", JACKKNIFE)
def test_jackknife_of_dominant_weights_is_that_of_float64(name, order):
    log_weights = np.float32(JACKKNIFE[name]).astype(np.float64)
    n = len(log_weights)
    whole, once, twice = (leave_out(log_weights, left) for left in (0, 1, 2))
    expected = n * whole - (n - 1) * once
    if order == 2:
        expected = n**2 / 2 * whole - (n - 1) ** 2 * once + (n - 2) ** 2 / 2 * twice
    found = jackknife(np.float32(log_weights), order=order)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_jackknife_with_weights_of_zero():
    one = jnp.array([0.0, -jnp.inf, -jnp.inf])
    for order in (1, 2):
        assert jackknife(one, order=order) == np.inf
        assert jackknife(jnp.full(3, -jnp.inf), order=order) == -np.inf
        assert np.isnan(jackknife(one.at[1].set(jnp.nan), order=order))


def test_the_gradient_of_the_jackknife_at_equal_weights_is_symmetric():
    for order in (1, 2):
        gradient = jax.grad(partial(jackknife, order=order))(jnp.full(5, -3.0))
        np.testing.assert_allclose(gradient, 0.2, rtol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("spread", [1e-2, 1.0, 30.0])
def test_pareto_k_is_that_of_float64(spread):
    log_weights = np.float32(spread * np.random.default_rng(0).normal(size=400))
    found = pareto_k(log_weights)
    with jax.enable_x64(True):
        expected = float(pareto_k(jnp.asarray(log_weights, jnp.float64)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_pareto_k_of_weights_that_underflow_is_large():
    log_weights = np.float32(3000 * np.random.default_rng(0).normal(size=400))
    assert 0.7 < pareto_k(log_weights) < np.inf


@pytest.mark.sampled
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_never_count_as_good(bad):
    log_weights = np.zeros(100, np.float32)
    log_weights[7] = bad
    assert pareto_k(log_weights) == np.inf
    assert marginal_of_weights(log_weights).pareto_k == np.inf
    for estimate in (annealed(log_weights), marginal_of_weights(log_weights)):
        assert estimate.effective_sample_size == 0
        assert estimate.standard_error == np.inf
    x = X.copy()
    x[0] = bad
    estimate = estimators.log_marginal(
        MODEL, PARAMS, jax.random.key(0), x, num_samples=40
    )
    assert not np.isfinite(estimate.log_marginal)
    assert estimate.pareto_k == estimate.standard_error == np.inf
    assert estimate.effective_sample_size == 0


def test_weights_of_zero_never_count_as_good():
    zeros = np.full(30, -np.inf, np.float32)
    for estimate in (annealed(zeros), marginal_of_weights(zeros)):
        assert estimate.log_marginal == -np.inf
        assert estimate.standard_error == np.inf
        assert estimate.effective_sample_size == 0
    assert pareto_k(np.full(30, -np.inf, np.float32)) == np.inf


@pytest.mark.slow
def test_pareto_k_is_of_all_samples_whatever_the_chunks():
    def draw(i):
        return vaejax.log_weight(
            MODEL, PARAMS, jax.random.fold_in(jax.random.key(1), i), X
        )

    log_weights = jax.jit(jax.vmap(draw))(jnp.arange(500))
    for chunk_size in (30, 250, 500):
        found = estimators.log_marginal(
            MODEL,
            PARAMS,
            jax.random.key(1),
            X,
            num_samples=500,
            chunk_size=chunk_size,
        ).pareto_k
        np.testing.assert_allclose(found, pareto_k(log_weights), rtol=1e-3)
    assert not np.isclose(found, pareto_k(log_weights[:250]), rtol=1e-2)


def test_the_bound_of_huge_log_weights_is_the_logsumexp_in_float64():
    x = 300 * X  # log-weights of -1e6 nats

    def draw(i):
        return vaejax.log_weight(
            MODEL, PARAMS, jax.random.fold_in(jax.random.key(1), i), x
        )

    weights = np.asarray(jax.jit(jax.vmap(draw))(jnp.arange(200)), np.float64)
    found = estimators.log_marginal(
        MODEL, PARAMS, jax.random.key(1), x, num_samples=200, chunk_size=30
    )
    expected = scipy.special.logsumexp(weights) - np.log(200)
    np.testing.assert_allclose(found.log_marginal, expected, rtol=1e-6)
