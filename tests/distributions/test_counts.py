"""Distributions of counts at any concentration, and where the counts are large."""

import math

import jax
import numpy as np
import pytest
import scipy.stats

import vaejax


@pytest.mark.slow
@pytest.mark.parametrize("log_concentration", [-10.0, 0.0, 2.2, 2.4, 5.0, 10.0, 14.0])
def test_negative_binomial_at_any_concentration(log_concentration):
    x, log_mean = np.float32([0, 3, 50, 1000]), np.float32([0.5, 2.0, 4.0, 7.0])
    r, m = np.exp(np.float64(log_concentration)), np.exp(np.float64(log_mean))
    expected = scipy.stats.nbinom(r, r / (r + m)).logpmf(x).sum()
    ours = vaejax.distributions.NegativeBinomial(
        log_mean, np.full(4, log_concentration, np.float32)
    )
    np.testing.assert_allclose(ours.log_prob(x), expected, rtol=2e-5)
    gradient = jax.grad(lambda d: d.log_prob(x))(ours)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("mean", [1e3, 1e5, 3e6])
def test_counts_keep_their_digits_where_they_are_large(mean):
    x = np.float32(mean + np.array([-2, 0, 1]) * math.sqrt(mean)).round()
    log_mean = np.full(3, math.log(mean), np.float32)
    exact = np.exp(np.float64(log_mean))
    poisson = scipy.stats.poisson(exact).logpmf(x).sum()
    # The logarithm of the mean has 24 bits, which at 3e6 leaves the sum two decimals.
    np.testing.assert_allclose(
        vaejax.distributions.Poisson(log_mean).log_prob(x), poisson, rtol=3e-3
    )
    for r in (0.1, 5.0, 1e3):
        expected = scipy.stats.nbinom(r, r / (r + exact)).logpmf(x).sum()
        ours = vaejax.distributions.NegativeBinomial(
            log_mean, np.full(3, math.log(r), np.float32)
        )
        np.testing.assert_allclose(ours.log_prob(x), expected, rtol=1e-4)
