"""The Normal of full covariance and its divergences against SciPy and NumPyro."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import pytest
import scipy.stats
from support.families import in_numpyro

from vaejax import Categorical, Normal, kl_divergence
from vaejax.distributions import MultivariateNormal, full_covariance_normal_head

MEAN = np.float32([0.3, -1.2, 2.0])
FACTOR = np.float32([[0.5, 0, 0], [-0.7, 1.5, 0], [0.2, 0.4, 0.8]])
NORMAL = MultivariateNormal(MEAN, FACTOR)
OTHER = MultivariateNormal(0.5 * MEAN, FACTOR[::-1, ::-1].T + np.eye(3, dtype="f4"))
DIAGONAL = Normal(-MEAN, np.float32([-0.5, 0.4, 0.1]))
STANDARD = Normal(np.zeros(3, np.float32), np.float32(0))


def of_scipy(normal):
    factor = np.float64(normal.scale_tril)
    return scipy.stats.multivariate_normal(np.float64(normal.mean), factor @ factor.T)


def full(normal):
    """A `Normal` as one of full covariance."""
    log_variance = np.broadcast_to(normal.log_variance, normal.mean.shape)
    return MultivariateNormal(normal.mean, np.diag(np.exp(log_variance / 2)))


def test_log_prob_matches_scipy_and_draws_have_theirs():
    def keys():
        return jax.random.split(jax.random.key(0), 20)

    z, log_prob = jax.vmap(NORMAL.sample_and_log_prob)(keys())
    np.testing.assert_allclose(log_prob, of_scipy(NORMAL).logpdf(z), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(NORMAL.log_prob)(z), log_prob, rtol=1e-4)
    np.testing.assert_array_equal(jax.vmap(NORMAL.sample)(keys()), z)
    np.testing.assert_allclose(
        NORMAL.log_prob(NORMAL.mode), max(NORMAL.log_prob(NORMAL.mean), log_prob.max())
    )


def test_entries_above_the_diagonal_are_not_read():
    filled = MultivariateNormal(MEAN, FACTOR + np.triu(np.full((3, 3), 7, "f4"), 1))
    z = jnp.ones(3)
    draws = [normal.sample(jax.random.key(0)) for normal in (filled, NORMAL)]
    np.testing.assert_array_equal(*draws)
    assert filled.log_prob(z) == NORMAL.log_prob(z)
    np.testing.assert_allclose(filled.covariance, of_scipy(NORMAL).cov, rtol=1e-6)
    assert kl_divergence(filled, OTHER) == kl_divergence(NORMAL, OTHER)
    assert kl_divergence(OTHER, filled) == kl_divergence(OTHER, NORMAL)


def test_moments_of_draws_within_five_standard_errors():
    num = 100_000
    z = np.float64(
        jax.jit(jax.vmap(NORMAL.sample))(jax.random.split(jax.random.key(1), num))
    )
    centered = z - MEAN
    products = centered[:, :, None] * centered[:, None]
    for values, expected in ((centered, 0), (products, of_scipy(NORMAL).cov)):
        error = values.std(axis=0) / np.sqrt(num)
        assert np.all(np.abs(values.mean(axis=0) - expected) < 5 * error)


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (NORMAL, OTHER),
        (NORMAL, DIAGONAL),
        (DIAGONAL, NORMAL),
        (NORMAL, STANDARD),
        (STANDARD, NORMAL),
    ],
)
def test_divergences_match_numpyro(q, p):
    def theirs(normal):
        normal = normal if isinstance(normal, MultivariateNormal) else full(normal)
        return numpyro.MultivariateNormal(normal.mean, scale_tril=normal.scale_tril)

    expected = in_numpyro(lambda: numpyro.kl_divergence(theirs(q), theirs(p)))
    np.testing.assert_allclose(kl_divergence(q, p), expected, rtol=1e-5)


def test_divergences_of_diagonal_factors_are_those_of_normals():
    q, p = Normal(MEAN, np.float32([-3.0, 0.2, 1.0])), DIAGONAL
    expected = kl_divergence(q, p)
    for first, second in ((full(q), p), (q, full(p)), (full(q), full(p))):
        np.testing.assert_allclose(kl_divergence(first, second), expected, rtol=1e-5)


def test_small_divergences_keep_their_digits():
    # sum_i d_i^2 / 4 for small log-ratios d of variances, and 1/2 e^2 for a small L_ij.
    factor = np.diag(np.exp(np.float32([5e-4, 5e-4]))) + np.float32([[0, 0], [1e-3, 0]])
    nearly = MultivariateNormal(np.zeros(2, "f4"), np.float32(factor))
    standard = Normal(np.zeros(2, np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(kl_divergence(nearly, standard), 1e-6, rtol=0.01)
    assert kl_divergence(NORMAL, NORMAL) < 1e-12


def test_pairs_and_shapes_without_a_divergence_are_refused():
    with pytest.raises(TypeError, match="no closed form"):
        kl_divergence(NORMAL, Categorical(jnp.zeros(3)))
    with pytest.raises(ValueError, match="same event"):
        kl_divergence(NORMAL, Normal(jnp.zeros(2), jnp.zeros(2)))
    with pytest.raises(ValueError, match="the event has shape"):
        NORMAL.log_prob(jnp.zeros(2))


def test_events_outside_of_the_support_and_in_half_precision():
    assert NORMAL.log_prob(np.float32([0, np.inf, 0])) == -jnp.inf
    assert np.isnan(NORMAL.log_prob(np.float32([0, np.nan, np.inf])))
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), NORMAL)
    z, log_prob = half.sample_and_log_prob(jax.random.key(0))
    assert z.dtype == jnp.bfloat16 and log_prob.dtype == jnp.float32
    assert half.log_prob(z).dtype == kl_divergence(half, half).dtype == jnp.float32


@pytest.mark.parametrize("size", [1, 3])
def test_the_head_starts_near_a_diagonal_covariance(size):
    head = full_covariance_normal_head(size)
    random = np.random.default_rng(0).normal(size=(size, head.num_parameters))
    outputs = jnp.asarray(random, jnp.float32)
    normal = head.apply((), outputs)
    np.testing.assert_array_equal(normal.mean, outputs[:, 0])
    for i in range(size):
        np.testing.assert_allclose(
            normal.scale_tril[i, i], np.exp(outputs[i, 1] / 2), rtol=1e-6
        )
        for j in range(size):
            if j < i:
                np.testing.assert_allclose(
                    normal.scale_tril[i, j], 0.1 * outputs[i, 2 + j], rtol=1e-6
                )
            if j > i:
                assert normal.scale_tril[i, j] == 0
    with pytest.raises(ValueError, match="latent_size"):
        head.apply((), jnp.zeros((size + 1, head.num_parameters)))


@pytest.mark.sampled
@pytest.mark.parametrize("far", [-1000.0, 1000.0])
def test_a_log_variance_far_outside_its_bounds_has_a_gradient(far):
    head = full_covariance_normal_head(2)
    outputs = jnp.zeros((2, head.num_parameters)).at[:, 1].set(far)

    def log_variance(outputs):
        return 2 * jnp.log(jnp.diag(head.apply((), outputs).scale_tril))

    slopes = jax.jacfwd(log_variance)(outputs)[:, :, 1]
    assert np.all(np.abs(log_variance(outputs)) <= 20)
    assert np.all((np.diag(slopes) > 1e-4) & (np.diag(slopes) < 2e-3))
