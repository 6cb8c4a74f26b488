"""Parts of the KL of a data set, by its aggregate posterior, against closed forms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from support import linear_gaussian
from support.cases import binary, mlp_vae
from support.prototypes import matrix_latent, with_flow_posterior

import vaejax
from vaejax.estimators import (
    _shrunken_kernels as shrunken_kernels,
    aggregate_decomposition,
)
from vaejax.priors import with_vamp_prior


def decompose(vae, params, xs, **options):
    return jax.jit(partial(aggregate_decomposition, vae, **options))(
        params, jax.random.key(4), xs
    )


def check(estimate, exact, bias=0.0):
    assert (
        estimate.standard_error > 0
        and abs(estimate.value - exact) < 5 * estimate.standard_error + bias
    )


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    np.testing.assert_allclose([part.value for part in one[:5]], 0, atol=1e-5)
    every = (*one[:5], *one.lower, *one.upper)
    assert all(part.standard_error == np.inf for part in every)


def of_means(latent_size):
    """A VAE whose examples are posterior means and whose parameters a log-variance."""
    zeros = jnp.zeros(latent_size)
    return vaejax.VAE(
        None,
        lambda log_variance, x: vaejax.Normal(x, log_variance),
        lambda log_variance: vaejax.Normal(zeros, zeros),
        None,
    )


def autoregressive(num, correlation):
    axis = np.arange(num)
    return correlation ** np.abs(np.subtract.outer(axis, axis))


# 20 latents: the covariance of q(z) and the variances of the posteriors.
SMALL = np.eye(20)
SMALL[:3, :3] = autoregressive(3, 0.5)
GAUSSIANS = {
    "independent": (np.eye(20), np.full(20, 0.07)),
    "correlated": (autoregressive(20, 0.8), np.full(20, 0.05)),
    "little information": (SMALL, np.repeat([0.3, 1.0], [3, 17])),
}
decompose_20 = jax.jit(partial(aggregate_decomposition, of_means(20), num_samples=1000))


@pytest.mark.slow
@pytest.mark.parametrize("num", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", GAUSSIANS)
def test_bounds_enclose_the_parts_of_a_gaussian_whether_saturated_or_not(name, num):
    covariance, variances = GAUSSIANS[name]
    xs = np.random.default_rng(1).multivariate_normal(
        np.zeros(20), covariance - np.diag(variances), size=num
    )
    parts = decompose_20(
        np.float32(np.log(variances)), jax.random.key(3), np.float32(xs)
    )
    entropy = np.linalg.slogdet(covariance)[1] / 2
    total_correlation = -entropy  # the diagonal is one
    exact = {
        "mutual_information": entropy - np.log(variances).sum() / 2,
        "total_correlation": total_correlation,
        "dimension_wise_kl": 0.0,
        "marginal_kl": total_correlation,
    }
    ends = {n: (getattr(parts.lower, n), getattr(parts.upper, n)) for n in exact}
    for part, value in exact.items():
        below, above = ends[part]
        assert below.value - 5 * below.standard_error < value
        assert value < above.value + 5 * above.standard_error
    # What a Gaussian fitted to 4 of 5 folds costs, and what the dimensions leave open.
    cost = 20 * 23 / (4 * 0.8 * num)
    cost += ends["dimension_wise_kl"][1].value - ends["dimension_wise_kl"][0].value
    for estimate in (ends["total_correlation"][0], ends["marginal_kl"][0]):
        check(estimate, total_correlation, cost)
        assert estimate.standard_error < 0.2 and cost < 0.4
    if name == "little information":
        assert not parts.is_saturated
        for part, value in exact.items():
            check(getattr(parts, part), value, 0.1)
        assert 0.2 < total_correlation < 0.3
    else:
        assert parts.is_saturated
        assert exact["mutual_information"] > math.log(num) + 9
        # The capped estimate is KL - log N, wherever the truth is.
        kl_less_cap = parts.kl.value - math.log(num)
        assert abs(parts.total_correlation.value - kl_less_cap) < 0.5
        assert parts.total_correlation.value > total_correlation + 9


def ring(random, num):
    """Points near the unit circle, two thirds of them on its right half."""
    angle = np.pi * (random.random(num) - 0.5 + (random.random(num) < 1 / 3))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def parts_by_quadrature(variance):
    """The parts for posteriors around the points of `ring`, from integrals."""
    angle = np.pi * ((np.arange(400) + 0.5) / 400 - 0.5)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axis = np.linspace(-4, 4, 300)

    def density(points):
        first, second = (
            scipy.stats.norm(points[:, j, None], math.sqrt(variance)).pdf(axis)
            for j in range(2)
        )
        return first.T @ second / len(points)

    q = 2 / 3 * density(points) + 1 / 3 * density(-points)
    width = axis[1] - axis[0]
    product = np.outer(q.sum(axis=1), q.sum(axis=0)) * width**2
    prior = np.outer(*[scipy.stats.norm.pdf(axis)] * 2)

    def mean(values):
        return float(np.sum(q * values) * width**2)

    return {
        "mutual_information": -mean(np.log(q)) - 1 - math.log(2 * math.pi * variance),
        "total_correlation": mean(np.log(q / product)),
        "dimension_wise_kl": mean(np.log(product / prior)),
        "marginal_kl": mean(np.log(q / prior)),
    }


@pytest.mark.slow
def test_bounds_hold_in_expectation_over_data_sets_and_their_errors_are_the_spread():
    variance, num_sets = 0.03, 300
    exact = parts_by_quadrature(variance)
    assert exact["total_correlation"] > 0.2
    xs = np.float32(ring(np.random.default_rng(0), num_sets * 60)).reshape(-1, 60, 2)
    keys = jax.random.split(jax.random.key(1), num_sets)
    # Four samples of each example, which share its place.
    decomposed = partial(
        aggregate_decomposition, of_means(2), num_samples=240, chunk_size=240
    )
    parts = jax.jit(jax.vmap(decomposed, in_axes=(None, 0, 0)))(
        jnp.full(2, math.log(variance)), keys, xs
    )
    for name, value in exact.items():
        for estimate, sign in (
            (getattr(parts.lower, name), 1),
            (getattr(parts.upper, name), -1),
        ):
            values = np.float64(estimate.value)
            error = values.std(ddof=1) / math.sqrt(num_sets)
            assert sign * values.mean() < sign * value + 5 * error, name
            # Four samples of one example count as one, so that errors are not small.
            ratio = values.std(ddof=1) / estimate.standard_error.mean()
            assert 0.4 < ratio < 1.15, name
    # 60 examples leave more than 0.1 nats open.
    assert parts.is_saturated.mean() > 0.9


def test_densities_of_kernels_integrate_to_one_and_do_not_know_their_example():
    random = np.random.default_rng(0)
    means = np.float32(random.normal(size=(7, 2)) @ [[1.0, 0.8], [0.0, 0.5]])
    log_variances = np.float32(random.normal(-2, 0.5, size=(7, 2)))
    axis = np.linspace(-8, 8, 161, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

    @jax.jit
    def log_densities(means):
        kernels = shrunken_kernels.fit_shrunken_kernels(
            vaejax.Normal(means, log_variances)
        )
        return jax.vmap(
            lambda z: shrunken_kernels.log_shrunken_kernels(kernels, z, jnp.int32(3))
        )(grid)

    found = np.float64(log_densities(means))
    np.testing.assert_allclose(np.exp(found).sum(axis=0) * 0.1**2, 1, rtol=1e-4)
    # A shrinkage of 0 is the Gaussian of the other folds; 3 is alone in its own.
    others = np.arange(7) != 3
    exact = scipy.stats.multivariate_normal(
        means[others].mean(axis=0),
        np.cov(means[others].T, ddof=0)
        + np.diag(np.exp(log_variances[others]).mean(axis=0)),
    ).logpdf(grid)
    np.testing.assert_allclose(found[:, 0], exact, rtol=1e-4, atol=1e-4)
    means[3] = 50
    np.testing.assert_allclose(log_densities(means), found, rtol=1e-5)
    means[2] = 50
    assert np.all(np.max(np.abs(log_densities(means) - found), axis=0) > 1)


def test_a_mixture_is_at_least_its_best_density_and_keeps_what_is_not_finite():
    random = np.random.default_rng(0)
    log_densities = np.float32(random.normal(size=(500, 3)) * [2, 2, 1] - [2, 2, 9])
    # One outlier, which only the second density knows.
    log_densities[0] = [-np.inf, -5, -np.inf]
    found = np.asarray(shrunken_kernels.stacked(log_densities))
    assert found.mean() > log_densities[:, 1].mean() + 0.1
    shared = log_densities + np.log([0.5, 0.3, 0.2])
    assert found.mean() > scipy.special.logsumexp(shared, axis=1).mean()
    log_densities[0] = -np.inf
    found = shrunken_kernels.stacked(log_densities)
    assert found[0] == -np.inf and np.isfinite(found[1:]).all()
    log_densities[0, 1] = np.nan
    assert np.isnan(shrunken_kernels.stacked(log_densities)[0])


@pytest.mark.sampled
@pytest.mark.parametrize("xs", [[0.0], [0.0, np.nan], [1e30, -1e30]])
def test_what_is_unknown_or_not_finite_never_counts_as_fine(xs):
    xs = np.float32(xs)[:, None]
    parts = decompose(of_means(1), jnp.zeros(1), xs, num_samples=6)
    assert parts.is_saturated
    ends = (parts.lower.marginal_kl, parts.upper.mutual_information)
    for end in ends:
        assert not np.isfinite(end.value) and end.standard_error == np.inf


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
        (with_vamp_prior(mlp_vae(), 4), "the prior of type Mixture"),
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
