"""Estimators of the KL term against the closed form, and the gradient that sticks the
landing.
"""

import math
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import make_params, vae, with_best_encoder
from support.monte_carlo import over_keys, standard_error
from support.quadrature import (
    ELBO,
    IWAE,
    NUM_DRAWS,
    assert_gradient_is_unbiased,
    assert_value_is_the_iwae,
    draws,
    encoder_gradients,
    exact_gradients,
    negated,
)

import vaejax
from vaejax import kl_closed_form, kl_monte_carlo, negative_elbo, negative_iwae
from vaejax.objectives import kl_sticking_the_landing, negative_miwae

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()


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


def test_kl_per_dimension_sums_to_the_closed_form():
    q = vaejax.Normal(jnp.array([0.5, -1.0, 2.0]), jnp.array([0.1, -2.0, 0.7]))
    p = vaejax.Normal(jnp.zeros(3), jnp.zeros(()))
    terms = vaejax.kl_per_dimension(q, p, q.mean, jnp.zeros(()))
    expected = 0.5 * (np.square(q.mean) + np.exp(q.log_variance) - q.log_variance - 1)
    np.testing.assert_allclose(terms, expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(terms), vaejax.kl_divergence(q, p), rtol=1e-6)
    with pytest.raises(TypeError, match="posterior is Bernoulli"):
        vaejax.kl_per_dimension(
            vaejax.Bernoulli(jnp.zeros(3)), p, q.mean, jnp.zeros(())
        )


# sticking the landing


def test_sticking_gradient_is_unbiased_within_five_standard_errors():
    assert_gradient_is_unbiased(
        partial(negative_elbo, kl_fn=kl_sticking_the_landing),
        negated(ELBO),
        negated(ELBO),
    )


def test_sticking_the_landing_is_biased_in_a_bound_of_two_samples():
    _, gradients = draws(
        partial(negative_iwae, num_samples=2, kl_fn=kl_sticking_the_landing)
    )
    values, exact = (
        np.asarray(gradients.gain, np.float64),
        exact_gradients(negated(IWAE), negated(IWAE)).gain,
    )
    assert np.max(np.abs(values.mean(axis=0) - exact)) > 5 * np.max(
        values.std(axis=0)
    ) / math.sqrt(NUM_DRAWS)


# At the exact posterior the encoder is left alone, draw by draw.
VANISHING = {
    "elbo, sticking": partial(negative_elbo, kl_fn=kl_sticking_the_landing),
    "iwae, sticking": partial(
        negative_iwae, num_samples=4, kl_fn=kl_sticking_the_landing
    ),
    "miwae, sticking": partial(
        negative_miwae, num_groups=2, num_samples=2, kl_fn=kl_sticking_the_landing
    ),
}
NOISY = {
    "elbo": partial(negative_elbo, kl_fn=kl_monte_carlo),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", VANISHING | NOISY)
def test_gradients_at_the_exact_posterior(name, x64):
    # Orthogonal loadings, so that a diagonal posterior is exact.
    params = with_best_encoder(make_params(orthogonal=True))
    gradients = encoder_gradients((VANISHING | NOISY)[name], params, np.arange(5.0))
    if name in VANISHING:
        np.testing.assert_allclose(gradients, 0, atol=1e-10)
    else:
        assert np.all(gradients.std(axis=0) > 0.1)


def test_the_value_in_a_bound_is_that_of_the_monte_carlo_estimate():
    objective = partial(negative_iwae, num_samples=6, kl_fn=kl_sticking_the_landing)
    assert_value_is_the_iwae(objective)
