"""InfoVAE: kernels and the discrepancy against NumPy and closed forms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cases import binary, mlp_vae

from vaejax import Normal
from vaejax.objectives import (
    gaussian_kernel,
    info_vae_loss,
    inverse_multiquadratic_kernel,
    maximum_mean_discrepancy,
)

VAE = mlp_vae()
XS = binary(jax.random.key(1), 6)
PARAMS = jax.jit(VAE.init)(jax.random.key(0), XS[0])


def test_kernels_are_their_equations():
    z, other = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 4.0, 3.0])
    np.testing.assert_allclose(gaussian_kernel(z, other), math.exp(-5 / 6), rtol=1e-6)
    np.testing.assert_allclose(
        gaussian_kernel(z, other, variance=4.5), math.exp(-5 / 9), rtol=1e-6
    )
    np.testing.assert_allclose(
        inverse_multiquadratic_kernel(z, other), 6 / 11, rtol=1e-6
    )
    np.testing.assert_allclose(
        inverse_multiquadratic_kernel(z, other, scale=1.0), 1 / 6, rtol=1e-6
    )


@pytest.mark.parametrize("kernel", [gaussian_kernel, inverse_multiquadratic_kernel])
def test_discrepancy_is_the_double_sum_without_equal_pairs(kernel):
    random = np.random.default_rng(0)
    zs, others = (
        np.float32(random.normal(size=(4, 2))),
        np.float32(random.normal(size=(3, 2))),
    )
    within = [
        np.mean([kernel(a, b) for a in xs for b in xs if a is not b])
        for xs in (list(zs), list(others))
    ]
    across = np.mean([kernel(a, b) for a in zs for b in others])
    value = jax.jit(partial(maximum_mean_discrepancy, kernel))(zs, others)
    np.testing.assert_allclose(value, sum(within) - 2 * across, rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_discrepancy_of_normals_within_five_standard_errors(shift):
    def discrepancy(key):
        one, other = jax.random.normal(key, (2, 20, 3))
        return maximum_mean_discrepancy(gaussian_kernel, one + shift, other)

    values = np.asarray(
        jax.jit(jax.vmap(discrepancy))(jax.random.split(jax.random.key(1), 2000))
    )
    # E k = (v / (v + 2))^(D / 2) exp(-|difference of the means|^2 / (2 (v + 2))), here
    # with v = D = 3.
    exact = 2 * (3 / 5) ** 1.5 * (1 - math.exp(-3 * shift**2 / 10))
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert error < 2e-3 and abs(values.mean() - exact) < 5 * error


def test_info_vae_weighs_the_kl_and_the_discrepancy_from_draws_of_the_prior():
    def one_for_all(z, other):
        del other
        return jnp.square(z[0])

    loss_fn = jax.jit(info_vae_loss(VAE, kernel=one_for_all))
    loss, terms = loss_fn(
        PARAMS, jax.random.key(2), XS, alpha=0.25, lambda_marginal=3.0
    )
    expected = (
        0.75 * terms.kl + 2.25 * terms.maximum_mean_discrepancy - terms.log_likelihood
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    # With this kernel the discrepancy is E y^2 - E z^2 of the first dimension: the
    # prior's variance is 1.
    vae = VAE._replace(
        encode=lambda params, x: Normal(jnp.zeros(3), jnp.full(3, -30.0))
    )
    xs = jnp.zeros((2000, 3, 4))
    _, terms = jax.jit(info_vae_loss(vae, kernel=one_for_all))(
        PARAMS, jax.random.key(2), xs
    )
    assert abs(terms.maximum_mean_discrepancy - 1) < 5 * math.sqrt(2 / 2000)


def test_a_discrepancy_needs_two_samples():
    with pytest.raises(ValueError, match="there are 1 and 1 samples"):
        jax.eval_shape(info_vae_loss(VAE), PARAMS, jax.random.key(2), XS[:1])
