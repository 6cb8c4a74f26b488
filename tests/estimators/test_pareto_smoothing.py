"""The tail of log-weights: its shape, its threshold, and weights smoothed by it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vaejax.estimators import pareto_k, pareto_k_threshold, psis_weights


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_is_the_shape_of_pareto_weights(k):
    weights = scipy.stats.genpareto(k).rvs(
        (200, 2000), random_state=np.random.default_rng(0)
    )
    estimates = np.asarray(
        jax.jit(jax.vmap(pareto_k))(np.log(weights).astype(np.float32))
    )
    # 135 exceedances: a deviation of (1 + k) / sqrt(135) each, and the prior's pull
    # towards 1/2.
    assert abs(np.mean(estimates) - k) < 5 * (1 + k) / math.sqrt(
        135 * 200
    ) + 10 / 145 * abs(0.5 - k)
    np.testing.assert_allclose(np.std(estimates), (1 + k) / math.sqrt(135), rtol=0.3)


def test_pareto_k_does_not_depend_on_scale_or_order():
    log_weights = np.float32(np.random.default_rng(1).normal(size=400))
    k = pareto_k(jnp.asarray(log_weights))
    np.testing.assert_allclose(
        pareto_k(jnp.asarray(log_weights[::-1] - 90)), k, atol=1e-3
    )


@pytest.mark.parametrize(
    ("log_weights", "lowest", "highest"),
    [
        (np.zeros(100), -np.inf, -np.inf),
        (np.repeat([0.0, -200.0], 50), -np.inf, -np.inf),
        (np.append(np.zeros(99), -200.0), -np.inf, -np.inf),
        (np.append(np.zeros(99), 200.0), 0.7, 1e3),
        (np.linspace(0, -900, 100), 0.7, 1e3),
    ],
)
def test_pareto_k_of_extreme_weights_is_no_nan(log_weights, lowest, highest):
    with jax.debug_nans(True):
        k = jax.jit(pareto_k)(np.float32(log_weights))
    assert lowest <= k <= highest


def test_pareto_k_needs_25_samples():
    assert pareto_k(jnp.zeros(24)) == np.inf
    assert pareto_k(jnp.zeros(25)) == -np.inf


smooth = jax.jit(psis_weights)


def pareto_weights(k, num, seed=0):
    random = np.random.default_rng(seed)
    return np.float32(np.log(scipy.stats.genpareto(k).rvs(num, random_state=random)))


@pytest.mark.parametrize(
    ("num_samples", "threshold"),
    [(2, -2.322), (10, 0), (100, 0.5), (320, 0.601), (2154, 0.7), (10**6, 0.7)],
)
def test_threshold_is_that_of_the_paper(num_samples, threshold):
    assert pareto_k_threshold(num_samples) == pytest.approx(threshold, abs=1e-3)


def test_no_shape_passes_the_threshold_of_one_weight():
    assert pareto_k_threshold(1) == -np.inf
    # The smallest number of samples that reaches the cap.
    assert pareto_k_threshold(2154) < 0.7 == pareto_k_threshold(2155)


@pytest.mark.parametrize("k", [0.2, 0.6, 1.2])
def test_tail_weights_are_quantiles_of_the_pareto_distribution_that_was_fitted(k):
    log_weights = pareto_weights(k, 500) - 90
    smoothed = smooth(jnp.asarray(log_weights))
    order = np.argsort(log_weights)
    body, tail = order[:-68], order[-68:]  # 3 sqrt(500), rounded up
    # Relative to the normalizer, the weights outside the tail are the raw ones.
    offset = smoothed.log_weights[body[-1]] - log_weights[body[-1]]
    np.testing.assert_allclose(
        smoothed.log_weights[body] - offset, log_weights[body], rtol=1e-5
    )
    unnormalized = np.float64(smoothed.log_weights[tail] - offset)
    largest, cutoff = log_weights[order[-1]], log_weights[body[-1]]
    assert np.all(np.diff(unnormalized) >= 0) and unnormalized[-1] <= largest + 1e-4
    excess = np.exp(unnormalized - largest) - np.exp(np.float64(cutoff - largest))
    quantiles = scipy.stats.genpareto(float(smoothed.pareto_k)).ppf(
        (np.arange(68) + 0.5) / 68
    )
    inside = unnormalized < largest - 1e-3  # not truncated
    ratios = (excess / quantiles)[inside]
    assert inside.sum() > 50
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-2)
    np.testing.assert_allclose(
        smoothed.pareto_k, jax.jit(pareto_k)(log_weights), rtol=1e-5
    )
    np.testing.assert_allclose(np.sum(np.exp(smoothed.log_weights)), 1, rtol=1e-5)


@pytest.mark.parametrize("k", [0.6, 1.0])  # below 1/3, blackjax does not smooth
def test_weights_are_those_of_blackjax(k):
    diagnostics = pytest.importorskip("blackjax.diagnostics")
    # 3 sqrt(400) is whole, so that it does not matter how it is rounded.
    log_weights = jnp.asarray(pareto_weights(k, 400, seed=1))
    with jax.numpy_dtype_promotion("standard"):
        expected_weights, expected_k = jax.jit(diagnostics.psis_weights)(log_weights)
    assert expected_k > 1 / 3
    found = smooth(log_weights)
    np.testing.assert_allclose(found.log_weights, expected_weights, atol=2e-5)
    np.testing.assert_allclose(found.pareto_k, expected_k, rtol=1e-4)


def test_smoothed_weights_estimate_a_mean_with_a_smaller_error():
    # Weights of infinite variance, and the mean of their ranks u under them: that of
    # u [(1 - u)^-k - 1] over u in (0, 1), in closed form.
    k, tail = 0.6, scipy.stats.genpareto(0.6)
    log_weights = np.stack([pareto_weights(k, 1000, seed) for seed in range(1000)])
    ranks = tail.cdf(np.exp(np.float64(log_weights)))
    truth = (1 / ((1 - k) * (2 - k)) - 1 / 2) / (1 / (1 - k) - 1)
    smoothed = jax.vmap(smooth)(log_weights).log_weights
    raw = scipy.special.log_softmax(log_weights, axis=1)
    raw_errors, errors = (
        np.sum(np.exp(np.asarray(each)) * ranks, axis=1) - truth
        for each in (raw, smoothed)
    )
    saved = np.square(raw_errors) - np.square(errors)
    assert saved.mean() > 4 * saved.std() / np.sqrt(1000)
    assert abs(errors.mean()) < 0.01  # the bias that it costs


def test_few_weights_are_normalized_only():
    log_weights = np.float32(np.random.default_rng(0).normal(size=24))
    smoothed = smooth(log_weights)
    np.testing.assert_allclose(
        smoothed.log_weights, scipy.special.log_softmax(log_weights), rtol=1e-5
    )
    assert smoothed.pareto_k == np.inf
    assert smooth(log_weights[:1]).log_weights == 0


@pytest.mark.parametrize("value", [0.0, -1e4])
def test_equal_weights_stay_equal(value):
    smoothed = smooth(jnp.full(100, value))
    np.testing.assert_allclose(smoothed.log_weights, -math.log(100), rtol=1e-5)
    assert smoothed.pareto_k == -np.inf


@pytest.mark.parametrize("num_positive", [1, 5, 40])
def test_weights_of_zero_stay_zero(num_positive):
    log_weights = np.full(100, -np.inf, np.float32)
    log_weights[:num_positive] = np.linspace(0, -3, num_positive)
    with jax.debug_nans(True):
        smoothed = smooth(log_weights)
    weights = np.exp(smoothed.log_weights)
    assert np.all(weights[num_positive:] == 0) and np.all(weights[:num_positive] > 0)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_make_all_weights_nan(bad):
    smoothed = smooth(jnp.zeros(100).at[3].set(bad))
    assert np.all(np.isnan(smoothed.log_weights)) and smoothed.pareto_k == np.inf
    nothing = smooth(jnp.full(100, -np.inf))
    assert np.all(np.isnan(nothing.log_weights)) and nothing.pareto_k == np.inf


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_weights_in_far_tails_are_in_order_and_finite(scale):
    log_weights = np.float32(scale * np.linspace(0, -1, 400))
    with jax.debug_nans(True):
        smoothed = smooth(log_weights).log_weights
    assert np.all(np.isfinite(smoothed)) and np.all(np.diff(smoothed) <= 0)
