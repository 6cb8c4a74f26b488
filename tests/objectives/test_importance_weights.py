"""Importance weights on linear-Gaussian models, where p(x) is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import (
    exact_log_marginal,
    make_params,
    recording,
    vae,
    with_best_encoder,
)
from support.monte_carlo import over_keys, standard_error

from vaejax import kl_monte_carlo, log_weight, negative_elbo, negative_iwae
from vaejax.objectives import log_weight_given_posterior, log_weights

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()


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


def test_weights_average_to_p_of_x_within_five_standard_errors():
    wide = with_best_encoder(PARAMS, widen=0.5)
    weights = np.exp(
        over_keys(lambda key: log_weight(vae, wide, key, X), 10_000)
        - exact_log_marginal(wide, X)
    )
    assert abs(weights.mean() - 1) < 5 * standard_error(weights)


def test_a_weight_given_the_posterior_is_the_weight():
    key, posterior, prior = jax.random.key(1), vae.encode(PARAMS, X), vae.prior(PARAMS)
    with jax.debug_key_reuse(False):
        given = log_weight_given_posterior(vae, PARAMS, key, X, posterior, prior)
        assert given == log_weight(vae, PARAMS, key, X)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_num_samples_is_a_positive_integer(count):
    with pytest.raises(ValueError, match=f"is {count}; give a positive integer"):
        log_weights(vae, PARAMS, jax.random.key(1), X, num_samples=count)


def test_each_sample_is_decoded_once():
    recorded, decoded = recording(vae)
    program = jax.jit(partial(log_weights, recorded, num_samples=3))
    jax.block_until_ready(program(PARAMS, jax.random.key(1), X))
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == 3
