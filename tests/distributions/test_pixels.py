"""Distributions of 8-bit pixels where their digits are hard to keep."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import vaejax


@pytest.mark.parametrize("log_variance", [-6.0, 0.0, 5.0, 10.0, 20.0])
def test_discretized_normal_keeps_its_digits_at_any_variance(log_variance):
    stddev = math.exp(log_variance / 2)
    x = np.float32([1, 100, 254]) / 255
    frozen = scipy.stats.norm(0.3, stddev)
    edges = np.float64([1, 100, 254])
    upper, lower = (edges + 0.5) / 255, (edges - 0.5) / 255
    # On the side of the tail, where SciPy keeps its digits.
    expected = np.log(
        np.where(
            lower > 0.3,
            frozen.sf(lower) - frozen.sf(upper),
            frozen.cdf(upper) - frozen.cdf(lower),
        )
    )
    ours = vaejax.distributions.DiscretizedNormal(
        np.full(3, 0.3, np.float32), np.full(3, log_variance, np.float32)
    )
    np.testing.assert_allclose(ours.log_prob(x), expected.sum(), rtol=2e-5)


def test_discretized_logistic_far_from_its_location():
    # Where the two sigmoids round to the same number: log[s(b) - s(a)] for b =
    # -87.0..., a = b - 1.
    ours = vaejax.distributions.DiscretizedLogistic(
        jnp.ones(1), jnp.log(jnp.full(1, 1 / 255))
    )
    exact = [
        float(scipy.special.logsumexp([(k + 0.5) - 255, (k - 0.5) - 255], b=[1, -1]))
        for k in (1, 100, 168)
    ]
    found = [ours.log_prob(jnp.full(1, k / 255)) for k in (1, 100, 168)]
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_bits_per_dimension():
    uniform = vaejax.distributions.DiscretizedLogistic(
        jnp.full(10, 0.5), jnp.full(10, 12.0)
    )
    inner = -uniform.log_prob(jnp.full(10, 128 / 255)) / 10
    assert vaejax.distributions.bits_per_dimension(
        10 * math.log(256), 10
    ) == pytest.approx(8)
    # A logistic of huge scale spreads its mass evenly over what is not in the tails.
    assert vaejax.distributions.bits_per_dimension(float(inner), 1) > 8
    with pytest.raises(ValueError, match="num_dimensions"):
        vaejax.distributions.bits_per_dimension(1.0, 0)
    with pytest.raises(ValueError, match="level_width"):
        vaejax.distributions.bits_per_dimension(1.0, 1, level_width=0)


def test_bits_of_a_density_of_dequantized_levels_are_those_of_the_levels():
    """A density that is even within each level is worth exactly the level's bits."""
    masses = np.random.default_rng(0).dirichlet(np.ones(256))
    entropy = -np.sum(masses * np.log2(masses))
    for width in (1 / 256, 1 / 255):
        nats = -np.sum(masses * np.log(masses / width))
        found = vaejax.distributions.bits_per_dimension(nats, 1, level_width=width)
        assert found == pytest.approx(entropy, rel=1e-12)
    assert vaejax.distributions.bits_per_dimension(0.0, 7, level_width=1 / 256) == 8
