"""Parts of the KL of a data set, by its aggregate posterior, against closed forms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support import linear_gaussian
from support.cases import (
    binary,
    matrix_latent,
    mlp_vae,
    with_flow_posterior,
    with_vamp_prior,
)

import vaejax
from vaejax.estimators import aggregate_decomposition


def decompose(vae, params, xs, **options):
    return jax.jit(partial(aggregate_decomposition, vae, **options))(
        params, jax.random.key(4), xs
    )


def check(estimate, exact, bias=0.0):
    assert (
        estimate.standard_error > 0
        and abs(estimate.value - exact) < 5 * estimate.standard_error + bias
    )


def test_parts_of_a_gaussian_aggregate_are_the_closed_forms():
    params, num_examples = linear_gaussian.make_params(), 1500
    # Means that are correlated.
    params = params._replace(gain=np.float32([[2, 0], [2, 1]]) @ params.gain)
    xs = linear_gaussian.draw_examples(params, num_examples)
    parts = decompose(linear_gaussian.vae, params, xs, num_samples=2000, chunk_size=50)
    means = np.float64((xs - params.offset) @ params.gain.T)
    noise = np.exp(np.float64(params.log_variance))
    covariance, mean = np.cov(means.T) + np.diag(noise), means.mean(axis=0)
    variances = np.diagonal(covariance)
    entropy_of_product, entropy = (
        np.log(variances).sum() / 2,
        np.linalg.slogdet(covariance)[1] / 2,
    )
    exact = {
        "mutual_information": entropy - np.log(noise).sum() / 2,
        "total_correlation": entropy_of_product - entropy,
        "dimension_wise_kl": (variances + mean**2 - 1).sum() / 2 - entropy_of_product,
    }
    exact["marginal_kl"] = exact["total_correlation"] + exact["dimension_wise_kl"]
    exact["kl"] = exact["marginal_kl"] + exact["mutual_information"]
    # E[q(z|x) / q(z)] is |C| / |S| for posteriors of covariance S and a Gaussian q(z)
    # of covariance C.
    ratio = np.linalg.det(covariance) / np.prod(noise)
    bias = (ratio - 1) / (2 * num_examples)
    assert exact["total_correlation"] > 0.05 and bias < 2e-3
    for name, value in exact.items():
        check(getattr(parts, name), value, bias)
    assert parts.total_correlation.standard_error < 0.02


def three_normals(means, variance):
    """A VAE of three examples 0, 1, 2 with those posteriors; nothing is decoded."""
    means = np.float32(means)

    def encode(params, x):
        return vaejax.Normal(jnp.asarray(means)[x], jnp.full((), math.log(variance)))

    return vaejax.VAE(
        None, encode, lambda params: vaejax.Normal(jnp.zeros(2), jnp.zeros(2)), None
    )


def test_parts_of_three_posteriors_are_the_integrals_whatever_the_chunks():
    means, variance = np.array([[-1.0, -0.5], [0.0, 1.0], [1.5, 0.5]]), 0.3
    vae, xs = three_normals(means, variance), jnp.arange(3)
    axis = np.linspace(-5, 6, 400)
    by_dimension = scipy.stats.norm(means[:, :, None], math.sqrt(variance)).pdf(
        axis
    )  # [examples, 2, grid]
    q = np.einsum("na,nb->ab", by_dimension[:, 0], by_dimension[:, 1]) / 3
    first, second = by_dimension.mean(axis=0)
    cell = (axis[1] - axis[0]) ** 2
    exact = {
        "mutual_information": -np.sum(q * np.log(q)) * cell
        - 2 * (1 + math.log(2 * math.pi * variance)) / 2,
        "total_correlation": np.sum(q * np.log(q / np.outer(first, second))) * cell,
        "marginal_kl": np.sum(
            q * (np.log(q) - np.add.outer(*[scipy.stats.norm.logpdf(axis)] * 2))
        )
        * cell,
    }
    parts = decompose(vae, (), xs, num_samples=5000, chunk_size=1000)
    for name, value in exact.items():
        check(getattr(parts, name), value)
    other_chunks = decompose(vae, (), xs, num_samples=5000, chunk_size=333)
    np.testing.assert_allclose(
        jax.tree.leaves(parts), jax.tree.leaves(other_chunks), rtol=1e-3
    )


def test_mutual_information_reaches_the_logarithm_of_the_examples_and_no_more():
    parts = decompose(
        three_normals([[-9.0, 0.0], [0.0, 5.0], [9.0, 0.0]], 0.01),
        (),
        jnp.arange(3),
        num_samples=30,
    )
    np.testing.assert_allclose(parts.mutual_information.value, math.log(3), rtol=1e-4)
    # Examples are taken in turn, so that nothing varies.
    assert parts.mutual_information.standard_error < 1e-4
    one = decompose(
        three_normals(np.zeros((3, 2)), 1.0), (), jnp.arange(3), num_samples=1
    )
    np.testing.assert_allclose([part.value for part in one], 0, atol=1e-5)
    assert all(part.standard_error == np.inf for part in one)


@pytest.mark.parametrize(
    "counts", [{"num_samples": 0}, {"num_samples": 3, "chunk_size": 0}]
)
def test_decomposition_checks_its_counts(counts):
    with pytest.raises(ValueError, match="give a positive integer"):
        aggregate_decomposition(
            three_normals(np.zeros((3, 2)), 1.0),
            (),
            jax.random.key(0),
            jnp.arange(3),
            **counts,
        )


@pytest.mark.parametrize(
    ("vae", "message"),
    [
        (with_flow_posterior(mlp_vae()), "both must be Normal"),
        (with_vamp_prior(mlp_vae()), "the prior Mixture"),
        (matrix_latent(), r"a latent has shape \(2, 2\)"),
    ],
    ids=["flow posterior", "mixture prior", "matrix"],
)
def test_only_independent_dimensions_are_taken_apart(vae, message):
    xs = jnp.zeros(4) if "shape" in message else binary(jax.random.key(1), 4)
    params = vae.init(jax.random.key(0), xs[0])
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(
            partial(aggregate_decomposition, vae, num_samples=2),
            params,
            jax.random.key(1),
            xs,
        )
