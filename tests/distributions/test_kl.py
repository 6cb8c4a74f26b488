"""Closed-form divergences against NumPyro, SciPy and their definition."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import pytest
import scipy.special
import scipy.stats
from support.families import LOG_VARIANCE, LOGITS, MEAN, PAIRS, ZEROS, in_numpyro

from vaejax import Bernoulli, Categorical, Normal, kl_divergence


def test_kl_of_normals_matches_numpyro():
    (q, p), convert = PAIRS["normal"]
    theirs = in_numpyro(lambda: numpyro.kl_divergence(convert(q), convert(p)).sum())
    np.testing.assert_allclose(kl_divergence(q, p), theirs, rtol=1e-5)


def test_kl_of_discrete_distributions_matches_scipy():
    classes = scipy.special.rel_entr(
        scipy.special.softmax(LOGITS, -1), scipy.special.softmax(-0.5 * LOGITS, -1)
    )
    np.testing.assert_allclose(
        kl_divergence(*PAIRS["categorical"][0]), classes.sum(), rtol=1e-5
    )
    q, p = scipy.special.expit(LOGITS), scipy.special.expit(-0.5 * LOGITS)
    binary = scipy.special.rel_entr(q, p) + scipy.special.rel_entr(1 - q, 1 - p)
    np.testing.assert_allclose(
        kl_divergence(*PAIRS["bernoulli"][0]), binary.sum(), rtol=1e-5
    )


def test_kl_is_the_mean_log_ratio_within_five_standard_errors(pair):
    q, p = pair

    def log_ratio(key):
        sample, log_q = q.sample_and_log_prob(key)
        return log_q - p.log_prob(sample)

    log_ratios = np.asarray(
        jax.jit(jax.vmap(log_ratio))(jax.random.split(jax.random.key(0), 20_000))
    )
    assert abs(
        log_ratios.mean() - kl_divergence(q, p)
    ) < 5 * log_ratios.std() / math.sqrt(len(log_ratios))


def test_kl_of_equals_is_zero(pair):
    q, p = pair
    assert kl_divergence(q, q) == 0
    assert kl_divergence(q, p) > 0


def test_kl_from_the_standard_normal():
    expected = 0.5 * np.sum(MEAN**2 + np.exp(LOG_VARIANCE) - LOG_VARIANCE - 1)
    standard = Normal(0 * MEAN, 0 * MEAN)
    np.testing.assert_allclose(
        kl_divergence(Normal(MEAN, LOG_VARIANCE), standard), expected, rtol=1e-6
    )


def test_kl_of_nearly_equal_normals_keeps_its_digits():
    # d^2 / 4 for a small log-ratio d, where v - 1 - log v is all rounding in single
    # precision.
    nearly = Normal(ZEROS, np.full(2, 1e-3, np.float32))
    np.testing.assert_allclose(
        kl_divergence(nearly, Normal(ZEROS, ZEROS)), 2 * 1e-6 / 4, rtol=0.01
    )


def test_kl_of_categoricals_where_classes_are_ruled_out():
    q, p = (
        Categorical(jnp.array([[0.0, 0.0, -jnp.inf]])),
        Categorical(jnp.array([[0.0, 1.0, -jnp.inf]])),
    )
    expected = scipy.stats.entropy([0.5, 0.5], scipy.special.softmax([0, 1]))
    np.testing.assert_allclose(kl_divergence(q, p), expected, rtol=1e-6)
    assert np.all(
        np.isfinite(
            jax.grad(lambda logits: kl_divergence(Categorical(logits), p))(q.logits)
        )
    )
    assert kl_divergence(Categorical(jnp.zeros((1, 3))), p) == np.inf


def test_kl_errors_tell_the_way_out():
    with pytest.raises(TypeError, match=r"Normal \|\| Bernoulli.*kl_monte_carlo"):
        kl_divergence(Normal(MEAN, LOG_VARIANCE), Bernoulli(LOGITS))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        kl_divergence(Normal(MEAN, LOG_VARIANCE), Normal(MEAN[0], LOG_VARIANCE[0]))
