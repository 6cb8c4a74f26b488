"""Normal and its heads, the reparameterized draw, and the continuous Bernoulli."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.families import LOG_VARIANCE, MEAN, ZEROS, draws

import vaejax
from vaejax import Normal, kl_divergence, normal_head, reparameterize
from vaejax.distributions import (
    fixed_variance_normal_head,
    shared_variance_normal_head,
)


def test_log_prob_of_normal_matches_scipy():
    x = np.array([[0.1, -0.9, 6.0], [1.0, 0.0, -3.0]], np.float32)
    normal = scipy.stats.norm(MEAN, np.exp(LOG_VARIANCE / 2)).logpdf(x).sum()
    np.testing.assert_allclose(
        Normal(MEAN, LOG_VARIANCE).log_prob(x), normal, rtol=1e-5
    )


def test_mode_of_normal_is_its_mean():
    np.testing.assert_array_equal(Normal(MEAN, LOG_VARIANCE).mode, MEAN)


def test_density_of_normal_integrates_to_one():
    normal = Normal(np.float32([0.4, -1.0]), np.float32([-1.0, 1.0]))
    axis = np.linspace(-12, 12, 801, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(jax.jit(jax.vmap(normal.log_prob))(grid))
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1, rtol=1e-4)


def test_normal_takes_a_scalar_log_variance():
    scalar, full = (
        Normal(MEAN, np.float32(0.7)),
        Normal(MEAN, np.full(MEAN.shape, 0.7, np.float32)),
    )
    event, log_prob = scalar.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, full.sample(jax.random.key(0)))
    np.testing.assert_allclose(
        [log_prob, scalar.log_prob(event)], full.log_prob(event), rtol=1e-6
    )
    prior = Normal(0 * MEAN, np.float32(0))
    np.testing.assert_allclose(
        kl_divergence(scalar, prior), kl_divergence(full, prior), rtol=1e-6
    )


def test_normal_at_variance_1e_minus_12(debug_nans):
    # The second event rounds to its mean; its density must be that of its noise all the
    # same.
    normal = Normal(np.float32([0, 100]), np.full(2, math.log(1e-12), np.float32))
    tiny = scipy.stats.norm(0, 1e-6)
    event, log_prob = normal.sample_and_log_prob(jax.random.key(0))
    noise = np.asarray(jax.random.normal(jax.random.key(0), (2,)))
    np.testing.assert_allclose(log_prob, tiny.logpdf(1e-6 * noise).sum(), rtol=1e-5)
    np.testing.assert_allclose(
        normal.log_prob(normal.mean), 2 * tiny.logpdf(0), rtol=1e-5
    )
    gradient = jax.grad(lambda normal: normal.log_prob(event))(normal)
    assert np.all(np.isfinite(gradient.mean)) and np.all(
        np.isfinite(gradient.log_variance)
    )
    kl = 0.5 * (100**2 + 2 * (1e-12 - math.log(1e-12) - 1))
    np.testing.assert_allclose(
        kl_divergence(normal, Normal(ZEROS, ZEROS)), kl, rtol=1e-6
    )


def test_reparameterize_is_mean_plus_stddev_times_noise():
    z = reparameterize(jax.random.key(0), MEAN, LOG_VARIANCE)
    noise = np.asarray(jax.random.normal(jax.random.key(0), MEAN.shape))
    np.testing.assert_allclose(z, MEAN + np.exp(LOG_VARIANCE / 2) * noise, rtol=1e-6)
    np.testing.assert_array_equal(
        z, reparameterize(jax.random.key(0), MEAN, LOG_VARIANCE)
    )
    assert not np.any(z == reparameterize(jax.random.key(1), MEAN, LOG_VARIANCE))


def test_reparameterize_gradients():
    def total(mean, log_variance):
        return jnp.sum(reparameterize(jax.random.key(0), mean, log_variance))

    by_mean, by_log_variance = jax.grad(total, argnums=(0, 1))(MEAN, LOG_VARIANCE)
    noise = np.asarray(jax.random.normal(jax.random.key(0), MEAN.shape))
    np.testing.assert_array_equal(by_mean, np.ones(MEAN.shape))
    np.testing.assert_allclose(
        by_log_variance, noise * np.exp(LOG_VARIANCE / 2) / 2, rtol=1e-5
    )


def test_reparameterize_refuses_shapes_that_would_share_noise():
    assert reparameterize(jax.random.key(0), MEAN, np.float32(0)).shape == MEAN.shape
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        reparameterize(jax.random.key(0), MEAN, LOG_VARIANCE[0])
    with pytest.raises(ValueError, match="log_variance"):
        reparameterize(jax.random.key(0), np.float32(0), LOG_VARIANCE)


def test_normal_head_reads_mean_and_log_variance():
    normal = normal_head().apply((), np.stack([MEAN, LOG_VARIANCE], axis=-1))
    np.testing.assert_array_equal(normal.mean, MEAN)
    np.testing.assert_allclose(normal.log_variance, LOG_VARIANCE, atol=1e-5)


def test_bounded_log_variance_keeps_the_bound_finite(debug_nans):
    standard = Normal(ZEROS, ZEROS)

    def terms(log_variance):
        posterior = normal_head().apply(
            (), jnp.stack([ZEROS, jnp.full(2, log_variance)], axis=-1)
        )
        z, log_posterior = posterior.sample_and_log_prob(jax.random.key(0))
        return jnp.stack(
            [kl_divergence(posterior, standard), log_posterior - standard.log_prob(z)]
        )

    raw = np.float32([1e3, -1e3, 1e30, -1e30])
    assert np.all(np.isfinite(jax.jit(jax.vmap(terms))(raw)))
    assert np.all(np.isfinite(jax.jit(jax.vmap(jax.jacobian(terms)))(raw)))


def test_fixed_variance_is_the_squared_error():
    variance, x = 0.3, np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    log_prob = (
        fixed_variance_normal_head(variance=variance)
        .apply((), jnp.asarray(MEAN))
        .log_prob(x)
    )
    expected = np.square(x - MEAN).sum() / (2 * variance) + x.size / 2 * math.log(
        2 * math.pi * variance
    )
    np.testing.assert_allclose(-log_prob, expected, rtol=1e-6)


def test_shared_variance_learns_the_mean_squared_error():
    head, x = (
        shared_variance_normal_head(log_variance=1.0),
        np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    )
    gradient = jax.grad(lambda params: head.apply(params, MEAN).log_prob(x))
    params = head.init(jax.random.key(0))
    assert params == 1 and abs(gradient(params)) > 0.1
    # The optimal variance is the mean squared error.
    np.testing.assert_allclose(
        gradient(np.log(np.square(x - MEAN).mean())), 0, atol=1e-4
    )


@pytest.mark.parametrize("logit", [1e3, -1e3, 0.0])
def test_continuous_bernoulli_at_extreme_logits(logit):
    ours = vaejax.distributions.ContinuousBernoulli(np.full(2, logit, np.float32))
    with jax.debug_nans(True):
        value, gradient = jax.jit(
            jax.value_and_grad(lambda d: d.log_prob(np.float32([0.25, 0.75])))
        )(ours)
        x = draws(ours, 50)
    # x l - log((e^l - 1) / l): at l -> inf it is (x - 1) l + log l, at 0 it is 0.
    expected = 2 * math.log(abs(logit)) - abs(logit) if logit else 0
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # x - mean, the mean being 1 - 1 / l, 1 / |l| and 1/2.
    mean = {1e3: 0.999, -1e3: 0.001, 0.0: 0.5}[logit]
    np.testing.assert_allclose(gradient.logits, [0.25 - mean, 0.75 - mean], rtol=1e-4)
    np.testing.assert_allclose(ours.mean, mean, rtol=1e-5)
    assert np.all((x >= 0) & (x <= 1)) and abs(x.mean() - mean) < 0.2


@pytest.mark.parametrize(
    "log_odds", np.float32([1e-6, -1e-3, 0.49, 0.51, -0.499, -0.501])
)
def test_continuous_bernoulli_is_smooth_where_its_series_ends(log_odds):
    exact = np.float64(log_odds)
    value, gradient = jax.value_and_grad(
        lambda logits: vaejax.distributions.ContinuousBernoulli(logits).log_prob(
            jnp.float32(0.3)
        )
    )(log_odds)
    np.testing.assert_allclose(
        value, 0.3 * exact - np.log(np.expm1(exact) / exact), atol=1e-6
    )
    mean = 0.5 + exact / 12 - exact**3 / 720 + exact**5 / 30240
    np.testing.assert_allclose(gradient, 0.3 - mean, atol=1e-6)
