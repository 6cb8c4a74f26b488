"""Values and derivatives of every log-density, against differences of SciPy's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.densities import DENSITIES, events_of, scalar_log_prob

from vaejax import distributions


def test_every_distribution_is_in_the_table():
    public = {getattr(distributions, name) for name in distributions.__all__}
    scored = {item for item in public if hasattr(item, "log_prob")}
    in_table = {density.make for density in DENSITIES.values()}
    # Made of the others, or on other sets than the line: test_autoregressive.py,
    # test_spherical.py, and so on.
    assert scored - in_table == {
        distributions.Autoregressive,
        distributions.Affine,
        distributions.Flow,
        distributions.Joint,
        distributions.Masked,
        distributions.Mixed,
        distributions.Mixture,
        distributions.MultivariateNormal,
        distributions.CodeVectors,
        distributions.ExpRelaxedCategorical,
        distributions.OneHotCategorical,
        distributions.RelaxedCategorical,
        distributions.UniformSphere,
        distributions.VonMisesFisher,
    }


def _as_vector(density):
    """Return `(theta [n], x) -> log p(x)`, the reference, and theta `[points, n]`.

    The entries of theta are the parameters of a point, one after the other.
    """
    shapes = [parameter.shape[1:] for parameter in density.parameters]
    sizes = [math.prod(shape) for shape in shapes]

    def split(theta):
        parts = jnp.split if isinstance(theta, jax.Array) else np.split
        leaves = parts(theta, np.cumsum(sizes)[:-1], axis=-1)
        return [
            leaf.reshape(leaf.shape[:-1] + shape)
            for leaf, shape in zip(leaves, shapes, strict=True)
        ]

    points = len(density.events)
    theta = np.concatenate([p.reshape(points, -1) for p in density.parameters], axis=1)
    ours = scalar_log_prob(density)
    return (
        lambda theta, x: ours(split(theta), x),
        lambda theta: density.log_prob(np.float64(density.events), *split(theta)),
        theta,
    )


def _differences(function, theta, step):
    """Central first differences `[points, n]` and second ones `[points, n, n]`."""
    steps = step * np.eye(theta.shape[1])
    first = [
        (function(theta + one) - function(theta - one)) / (2 * step) for one in steps
    ]
    second = [
        [
            function(theta + one + two)
            - function(theta + one - two)
            - function(theta - one + two)
            + function(theta - one - two)
            for two in steps
        ]
        for one in steps
    ]
    return np.stack(first, -1), np.moveaxis(second, -1, 0) / (4 * step**2)


@pytest.mark.sampled(every=6)
@pytest.mark.parametrize("name", DENSITIES)
def test_values_and_derivatives(name):
    density = DENSITIES[name]
    ours, reference, theta = _as_vector(density)

    @jax.jit
    @jax.vmap
    def compute(theta, x):
        value, gradient = jax.value_and_grad(ours)(theta, x)
        return value, gradient, jax.hessian(ours)(theta, x)

    value, gradient, hessian = map(np.asarray, compute(theta, events_of(density)))
    theta = np.float64(theta)
    np.testing.assert_allclose(value, reference(theta), rtol=1e-5, atol=2e-6)
    # The symmetric difference, at a kink too.
    first, _ = _differences(reference, theta, 1e-5)
    np.testing.assert_allclose(gradient, first, rtol=1e-4, atol=1e-5)
    _, second = _differences(reference, theta, 1e-4)
    smooth = ~density.kinks(density.events, *density.parameters)
    np.testing.assert_allclose(hessian[smooth], second[smooth], rtol=2e-3, atol=1e-4)
    assert np.all(np.isfinite(hessian))


@pytest.mark.sampled(every=6)
@pytest.mark.parametrize("name", DENSITIES)
def test_outside_of_the_support_and_at_nan(name):
    density = DENSITIES[name]
    parameters = [parameter[:1] for parameter in density.parameters]
    scored = jax.jit(
        jax.vmap(jax.value_and_grad(scalar_log_prob(density)), in_axes=(None, 0))
    )
    parameters = [parameter[0] for parameter in parameters]
    if density.outside:
        outside = events_of(density._replace(events=np.float32(density.outside)))
        value, gradient = scored(parameters, outside)
        np.testing.assert_array_equal(value, -np.inf)
        assert all(np.all(np.isfinite(leaf)) for leaf in gradient)
    if density.make is not distributions.Categorical:
        nan, infinite = np.float32([np.nan]), np.float32([np.inf, -np.inf])
        assert np.all(np.isnan(scored(parameters, nan)[0]))
        value, gradient = scored(parameters, infinite)
        np.testing.assert_array_equal(value, -np.inf)
        assert not any(np.any(np.isnan(leaf)) for leaf in gradient)
    assert density.make.support.contains(np.float32(density.outside)).sum() == (
        2 if density.make is distributions.Categorical else 0
    )
