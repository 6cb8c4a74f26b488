"""The product of Normals against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax import Normal
from vaejax.models.levels import product_with_prior
from vaejax.posteriors import product_of_normals

MEANS = np.float32([[0.3, -1.0], [2.0, 0.5], [-0.4, 4.0]])
LOG_VARIANCES = np.float32([[0.0, -1.0], [1.5, 0.2], [-2.0, 3.0]])
EXPERTS = Normal(MEANS, LOG_VARIANCES)


def log_product(z, taken):
    return sum(Normal(*expert).log_prob(z) for expert in taken)


@pytest.mark.parametrize("mask", [None, [True, False, True], [False, True, False]])
def test_the_density_is_proportional_to_the_product(mask):
    product = product_of_normals(EXPERTS, None if mask is None else jnp.array(mask))
    taken = [
        expert
        for expert, is_taken in zip(
            zip(MEANS, LOG_VARIANCES, strict=True), mask or [True] * 3, strict=True
        )
        if is_taken
    ]
    points = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    ratios = [product.log_prob(z) - log_product(z, taken) for z in points]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)


@pytest.mark.parametrize("shift", [0, -30, 30])
def test_the_merge_of_a_ladder_is_the_product_of_two(shift):
    """Also with variances far apart."""
    bottom_up, prior = [
        Normal(*expert) for expert in zip(MEANS, LOG_VARIANCES, strict=True)
    ][:2]
    prior = Normal(prior.mean, prior.log_variance + shift)

    def merged(bottom_up):
        return product_with_prior(bottom_up, None, prior)

    def product(bottom_up):
        pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), bottom_up, prior)
        return product_of_normals(pair)

    found, expected = (
        (function(bottom_up), jax.jacobian(function)(bottom_up))
        for function in (merged, product)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        found,
        expected,
    )


def test_an_expert_left_out_may_be_nan_and_has_no_gradient():
    experts = Normal(jnp.array([[1.0], [jnp.nan]]), jnp.array([[0.5], [jnp.nan]]))

    def loss(experts):
        product = product_of_normals(experts, jnp.array([True, False]))
        return jnp.sum(product.mean + product.log_variance), product

    gradient, product = jax.grad(loss, has_aux=True)(experts)
    assert product.mean[0] == 1 and product.log_variance[0] == 0.5
    np.testing.assert_array_equal(gradient.mean[:, 0], [1, 0])
    np.testing.assert_array_equal(gradient.log_variance[:, 0], [1, 0])


def test_a_certain_expert_and_a_vague_one_do_not_overflow():
    experts = Normal(jnp.array([[1.0], [5.0]]), jnp.array([[-300.0], [300.0]]))
    product = product_of_normals(experts)
    assert product.mean[0] == 1 and product.log_variance[0] == -300


def test_half_precision_stays_half_precision():
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), EXPERTS)
    product = product_of_normals(half)
    assert product.mean.dtype == product.log_variance.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.float32(product.mean), product_of_normals(EXPERTS).mean, rtol=0.02
    )


def test_wrong_shapes_and_types_are_refused():
    with pytest.raises(TypeError, match="leading axis"):
        product_of_normals([EXPERTS])
    with pytest.raises(ValueError, match="mask has shape"):
        product_of_normals(EXPERTS, jnp.ones(2, bool))
    with pytest.raises(ValueError, match="log_variance"):
        product_of_normals(Normal(MEANS, jnp.zeros(())))
