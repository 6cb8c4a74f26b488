"""The ELBO on a linear-Gaussian model, where every expectation is known."""

from functools import partial

import jax
import numpy as np
import pytest
from support.linear_gaussian import (
    exact_elbo,
    exact_log_marginal,
    make_params,
    recording,
    vae,
    with_best_encoder,
)
from support.monte_carlo import over_keys, standard_error
from support.quadrature import ELBO, assert_gradient_is_unbiased, negated

from vaejax import (
    elbo_terms,
    kl_closed_form,
    kl_divergence,
    kl_monte_carlo,
    negative_elbo,
)

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()


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


@pytest.mark.parametrize(
    ("kl_fn", "num_samples"), [(kl_closed_form, 1), (kl_monte_carlo, 3)]
)
def test_elbo_in_expectation_within_five_standard_errors(kl_fn, num_samples):
    objective = partial(negative_elbo, vae, kl_fn=kl_fn, num_samples=num_samples)
    elbos = -over_keys(lambda key: objective(PARAMS, key, X)[0], 10_000)
    assert abs(elbos.mean() - exact_elbo(PARAMS, X)) < 5 * standard_error(elbos)


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


def test_gradient_of_two_samples_is_unbiased_within_five_standard_errors():
    assert_gradient_is_unbiased(
        partial(negative_elbo, kl_fn=kl_monte_carlo, num_samples=2),
        negated(ELBO),
        negated(ELBO),
    )


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
def test_num_samples_are_decoded_and_no_more(num_samples):
    recorded, decoded = recording(vae)
    program = jax.jit(partial(negative_elbo, recorded, num_samples=num_samples))
    jax.block_until_ready(program(PARAMS, jax.random.key(1), X))
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == num_samples


@pytest.mark.parametrize("objective", [elbo_terms, negative_elbo])
@pytest.mark.parametrize("num_samples", [0, -1, 2.0, None])
def test_num_samples_must_be_a_positive_integer(objective, num_samples):
    with pytest.raises(ValueError, match=f"num_samples is {num_samples}"):
        objective(vae, PARAMS, jax.random.key(1), X, num_samples=num_samples)
