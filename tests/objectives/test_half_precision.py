"""Objectives of log-densities in half precision: sums and means are in single."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import make_params, vae
from support.objectives import OBJECTIVES

from vaejax import VAE, kl_monte_carlo
from vaejax.base import Array, Key
from vaejax.objectives import (
    kl_sticking_the_landing,
    log_weights,
    negative_dreg,
    negative_elbo,
    negative_iwae,
    negative_miwae,
    negative_piwae,
    negative_renyi,
)

NUM_SAMPLES = 64
# Log-densities of some hundred nats, which bfloat16 rounds to whole nats.
X = np.array([30.0, -20.0, 10.0, 20.0, -30.0], np.float32)
PARAMS = make_params()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rounded:
    """A distribution whose log-densities come in bfloat16."""

    exact: Any

    def log_prob(self, event: Array) -> Array:
        return self.exact.log_prob(event).astype(jnp.bfloat16)

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        z, log_prob = self.exact.sample_and_log_prob(key)
        return z, log_prob.astype(jnp.bfloat16)


ROUNDED = VAE(
    vae.init,
    lambda params, x: Rounded(vae.encode(params, x)),
    lambda params: Rounded(vae.prior(params)),
    lambda params, z: Rounded(vae.decode(params, z)),
)


def exact_log_weights(key):
    """In double precision, from the rounded log-densities."""
    posterior, prior = ROUNDED.encode(PARAMS, X), ROUNDED.prior(PARAMS)

    def parts(key):
        z, log_posterior = posterior.sample_and_log_prob(key)
        log_likelihood = ROUNDED.decode(PARAMS, z).log_prob(X)
        return log_likelihood, prior.log_prob(z), log_posterior

    values = jax.vmap(parts)(jax.random.split(key, NUM_SAMPLES))
    likelihood, prior, posterior = (np.asarray(v, np.float64) for v in values)
    return likelihood + prior - posterior


def log_mean(log_weights):
    largest = np.max(log_weights)
    return largest + np.log(np.mean(np.exp(log_weights - largest)))


CASES = {
    "elbo": (
        partial(negative_elbo, num_samples=NUM_SAMPLES, kl_fn=kl_monte_carlo),
        lambda w: -np.mean(w),
    ),
    "sticking the landing": (
        partial(negative_elbo, num_samples=NUM_SAMPLES, kl_fn=kl_sticking_the_landing),
        lambda w: -np.mean(w),
    ),
    "iwae": (partial(negative_iwae, num_samples=NUM_SAMPLES), lambda w: -log_mean(w)),
    "dreg": (partial(negative_dreg, num_samples=NUM_SAMPLES), lambda w: -log_mean(w)),
    "miwae": (
        partial(negative_miwae, num_groups=2, num_samples=32, mixing=0.5),
        lambda w: -(log_mean(w[:32]) + log_mean(w[32:]) + 2 * np.mean(w)) / 4,
    ),
    "piwae": (
        partial(negative_piwae, num_groups=2, num_samples=32),
        lambda w: -log_mean(w),
    ),
    "renyi": (
        partial(negative_renyi, num_samples=NUM_SAMPLES, alpha=0.5),
        lambda w: -2 * log_mean(w / 2),
    ),
}


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("name", CASES)
def test_the_value_is_that_of_double_precision(name):
    objective, expected = CASES[name]
    key = jax.random.key(5)
    with jax.debug_key_reuse(False):
        weights = exact_log_weights(key)
        loss, terms = objective(ROUNDED, PARAMS, key, X)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, terms))} == {
        np.dtype(np.float32)
    }
    # One bfloat16 step at these values is 4 nats.
    np.testing.assert_allclose(loss, expected(weights), atol=1e-3)
    if hasattr(terms, "elbo"):
        np.testing.assert_allclose(terms.elbo, np.mean(weights), atol=1e-3)


def test_log_weights_are_in_single_precision():
    with jax.debug_key_reuse(False):
        key = jax.random.key(5)
        drawn = log_weights(ROUNDED, PARAMS, key, X, num_samples=NUM_SAMPLES)
        np.testing.assert_allclose(drawn, exact_log_weights(key), atol=1e-3)
    assert drawn.dtype == jnp.float32


@pytest.mark.sampled(every=6)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_loss_and_its_terms_are_in_single_precision(name, dtype):
    row = OBJECTIVES[name]
    model = row.make_vae()
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(model.init, key, jnp.zeros(784))
    halved = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)
    batch = jax.ShapeDtypeStruct((5, 784), dtype)
    # The prior is in single precision, which strict promotion does not mix with half.
    with jax.numpy_dtype_promotion("standard"):
        loss, terms = jax.eval_shape(row.make_loss(model), halved, key, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, terms))} == {
        np.dtype(np.float32)
    }
