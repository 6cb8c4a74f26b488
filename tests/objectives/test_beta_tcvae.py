"""beta-TCVAE: the weights of a batch, the parts of the KL, and the loss."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from support.cases import binary, mlp_vae, real
from support.prototypes import matrix_latent, with_flow_posterior

import vaejax
from vaejax.objectives import beta_tcvae_loss, minibatch_stratified, minibatch_weighted
from vaejax.priors import with_vamp_prior

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


# loss


@pytest.mark.sampled
@pytest.mark.parametrize("weights", [minibatch_weighted, minibatch_stratified])
def test_parts_against_numpy(weights):
    vae = mlp_vae(vaejax.Normal, num_parameters=2)
    xs = real(jax.random.key(1), 6)
    params = vae.init(jax.random.key(0), xs[0])
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


# what it cannot take


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
            beta_tcvae_loss(vae, dataset_size=9), params, jax.random.key(1), xs
        )


def test_dataset_size_must_be_a_positive_integer():
    with pytest.raises(ValueError, match="dataset_size is 0"):
        beta_tcvae_loss(mlp_vae(), dataset_size=0)
