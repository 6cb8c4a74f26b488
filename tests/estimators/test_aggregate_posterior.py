"""The parts of the KL by the aggregate posterior: the weights of a batch, the loss, and
the numbers of a data set.
"""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from support import linear_gaussian
from support.cases import binary, mlp_vae, real, with_flow_posterior, with_vamp_prior

import vaejax
from vaejax.estimators import aggregate_decomposition
from vaejax.objectives import beta_tcvae_loss, minibatch_stratified, minibatch_weighted

MODELS = {
    "bernoulli": (mlp_vae(), binary),
    "normal": (mlp_vae(vaejax.Normal, num_parameters=2), real),
}
DISCRIMINATOR = vaejax.MLP((8,), (1,))


@cache
def model(name, num=6):
    """A VAE, parameters of some size, and a batch."""
    vae, batch = MODELS[name]
    xs = batch(jax.random.key(1), num)
    return vae, vae.init(jax.random.key(0), xs[0]), xs


@cache
def negative_elbo(vae, kl_fn):
    return jax.jit(
        vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae, kl_fn=kl_fn))
    )


# weights


@pytest.mark.parametrize(
    ("batch_size", "dataset_size"), [(2, 2), (2, 9), (3, 100), (5, 5), (5, 6)]
)
def test_rows_of_the_weights_sum_as_the_paper_has_them(batch_size, dataset_size):
    stratified = np.exp(minibatch_stratified(batch_size, dataset_size))
    np.testing.assert_allclose(stratified.sum(axis=1), 1, rtol=1e-5)
    others = batch_size - 1
    row = [
        1 / dataset_size,
        (dataset_size - others) / (dataset_size * others),
        *[1 / others] * (others - 1),
    ]
    for i in range(batch_size):
        np.testing.assert_allclose(np.roll(stratified[i], -i), row, rtol=1e-5)
    weighted = np.exp(minibatch_weighted(batch_size, dataset_size))
    np.testing.assert_allclose(
        weighted,
        np.full((batch_size, batch_size), 1 / (dataset_size * batch_size)),
        rtol=1e-5,
    )


def estimates_of_every_batch(weights, dataset_size, batch_size, batches_of_others):
    """The mean over all batches that begin with n of sum_j w_0j q(z|x_j), for each n;
    and q(z|x_n) themselves.
    """
    densities = np.random.default_rng(0).uniform(
        0.1, 1, (dataset_size, dataset_size)
    )  # q(z_n|x_m) at [n, m]
    row = np.exp(weights(batch_size, dataset_size), dtype=np.float64)[0]
    means = [
        np.mean([row @ densities[n, [n, *others]] for others in batches_of_others(n)])
        for n in range(dataset_size)
    ]
    return np.array(means), densities


def test_stratified_estimates_of_q_are_unbiased_over_all_batches():
    means, densities = estimates_of_every_batch(
        minibatch_stratified,
        5,
        3,
        lambda n: itertools.permutations([m for m in range(5) if m != n], 2),
    )
    np.testing.assert_allclose(means, densities.mean(axis=1), rtol=1e-6)


def test_weighted_estimates_of_q_are_those_of_independent_batches():
    means, densities = estimates_of_every_batch(
        minibatch_weighted, 5, 3, lambda n: itertools.product(range(5), repeat=2)
    )
    exact = densities.mean(axis=1)
    np.testing.assert_allclose(
        means, (np.diagonal(densities) + 2 * exact) / (5 * 3), rtol=1e-6
    )
    assert np.all(means < exact)


@pytest.mark.parametrize("sizes", [(1, 5), (6, 5)])
def test_stratified_weights_need_others_and_no_more_than_there_are(sizes):
    with pytest.raises(
        ValueError, match=rf"batch has {sizes[0]} example\(s\) and dataset_size is 5"
    ):
        minibatch_stratified(*sizes)


# beta-TCVAE


@pytest.mark.parametrize("weights", [minibatch_weighted, minibatch_stratified])
def test_parts_against_numpy(weights):
    vae, params, xs = model("normal")
    strengths = {"alpha": 0.5, "beta": 3.0, "gamma": 2.0}
    loss_fn = beta_tcvae_loss(vae, dataset_size=50, minibatch_weights=weights)
    loss, terms = jax.jit(partial(loss_fn, **strengths))(params, jax.random.key(2), xs)
    posteriors = jax.vmap(partial(vae.encode, params))(xs)

    def draw(key, posterior):
        return posterior.sample(jax.random.split(key, 1)[0])

    zs = np.asarray(
        jax.vmap(draw)(jax.random.split(jax.random.key(2), len(xs)), posteriors),
        np.float64,
    )
    mean, stddev = np.asarray(posteriors.mean), np.exp(posteriors.log_variance / 2)
    densities = np.array(
        [
            [scipy.stats.norm(mean[j], stddev[j]).logpdf(z) for j in range(len(xs))]
            for z in zs
        ]
    )
    log_weights = np.asarray(weights(len(xs), 50))
    log_q = scipy.special.logsumexp(log_weights + densities.sum(axis=-1), axis=1)
    log_product = scipy.special.logsumexp(
        log_weights[..., None] + densities, axis=1
    ).sum(axis=-1)
    log_prior = scipy.stats.norm().logpdf(zs).sum(axis=-1)
    log_posterior = densities[np.arange(len(xs)), np.arange(len(xs))].sum(axis=-1)
    expected = [
        log_posterior - log_q,
        log_q - log_product,
        log_product - log_prior,
        log_posterior - log_prior,
    ]
    expected = np.mean(expected, axis=1)
    np.testing.assert_allclose(terms[1:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(terms.kl, sum(terms[1:4]), rtol=1e-4)
    np.testing.assert_allclose(
        loss, [0.5, 3, 2] @ expected[:3] - terms.log_likelihood, rtol=1e-5
    )


# every loss of the aggregate posterior


LOSSES = {
    "beta-TCVAE, weighted": (
        partial(beta_tcvae_loss, dataset_size=50),
        {"alpha": 1.0, "beta": 1.0, "gamma": 1.0},
        {"alpha": 0.5, "beta": 4.0, "gamma": 2.0},
    ),
    "beta-TCVAE, stratified": (
        partial(
            beta_tcvae_loss, dataset_size=50, minibatch_weights=minibatch_stratified
        ),
        {"alpha": 1.0, "beta": 1.0, "gamma": 1.0},
        {"alpha": 0.5, "beta": 4.0, "gamma": 2.0},
    ),
    "DIP-VAE-I": (
        vaejax.objectives.dip_vae_loss,
        {"lambda_off_diagonal": 0.0, "lambda_diagonal": 0.0, "beta": 1.0},
        {"lambda_off_diagonal": 5.0, "lambda_diagonal": 50.0, "beta": 0.5},
    ),
    "DIP-VAE-II": (
        partial(
            vaejax.objectives.dip_vae_loss,
            covariance=vaejax.objectives.covariance_of_aggregate,
        ),
        {"lambda_off_diagonal": 0.0, "lambda_diagonal": 0.0, "beta": 1.0},
        {"lambda_off_diagonal": 5.0, "lambda_diagonal": 5.0, "beta": 0.5},
    ),
    "InfoVAE": (
        vaejax.objectives.info_vae_loss,
        {"alpha": 0.0, "lambda_marginal": 1.0},
        {"alpha": 0.5, "lambda_marginal": 100.0},
    ),
    "FactorVAE": (
        partial(vaejax.objectives.factor_vae_loss, discriminator=DISCRIMINATOR),
        {"gamma": 0.0},
        {"gamma": 5.0},
    ),
}


@cache
def model_for(loss_name, name):
    vae, _, xs = model(name)
    if loss_name == "FactorVAE":
        vae = vaejax.objectives.with_discriminator(vae, DISCRIMINATOR)
    return vae, vae.init(jax.random.key(0), xs[0]), xs


# Each loss with one likelihood is quick to check; the other of each belongs to the full
# check.
QUICK = [
    ("beta-TCVAE, weighted", "normal"),
    ("DIP-VAE-I", "bernoulli"),
    ("InfoVAE", "normal"),
    ("FactorVAE", "bernoulli"),
]
PAIRS = [
    pair if pair in QUICK else pytest.param(*pair, marks=pytest.mark.slow)
    for pair in itertools.product(LOSSES, MODELS)
]


@pytest.mark.parametrize(("loss_name", "name"), PAIRS)
def test_every_loss_compiles_trains_and_at_neutral_strengths_is_the_negative_elbo(
    loss_name, name
):
    make_loss, neutral, strengths = LOSSES[loss_name]
    vae, params, xs = model_for(loss_name, name)
    loss_fn = make_loss(vae)
    value_and_grad = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, terms), gradient = value_and_grad(params, jax.random.key(3), xs, **strengths)
    assert all(
        np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, terms, gradient))
    )
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    eager_loss, eager_terms = loss_fn(params, jax.random.key(3), xs, **strengths)
    np.testing.assert_allclose(
        [loss, *terms], [eager_loss, *eager_terms], rtol=1e-4, atol=1e-5
    )

    (loss, terms), _ = value_and_grad(params, jax.random.key(3), xs, **neutral)
    kl_fn = vaejax.kl_monte_carlo if "TCVAE" in loss_name else vaejax.kl_closed_form
    elbo, elbo_terms = negative_elbo(MODELS[name][0], kl_fn)(
        params.get("vae", params), jax.random.key(3), xs
    )
    np.testing.assert_allclose(
        [loss, terms.log_likelihood, terms.kl], [elbo, *elbo_terms[:2]], rtol=1e-5
    )


# the parts of a data set


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


# what they cannot take


def matrix_latent():
    def encode(params, x):
        return vaejax.Normal(jnp.zeros((2, 2)), jnp.zeros(()))

    prior = vaejax.Normal(jnp.zeros((2, 2)), jnp.zeros(()))
    return vaejax.VAE(
        lambda key, x: (),
        encode,
        lambda params: prior,
        lambda params, z: vaejax.Bernoulli(0 * z[0, 0]),
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
            beta_tcvae_loss(vae, dataset_size=9), params, jax.random.key(1), xs
        )
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(
            partial(aggregate_decomposition, vae, num_samples=2),
            params,
            jax.random.key(1),
            xs,
        )


def test_dataset_size_must_be_a_positive_integer():
    with pytest.raises(ValueError, match="dataset_size is 0"):
        beta_tcvae_loss(mlp_vae(), dataset_size=0)
