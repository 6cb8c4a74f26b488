"""Log-densities, their gradients and divergences at large and infinite arguments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from support.densities import DENSITIES, HALF, scalar_log_prob

from vaejax import Bernoulli, Categorical, Normal, distributions as vd, kl_divergence

INF = np.inf
NB = "negative_binomial"

# Family, parameters, event, log-density; where it is None that of the reference.
FAR = [
    ("bernoulli", (1e30,), 1, 0),
    ("bernoulli", (1e30,), 0, -1e30),
    ("bernoulli", (INF,), 1, 0),
    ("bernoulli", (INF,), 0, -INF),
    ("bernoulli", (-INF,), 0, 0),
    ("bernoulli", (-INF,), 1, -INF),
    ("bernoulli", (INF,), 0.5, -INF),
    ("categorical", ([INF, 0, 5],), 0, 0),
    ("categorical", ([INF, 0, 5],), 2, -INF),
    ("categorical", ([-INF, 0, 5],), 0, -INF),
    ("categorical", ([1e30, 0, 5],), 1, -1e30),
    ("continuous_bernoulli", (1e4,), 1, math.log(1e4)),
    ("continuous_bernoulli", (-1e4,), 1, math.log(1e4) - 1e4),
    ("continuous_bernoulli", (INF,), 1, INF),
    ("continuous_bernoulli", (INF,), 0.5, -INF),
    ("continuous_bernoulli", (-INF,), 0, INF),
    ("normal", (0, 0), 1e15, None),
    ("normal", (0, 90), 1e19, None),
    ("normal", (0, -200), 0, None),
    ("normal", (0, 200), 0, None),
    ("normal", (0, INF), 0, -INF),
    ("laplace", (0, 0), 1e30, -1e30),
    ("laplace", (0, -100), 0, None),
    ("laplace", (0, INF), 0, -INF),
    ("student_t", (0, 0, 0), 1e30, -math.log(math.pi) - 2 * math.log(1e30)),
    ("student_t", (0, -50, 1), 1e10, None),
    ("student_t", (0, 0, 200), 3, scipy.stats.norm.logpdf(3)),
    ("student_t", (0, 0, INF), 3, scipy.stats.norm.logpdf(3)),
    ("student_t", (0, 0, -20), 3, None),
    ("student_t", (0, -200, 0), 0, 200 - math.log(math.pi)),
    ("poisson", (-INF,), 0, 0),
    ("poisson", (-INF,), 2, -INF),
    ("poisson", (INF,), 2, -INF),
    ("poisson", (-90,), 2, -180 - math.log(2)),
    ("poisson", (14,), 1e6, None),
    ("poisson", (0,), 1e6, None),
    (NB, (-INF, 0), 0, 0),
    (NB, (-INF, 0), 2, -INF),
    (NB, (INF, 0), 2, -INF),
    (NB, (INF, 0), 0, -INF),
    (NB, (1, INF), 2, scipy.stats.poisson.logpmf(2, math.e)),
    (NB, (1, 60), 0, -math.e),
    (NB, (25, 0), 3, None),
    (NB, (15, -10), 3, None),
    (NB, (80, 0), 3, -80),
    (NB, (0, 0), 1e6, None),
    (NB, (-30, 5), 7, None),
    ("discretized_logistic", (1, -10), 0, None),
    ("discretized_logistic", (1, -10), 51 / 255, None),
    ("discretized_logistic", (0, 60), 51 / 255, -60 - math.log(4 * 255)),
    ("discretized_logistic", (0, 100), 51 / 255, -100 - math.log(4 * 255)),
    ("discretized_logistic", (1e6, 0), 51 / 255, None),
    ("discretized_logistic", (51 / 255, -100), 51 / 255, 0),
    ("discretized_normal", (5000, 0), 0, None),
    ("discretized_normal", (5000, 0), 51 / 255, None),
    ("discretized_normal", (1, -17), 0, None),
    ("discretized_normal", (1, -17), 51 / 255, None),
    (
        "discretized_normal",
        (0, 60),
        51 / 255,
        -30 - math.log(255 * math.sqrt(math.tau)),
    ),
    ("discretized_normal", (51 / 255, -200), 51 / 255, 0),
    ("discretized_normal", (1e6, 0), 1, 0),
    ("rounded_normal", (5000, 0, 1, -INF, INF, 0), 3, None),
    ("rounded_normal", (0, -8, 0.5, -INF, INF, 2000), 2003, None),
    ("rounded_normal", (0, -60, 1, -INF, INF, 7), 7, 0),
    ("rounded_normal", (0, 60, 1, -INF, INF, 0), 3, -30 - math.log(math.tau) / 2),
    ("rounded_normal", (300, 0, 1, -5, 40, 0), 40, 0),
    ("rounded_normal", (300, 0, 1, -5, 40, 0), -5, None),
    ("log_normal", (0, 0), 1e30, None),
    ("log_normal", (0, -9), 1e-30, None),
    ("ordinal", ([1e30, 0, 0],), 0, 0),
    ("ordinal", ([-1e30, 0, 0],), 0, -1e30),
    ("ordinal", ([0, -100, 0],), 1, -100 - math.log(4)),
    ("ordinal", ([0, 200, 0],), 1, -math.log(2)),
    ("ordinal", ([5, 0, 0],), 3, None),
]


@pytest.mark.sampled(every=20)
@pytest.mark.parametrize(("name", "parameters", "x", "expected"), FAR)
def test_far_log_prob(name, parameters, x, expected):
    density = DENSITIES[name]
    parameters = [np.float32(parameter) for parameter in parameters]
    x = np.int32(x) if name == "categorical" else np.float32(x)
    if expected is None:
        expected = density.log_prob(np.float64(x), *map(np.float64, parameters))
    value, gradient = jax.value_and_grad(scalar_log_prob(density))(parameters, x)
    np.testing.assert_allclose(value, expected, rtol=3e-5, atol=1e-6)
    assert not any(np.any(np.isnan(leaf)) for leaf in gradient)


@pytest.mark.sampled
@pytest.mark.parametrize("log_variance", [-1, -13, -9, 4])
def test_gradient_of_the_discretized_normal_in_the_far_tail(log_variance):
    stddev = math.exp(log_variance / 2)
    location = jax.grad(
        lambda m, x: vd.DiscretizedNormal(m, np.float32(log_variance)).log_prob(x)
    )
    for t in (15, 300, 5e3, 1e5):
        # phi(t) / Phi(-t) = t + 1 / t - 2 / t^3 + ...
        ratio = t + 1 / t - 2 / t**3
        first = location(np.float32(HALF + t * stddev), np.float32(0))
        np.testing.assert_allclose(first, -ratio / stddev, rtol=1e-4)
        last = location(np.float32(1 - HALF - t * stddev), np.float32(1))
        np.testing.assert_allclose(last, ratio / stddev, rtol=1e-4)
        # The mass of a level between is at its near edge: with w the width and
        # a = t w, d/dt log[Phi(-t) - Phi(-t - w)] = -t - 1 / t + w / (exp(a) - 1) - ...
        x = np.float32(128 / 255)
        inner = location(np.float32(x + HALF + t * stddev), x)
        width = 2 * HALF / stddev
        correction = width / math.expm1(min(t * width + width**2 / 2, 700))
        np.testing.assert_allclose(inner, (correction - t - 1 / t) / stddev, rtol=1e-3)


KL = [
    (Bernoulli, (1e6,), (2.1,), math.log1p(math.exp(-2.1))),
    (Bernoulli, (2.1,), (1e6,), scipy.special.expit(-2.1) * 1e6),
    (Bernoulli, (INF,), (2.1,), math.log1p(math.exp(-2.1))),
    (Bernoulli, (-INF,), (2.1,), 2.1 + math.log1p(math.exp(-2.1))),
    (Bernoulli, (2.1,), (INF,), INF),
    (Bernoulli, (INF,), (INF,), 0),
    (Bernoulli, (INF,), (-INF,), INF),
    (Bernoulli, (1e3,), (-1e3,), 1e3),
    (Bernoulli, (-40,), (-30,), math.exp(-30) - 11 * math.exp(-40)),
    (Bernoulli, (1e-3,), (2e-3,), 1e-6 / 8),
    (Categorical, ([1e6, 0],), ([2.1, 0],), math.log1p(math.exp(-2.1))),
    (Categorical, ([INF, 0],), ([2.1, 0],), math.log1p(math.exp(-2.1))),
    (Categorical, ([2.1, 0],), ([INF, 0],), INF),
    (Categorical, ([INF, 0],), ([INF, 0],), 0),
    (Categorical, ([0, -INF],), ([0, 0],), math.log(2)),
    (Categorical, ([1e-3, 0],), ([2e-3, 0],), 1e-6 / 8),
    (Normal, (1e20, 0), (0, 90), 0.5 * (1e40 * math.exp(-90) + 90 - 1)),
    (Normal, (0, INF), (0, 0), INF),
    (Normal, (0, 0), (0, INF), INF),
    (Normal, (0, -INF), (0, 0), INF),
    (Normal, (0, 0), (1, -INF), INF),
    (Normal, (0, 100), (0, 0), INF),
    (Normal, (0, -100), (0, 0), (100 - 1) / 2),
    (Normal, (0, 1e-4), (0, 0), 1e-8 / 4),
]


@pytest.mark.sampled(every=10)
@pytest.mark.parametrize(("make", "q", "p", "expected"), KL)
def test_far_divergences(make, q, p, expected):
    q, p = (make(*map(jnp.float32, parameters)) for parameters in (q, p))
    value, gradient = jax.value_and_grad(kl_divergence)(q, p)
    np.testing.assert_allclose(value, expected, rtol=2e-4, atol=1e-20)
    if np.isfinite(value):
        leaves = jax.tree.leaves(gradient)
        assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


def test_gradients_of_far_divergences():
    gradient = jax.grad(lambda q, p: kl_divergence(Bernoulli(q), Bernoulli(p)), (0, 1))
    for q, p in [(1e6, 2.1), (12, -3), (0, 0.5), (0, 0), (-40, -38), (3, 3.01)]:
        s, t = scipy.special.expit([q, p])
        by_q, by_p = gradient(np.float32(q), np.float32(p))
        slope = s * scipy.special.expit(-q) * (np.float32(q) - np.float32(p))
        np.testing.assert_allclose(by_q, slope, rtol=1e-4, atol=1e-24)
        np.testing.assert_allclose(by_p, t - s, rtol=1e-4, atol=1e-7)
