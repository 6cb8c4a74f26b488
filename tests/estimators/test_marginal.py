"""The importance-weighted bound on a linear-Gaussian model, where log p(x) is known."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import (
    draw_examples,
    exact_log_marginal,
    make_params,
    recording,
    vae,
    with_best_encoder,
)

from vaejax import log_marginal, log_weight
from vaejax.estimators import marginal_of_weights, pareto_k, pareto_k_threshold

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
# An encoder somewhat wider than the posterior, so that the weights vary.
PARAMS = with_best_encoder(make_params(), widen=0.5)


@cache
def program(vae, num_samples, chunk_size):
    return jax.jit(
        partial(log_marginal, vae, num_samples=num_samples, chunk_size=chunk_size)
    )


def estimate(vae, params, num_samples, chunk_size):
    return jax.block_until_ready(
        program(vae, num_samples, chunk_size)(params, jax.random.key(1), X)
    )


@pytest.mark.slow
def test_log_marginal_is_the_logsumexp_of_its_weights():
    def one(i):
        return log_weight(vae, PARAMS, jax.random.fold_in(jax.random.key(1), i), X)

    log_weights = jax.jit(jax.vmap(one))(jnp.arange(250))
    given = marginal_of_weights(log_weights)
    weights = np.exp(np.asarray(log_weights, np.float64))
    for chunk_size in (7, 100, 1000):
        value, error, size, k = drawn = estimate(vae, PARAMS, 250, chunk_size)
        np.testing.assert_allclose(given, drawn, rtol=1e-4)
        np.testing.assert_allclose(value, np.log(weights.mean()), rtol=1e-5)
        np.testing.assert_allclose(
            size, weights.sum() ** 2 / np.square(weights).sum(), rtol=1e-4
        )
        np.testing.assert_allclose(
            error, weights.std(ddof=1) / weights.mean() / np.sqrt(250), rtol=1e-3
        )
        assert 1 <= size <= 250
        np.testing.assert_allclose(
            k, pareto_k(np.log(weights).astype(np.float32)), rtol=1e-3
        )


@pytest.mark.sampled
@pytest.mark.parametrize(("num_samples", "chunk_size"), [(1, 100), (11, 4), (10, 5)])
def test_log_marginal_decodes_exactly_num_samples(num_samples, chunk_size):
    recorded, decoded = recording(vae)
    estimate(recorded, PARAMS, num_samples, chunk_size)
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == num_samples


def test_log_marginal_at_the_exact_posterior_has_no_error():
    params = with_best_encoder(make_params(orthogonal=True))
    value, error, size, k = estimate(vae, params, 250, 100)
    np.testing.assert_allclose(value, exact_log_marginal(params, X), rtol=1e-5)
    np.testing.assert_allclose(size, 250, rtol=1e-4)
    assert error < 1e-3
    assert k < 0.5


def test_log_marginal_of_one_sample_has_no_standard_error():
    _, error, size, k = estimate(vae, PARAMS, 1, 100)
    assert error == k == np.inf
    np.testing.assert_allclose(size, 1, rtol=1e-6)


def test_standard_error_is_calibrated():
    num = 2000
    xs = draw_examples(PARAMS, num)
    over_set = jax.jit(
        jax.vmap(partial(log_marginal, vae, num_samples=250), in_axes=(None, 0, 0))
    )
    estimates = over_set(PARAMS, jax.random.split(jax.random.key(3), num), xs)
    values, errors, sizes, _ = jax.tree.map(np.asarray, estimates)
    scores = (values - exact_log_marginal(PARAMS, xs)) / errors
    # Five standard errors of the mean and the deviation of `num` normal scores; the
    # mean is biased by -error / 2.
    assert abs(scores.mean() + errors.mean() / 2) < 5 / np.sqrt(num)
    assert abs(scores.std() - 1) < 5 / np.sqrt(2 * num)
    assert np.all((sizes >= 1) & (sizes <= 250))


def test_memory_does_not_grow_with_num_samples():
    params, x = make_params(x_size=500), np.zeros(500, np.float32)

    def temporary_bytes(num_samples):
        compiled = (
            program(vae, num_samples, 100).lower(params, jax.random.key(1), x).compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes

    # One chunk's decodes are 200 kB; the indices of the chunks, 4 bytes each, may be
    # stored.
    assert temporary_bytes(50_000) - temporary_bytes(500) < 10_000


@pytest.mark.parametrize(
    "counts",
    [{"num_samples": 0}, {"num_samples": 10, "chunk_size": 0}, {"num_samples": 2.5}],
)
def test_log_marginal_checks_its_counts(counts):
    with pytest.raises(ValueError, match="give a positive integer"):
        log_marginal(vae, PARAMS, jax.random.key(1), X, **counts)


def test_pareto_k_tells_an_encoder_that_is_too_narrow():
    # Var q = s^2 Var p: the weights' tail index is 1 - s^2, below 0 where q is wider
    # than p.
    shapes = {}
    for widen in (0.5, np.log(0.5), np.log(0.2)):
        params = with_best_encoder(make_params(orthogonal=True), widen=widen)
        shapes[widen] = float(estimate(vae, params, 20_000, 1000).pareto_k)
    wide, narrow, too_narrow = shapes.values()
    assert wide < 0.2
    assert abs(narrow - 0.5) < 0.15
    assert too_narrow > pareto_k_threshold(20_000) == 0.7
