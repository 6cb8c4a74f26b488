"""The von Mises-Fisher distribution against SciPy, Bessel functions and quadrature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import vaejax
from vaejax.distributions import UniformSphere, VonMisesFisher, von_mises_fisher_head

GRID = [(2, 0.1), (2, 30.0), (3, 1.0), (3, 1e4), (5, 5.0), (20, 1e-3), (60, 80.0)]


def direction(size):
    mu = np.cos(np.arange(1.0, size + 1))
    return mu / np.linalg.norm(mu)


def make(size, concentration):
    mu = jnp.asarray(direction(size), jnp.float32)
    return VonMisesFisher(mu, jnp.float32(concentration))


def ratio(size, concentration):
    """A(k), the mean of t = mu . z, by Bessel functions scaled by exp(-k)."""
    k = np.float64(np.float32(concentration))
    high, low = (scipy.special.ive(size / 2 - up, k) for up in (0, 1))
    return high / low


def integral_over_t(function, size, concentration):
    """E[function(t)] by quadrature over the angle between z and mu, in float64."""
    k = np.float64(np.float32(concentration))
    edge = min(math.pi, 40 * math.sqrt(size / max(k, 1e-9)))

    def density(angle):
        return np.exp(k * (np.cos(angle) - 1)) * np.sin(angle) ** (size - 2)

    def integral(weight):
        return scipy.integrate.quad(
            lambda angle: weight(np.cos(angle)) * density(angle),
            0, edge, limit=500, epsabs=0, epsrel=1e-11,
        )[0]  # fmt: skip

    return integral(function) / integral(np.ones_like)


@pytest.mark.sampled
@pytest.mark.parametrize(("size", "concentration"), GRID)
def test_log_prob_matches_scipy(size, concentration):
    ours = make(size, concentration)
    theirs = scipy.stats.vonmises_fisher(direction(size), np.float32(concentration))
    z = theirs.rvs(20, random_state=np.random.default_rng(0))
    log_probs = jax.vmap(ours.log_prob)(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(log_probs, theirs.logpdf(z), rtol=2e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "concentration"), GRID)
def test_mean_and_its_derivative_match_bessel_functions(size, concentration):
    ours, a = make(size, concentration), ratio(size, concentration)
    np.testing.assert_allclose(ours.mean, a * direction(size), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.mode, direction(size), rtol=1e-6)
    # d/dk KL(q || uniform) = k A'(k), with the variance of t; means of y, of size 1 in
    # single precision, cancel in it.
    uniform = UniformSphere(size)
    slope = jax.grad(
        lambda k: vaejax.kl_divergence(VonMisesFisher(ours.mean_direction, k), uniform)
    )(ours.concentration)
    variance = integral_over_t(lambda t: (t - a) ** 2, size, concentration)
    np.testing.assert_allclose(slope, concentration * variance, rtol=1e-4, atol=1.2e-7)


@pytest.mark.sampled
@pytest.mark.parametrize(("size", "concentration"), GRID)
def test_kl_equals_the_numerical_integral(size, concentration):
    q, p = make(size, concentration), make(size, 2.0)
    at = np.float64(np.float32(concentration))
    log_q = make(size, concentration).log_prob(q.mode) - at
    log_ratio = np.float64(log_q) + float(_log_area(size))
    expected = integral_over_t(lambda t: log_ratio + at * t, size, concentration)
    actual = vaejax.kl_divergence(q, UniformSphere(size))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    log_p = np.float64(p.log_prob(p.mode)) - 2
    expected += integral_over_t(
        lambda t: -float(_log_area(size)) - log_p - 2 * t, size, concentration
    )
    np.testing.assert_allclose(
        vaejax.kl_divergence(q, p), expected, rtol=1e-4, atol=2e-5
    )


def _log_area(size):
    return -UniformSphere(size).log_prob(jnp.asarray(direction(size), jnp.float32))


def test_kl_of_two_directions_is_that_of_a_sample():
    q = VonMisesFisher(jnp.array([3.0, 0.0, 4.0]), jnp.float32(4.0))
    p = VonMisesFisher(jnp.array([0.0, 1.0, -0.2]), jnp.float32(2.0))
    z, log_q = _draws(q, 20_000)
    terms = np.float64(log_q - jax.vmap(p.log_prob)(z))
    error = terms.std() / math.sqrt(len(terms))
    assert abs(terms.mean() - vaejax.kl_divergence(q, p)) < 5 * error
    np.testing.assert_allclose(log_q, jax.vmap(q.log_prob)(z), atol=1e-5)
    with pytest.raises(ValueError, match="3 coordinates and p of 4"):
        vaejax.kl_divergence(q, UniformSphere(4))


def _keys(num):
    return jax.random.split(jax.random.key(0), num)


def _draws(distribution, num):
    return jax.jit(jax.vmap(distribution.sample_and_log_prob))(_keys(num))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "concentration"), [(2, 3.0), (3, 1.0), (8, 50.0)])
def test_moments_of_draws_match_those_of_scipy(size, concentration):
    num = 20_000
    ours = np.float64(_draws(make(size, concentration), num)[0])
    theirs = scipy.stats.vonmises_fisher(direction(size), concentration)
    theirs = theirs.rvs(num, random_state=np.random.default_rng(1))
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    for ours_of, theirs_of in (
        (ours, theirs),
        (ours[:, :1] * ours, theirs[:, :1] * theirs),
    ):
        spread = (ours_of.var(axis=0) + theirs_of.var(axis=0)) / num
        difference = ours_of.mean(axis=0) - theirs_of.mean(axis=0)
        assert np.all(np.abs(difference) < 5 * np.sqrt(spread))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "concentration"), [(2, 3.0), (3, 40.0), (9, 2.0)])
def test_gradients_through_draws_are_unbiased(size, concentration):
    weights = jnp.asarray(np.sin(np.arange(1.0, size + 1)), jnp.float32)

    def linear(mu, k, key):
        return weights @ VonMisesFisher(mu, k).sample(key)

    def square(mu, k, key):
        return jnp.square(linear(mu, k, key))

    q = make(size, concentration)
    num = 20_000
    of_draws = jax.jit(jax.vmap(jax.grad(linear, (0, 1)), (None, None, 0)))
    expected = jax.grad(lambda mu, k: weights @ VonMisesFisher(mu, k).mean, (0, 1))
    leaves = q.mean_direction, q.concentration
    pairs = zip(of_draws(*leaves, _keys(num)), expected(*leaves), strict=True)
    for gradients, right in pairs:
        error = np.std(np.float64(gradients), axis=0) / math.sqrt(num)
        assert np.all(np.abs(gradients.mean(axis=0) - right) < 5 * error + 1e-6)
    # The second moment along mu, whose derivative is k-dependent in another way.
    slope = jax.jit(jax.vmap(jax.grad(square, 1), (None, None, 0)))
    slope = slope(*leaves, _keys(num))
    step = 1e-3 * concentration
    along = np.float64(weights) @ direction(size)
    across = np.float64(weights) @ np.float64(weights) - along**2

    def second_moment(k):
        t_2 = integral_over_t(np.square, size, k)
        return along**2 * t_2 + across * (1 - t_2) / (size - 1)

    right = (
        second_moment(concentration + step) - second_moment(concentration - step)
    ) / (2 * step)
    error = np.std(np.float64(slope)) / math.sqrt(num)
    assert abs(np.mean(slope) - right) < 5 * error + 1e-4 * abs(right)


@pytest.mark.slow
def test_the_derivative_of_a_draw_keeps_its_quantile(x64):
    # dy/dk = -F_k / F_y of the cumulative distribution F of y = 1 - t, for n = 3:
    # F = (1 - exp(-k y)) / (1 - exp(-2 k)).
    from vaejax.distributions._projections import _derivative

    def cumulative(y, k):
        return jnp.expm1(-k * y) / jnp.expm1(-2 * k)

    for k in (0.01, 1.0, 30.0, 1e4):
        for y in (1e-3 / (1 + k), 0.5 / (1 + k), 1 / (1 + k), 8 / (4 + k), 1.9):
            if k * y > 40:
                continue  # no draw is there
            y_, k_ = jnp.float64(y), jnp.float64(k)
            f_y, f_k = jax.grad(cumulative, (0, 1))(y_, k_)
            np.testing.assert_allclose(_derivative(y_, k_, 3), -f_k / f_y, rtol=1e-5)


def test_edges():
    mu = jnp.array([0.0, -1.0, 0.0])
    uniform = UniformSphere(3)
    none = VonMisesFisher(mu, jnp.float32(0))
    z = jnp.array([0.6, 0.0, 0.8])
    np.testing.assert_allclose(none.log_prob(z), uniform.log_prob(z), rtol=1e-6)
    assert abs(vaejax.kl_divergence(none, uniform)) < 1e-6
    for distribution in (none, uniform):
        assert distribution.log_prob(jnp.array([0.6, 0.1, 0.8])) == -jnp.inf
        assert jnp.isnan(distribution.log_prob(jnp.array([jnp.nan, 0.0, 1.0])))
        with pytest.raises(ValueError, match=r"over \(3,\)"):
            distribution.log_prob(jnp.ones(2))
    sharp = VonMisesFisher(mu, jnp.float32(1e9))
    z, log_prob = jax.jit(sharp.sample_and_log_prob)(jax.random.key(0))
    np.testing.assert_allclose(z, mu, atol=1e-3)
    assert jnp.isfinite(log_prob)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), make(3, 2.0))
    z, log_prob = half.sample_and_log_prob(jax.random.key(0))
    assert z.dtype == jnp.bfloat16 and log_prob.dtype == jnp.float32
    assert jnp.isfinite(half.log_prob(z))


def test_head_of_zeros_and_its_gradient():
    head = von_mises_fisher_head()

    def kl(outputs):
        return vaejax.kl_divergence(head.apply((), outputs), UniformSphere(4))

    value, gradient = jax.value_and_grad(kl)(jnp.zeros((4, 2)))
    assert value > 0 and np.all(np.isfinite(gradient)) and np.any(gradient != 0)


def test_a_concentration_far_below_its_bound_has_a_gradient():
    head = von_mises_fisher_head(min_concentration=2.0)

    def concentration(output):
        return head.apply((), jnp.full((4, 2), output)).concentration

    value, slope = jax.value_and_grad(concentration)(-1000.0)
    assert value == 2 and 1e-4 < slope < 2e-3
    np.testing.assert_allclose(concentration(50.0) - concentration(40.0), 20, rtol=1e-5)
