"""Objectives on a linear-Gaussian model, where every expectation is known, and the
combinators around them.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import (
    draw_examples,
    exact_elbo,
    exact_log_marginal,
    make_params,
    recording,
    vae,
    with_best_encoder,
)

from vaejax import (
    ElboTerms,
    elbo_terms,
    kl_closed_form,
    kl_divergence,
    kl_monte_carlo,
    log_weight,
    loss_of_means,
    mean_over_batch,
    negative_elbo,
    negative_iwae,
    with_transform,
)

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()
ZERO = np.float32(0)


def over_keys(function, num):
    return jax.tree.map(
        np.asarray,
        jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(1), num)),
    )


def standard_error(values):
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))


def test_reference_elbo_is_tight_only_at_the_exact_posterior():
    optimum = with_best_encoder(make_params(orthogonal=True))
    np.testing.assert_allclose(
        exact_elbo(optimum, X), exact_log_marginal(optimum, X), rtol=1e-5
    )
    best = with_best_encoder(PARAMS)
    assert (
        exact_elbo(PARAMS, X) + 0.1
        < exact_elbo(best, X)
        < exact_log_marginal(PARAMS, X) - 0.1
    )
    gradient = jax.grad(exact_elbo)(best, X)
    np.testing.assert_allclose(gradient.gain, 0, atol=1e-4)
    np.testing.assert_allclose(gradient.log_variance, 0, atol=1e-4)


# exactness


def test_at_the_exact_posterior_every_weight_is_p_of_x(x64):
    params, x = with_best_encoder(make_params(orthogonal=True)), X.astype(np.float64)

    def bounds(key):
        elbo, _ = negative_elbo(vae, params, key, x, kl_fn=kl_monte_carlo)
        iwae, terms = negative_iwae(vae, params, key, x, num_samples=8)
        return jnp.stack(
            [log_weight(vae, params, key, x), -elbo, -iwae, terms.elbo]
        ), terms

    # The same key thrice is the point: whatever the samples, the bounds are equal.
    with jax.debug_key_reuse(False):
        bounds, terms = over_keys(bounds, 20)
    np.testing.assert_allclose(bounds, exact_log_marginal(params, x), rtol=1e-12)
    np.testing.assert_allclose(terms.effective_sample_size, 8, rtol=1e-12)


@pytest.mark.parametrize(
    ("kl_fn", "num_samples"), [(kl_closed_form, 1), (kl_monte_carlo, 3)]
)
def test_elbo_in_expectation_within_five_standard_errors(kl_fn, num_samples):
    objective = partial(negative_elbo, vae, kl_fn=kl_fn, num_samples=num_samples)
    elbos = -over_keys(lambda key: objective(PARAMS, key, X)[0], 10_000)
    assert abs(elbos.mean() - exact_elbo(PARAMS, X)) < 5 * standard_error(elbos)


def test_elbo_below_iwae_below_log_marginal():
    def bounds(key):
        elbo_key, iwae_key = jax.random.split(key)
        elbo, _ = negative_elbo(vae, PARAMS, elbo_key, X)
        iwae, terms = negative_iwae(vae, PARAMS, iwae_key, X, num_samples=10)
        return jnp.stack([-elbo, -iwae])

    values = over_keys(bounds, 5_000)
    gaps = np.diff(
        values, axis=1, append=np.full((len(values), 1), exact_log_marginal(PARAMS, X))
    )
    assert np.all(gaps.mean(axis=0) > 5 * standard_error(gaps))


def test_weights_average_to_p_of_x_within_five_standard_errors():
    wide = with_best_encoder(PARAMS, widen=0.5)
    weights = np.exp(
        over_keys(lambda key: log_weight(vae, wide, key, X), 10_000)
        - exact_log_marginal(wide, X)
    )
    assert abs(weights.mean() - 1) < 5 * standard_error(weights)


def test_monte_carlo_kl_tends_to_the_closed_form_within_five_standard_errors():
    posterior, prior = vae.encode(PARAMS, X), vae.prior(PARAMS)
    kls = over_keys(
        lambda key: kl_monte_carlo(
            posterior, prior, *posterior.sample_and_log_prob(key)
        ),
        10_000,
    )
    exact = kl_closed_form(posterior, prior, None, None)
    assert kls.shape == (10_000, 1) and exact.shape == (1,)
    assert np.all(np.abs(kls.mean(axis=0) - exact) < 5 * standard_error(kls))


@pytest.mark.parametrize("kl_fn", [kl_closed_form, kl_monte_carlo])
def test_gradient_is_unbiased_within_five_standard_errors(kl_fn):
    def gradient(key):
        return jax.grad(
            lambda params: negative_elbo(vae, params, key, X, kl_fn=kl_fn)[0]
        )(PARAMS)

    def check(gradients, exact):
        # What does not depend on the sample has no standard error, only rounding.
        assert np.all(
            np.abs(gradients.mean(axis=0) + exact)
            < 5 * standard_error(gradients) + 1e-4
        )

    jax.tree.map(check, over_keys(gradient, 10_000), jax.grad(exact_elbo)(PARAMS, X))


# options


def test_beta_enters_linearly_and_leaves_the_terms():
    loss = jax.jit(
        lambda beta: negative_elbo(vae, PARAMS, jax.random.key(1), X, beta=beta)
    )
    terms = loss(1.0)[1]
    for beta in (0.0, 1.0, 2.5):
        value, same_terms = loss(beta)
        np.testing.assert_allclose(
            value, beta * terms.kl - terms.log_likelihood, rtol=1e-6
        )
        assert (
            same_terms.kl == terms.kl
            and same_terms.log_likelihood == terms.log_likelihood
        )


def test_kl_is_the_sum_of_its_terms():
    def kl_by_dimension(posterior, prior, z, log_posterior):
        del z, log_posterior
        return jax.vmap(kl_divergence)(posterior, prior)

    terms = jax.jit(partial(elbo_terms, vae, kl_fn=kl_by_dimension))(
        PARAMS, jax.random.key(1), X
    )
    assert terms.kl_terms.shape == (2,)
    whole = kl_divergence(vae.encode(PARAMS, X), vae.prior(PARAMS))
    np.testing.assert_allclose([terms.kl, np.sum(terms.kl_terms)], whole, rtol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 7])
@pytest.mark.parametrize("objective", [negative_elbo, negative_iwae])
def test_num_samples_are_decoded_and_no_more(objective, num_samples):
    recorded, decoded = recording(vae)
    program = jax.jit(partial(objective, recorded, num_samples=num_samples))
    jax.block_until_ready(program(PARAMS, jax.random.key(1), X))
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == num_samples


@pytest.mark.parametrize("objective", [elbo_terms, negative_elbo, negative_iwae])
@pytest.mark.parametrize("num_samples", [0, -1, 2.0, None])
def test_num_samples_must_be_a_positive_integer(objective, num_samples):
    with pytest.raises(ValueError, match=f"num_samples is {num_samples}"):
        objective(vae, PARAMS, jax.random.key(1), X, num_samples=num_samples)


def test_iwae_of_one_sample_is_the_single_sample_elbo():
    iwae, terms = jax.jit(partial(negative_iwae, vae, num_samples=1))(
        PARAMS, jax.random.key(1), X
    )
    elbo, _ = jax.jit(partial(negative_elbo, vae, kl_fn=kl_monte_carlo))(
        PARAMS, jax.random.key(1), X
    )
    np.testing.assert_allclose(iwae, elbo, rtol=1e-6)
    np.testing.assert_allclose(
        [terms.elbo, terms.effective_sample_size], [-elbo, 1], rtol=1e-6
    )


# with_transform


def test_with_transform_gives_each_its_half_of_the_key():
    def transform(key, x):
        return jax.random.key_data(key)

    def objective(vae, params, key, x, *, beta):
        return vae, params, jax.random.key_data(key), x, beta

    unbound = with_transform(objective, transform)(
        "vae", "params", jax.random.key(3), X, beta=2.0
    )
    bound = with_transform(partial(objective, "vae"), transform)(
        "params", jax.random.key(3), X, beta=2.0
    )
    transform_key, objective_key = jax.random.key_data(
        jax.random.split(jax.random.key(3))
    )
    assert not np.array_equal(transform_key, objective_key)
    for *leading, key, x, beta in (unbound, bound):
        assert (*leading, beta) == ("vae", "params", 2)
        np.testing.assert_array_equal(key, objective_key)
        np.testing.assert_array_equal(x, transform_key)


# batches


def test_mean_over_batch_is_the_mean_over_split_keys():
    batch = draw_examples(PARAMS, 4)
    objective = jax.jit(partial(negative_elbo, vae))
    loss, terms = mean_over_batch(objective)(PARAMS, jax.random.key(5), batch, beta=0.5)
    keys = jax.random.split(jax.random.key(5), 4)
    losses, each = zip(
        *(objective(PARAMS, keys[i], batch[i], beta=0.5) for i in range(4)), strict=True
    )
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(terms.kl, np.mean([one.kl for one in each]), rtol=1e-5)
    np.testing.assert_allclose(
        terms.kl_terms, np.mean([one.kl_terms for one in each], axis=0), rtol=1e-5
    )


def kl_terms_as_data(params, key, x):
    del params, key
    return ElboTerms(ZERO, jnp.sum(x), x)


def free_bits(terms, *, floor, beta=1.0):
    """As Kingma et al. 2016 publish it: the floor is under the mean over the batch."""
    return beta * jnp.sum(jnp.maximum(terms.kl_terms, floor)) - terms.log_likelihood


def test_loss_of_means_combines_after_the_mean():
    batch = np.array([[0.0, 3.0], [4.0, 1.0]], np.float32)
    of_means = loss_of_means(kl_terms_as_data, partial(free_bits, floor=1.5))
    loss, means = of_means(None, jax.random.key(0), batch)
    assert loss == 2 + 2
    np.testing.assert_array_equal(means.kl_terms, [2, 2])
    per_example = mean_over_batch(
        lambda params, key, x: (
            free_bits(kl_terms_as_data(params, key, x), floor=1.5),
            (),
        )
    )
    assert per_example(None, jax.random.key(0), batch)[0] == ((1.5 + 3) + (4 + 1.5)) / 2


def test_loss_of_means_passes_schedules_to_combine():
    batch = np.array([[0.0, 3.0], [4.0, 1.0]], np.float32)
    of_means = loss_of_means(kl_terms_as_data, partial(free_bits, floor=0.0))
    assert of_means(None, jax.random.key(0), batch, beta=0.5)[0] == 0.5 * 4


def test_loss_of_means_draws_as_mean_over_batch_does():
    def terms_fn(params, key, x):
        return params * x * jax.random.key_data(key)[0].astype(jnp.float32)

    of_means = loss_of_means(terms_fn, lambda terms: 3 * terms)
    mean_of = mean_over_batch(lambda params, key, x: (3 * terms_fn(params, key, x), ()))
    arguments = ZERO + 2, jax.random.key(5), np.arange(4, dtype=np.float32)
    with jax.debug_key_reuse(False):
        np.testing.assert_allclose(
            of_means(*arguments)[0], mean_of(*arguments)[0], rtol=1e-6
        )


@pytest.mark.parametrize(
    "batch", [np.zeros((0, 5)), (np.zeros((2, 5)), np.zeros((3, 5))), np.zeros(()), ()]
)
def test_batches_need_one_leading_axis(batch):
    with pytest.raises(ValueError, match="leading axis"):
        mean_over_batch(kl_terms_as_data)(None, jax.random.key(0), batch)
