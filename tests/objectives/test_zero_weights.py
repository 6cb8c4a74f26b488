"""Importance weights of 0, log-weights of -inf, in every objective."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.linear_gaussian import make_params, vae

from vaejax import VAE, Normal, kl_monte_carlo
from vaejax.base import Array
from vaejax.objectives import (
    log_weights,
    negative_dreg,
    negative_elbo,
    negative_iwae,
    negative_miwae,
    negative_piwae,
    negative_renyi,
)

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()
NUM_SAMPLES = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Truncated:
    """A normal prior of another log-density where the first dimension is above an
    edge.
    """

    normal: Normal
    edge: Array
    outside: float

    def log_prob(self, event: Array) -> Array:
        inside = event[0] <= self.edge
        return jnp.where(inside, self.normal.log_prob(event), self.outside)


def truncated(edge, outside=-jnp.inf) -> VAE:
    return vae._replace(
        prior=lambda params: Truncated(vae.prior(params), edge, outside)
    )


def edge_that_excludes(key, num):
    """An edge with `num` of the z above it that objectives of `NUM_SAMPLES` draw."""
    posterior = vae.encode(PARAMS, X)
    keys = jax.random.split(key, NUM_SAMPLES)
    zs = jax.vmap(lambda key: posterior.sample_and_log_prob(key)[0])(keys)
    first = jnp.sort(zs[:, 0])
    padded = jnp.concatenate([first[:1] - 1, first, first[-1:] + 1])
    return (padded[NUM_SAMPLES - num] + padded[NUM_SAMPLES - num + 1]) / 2


def log_mean(log_weights):
    """log 1/k sum w over the last axis, in double precision."""
    with np.errstate(divide="ignore"):
        return np.log(np.mean(np.exp(np.float64(log_weights)), axis=-1))


def renyi(order):
    def loss(log_weights):
        return -log_mean(order * np.float64(log_weights)) / order

    return loss


# The objective, and its loss as a function of the log-weights, in double precision.
CASES = {
    "iwae": (partial(negative_iwae, num_samples=4), lambda w: -log_mean(w)),
    "dreg": (partial(negative_dreg, num_samples=4), lambda w: -log_mean(w)),
    "rws-dreg": (
        partial(negative_dreg, num_samples=4, alpha=1.0),
        lambda w: -log_mean(w),
    ),
    "miwae, one group": (
        partial(negative_miwae, num_groups=1, num_samples=4),
        lambda w: -log_mean(w),
    ),
    "miwae, traced mixing of 0": (
        lambda *args: negative_miwae(
            *args, num_groups=1, num_samples=4, mixing=jnp.zeros(())
        ),
        lambda w: -log_mean(w),
    ),
    "miwae": (
        partial(negative_miwae, num_groups=2, num_samples=2),
        lambda w: -np.mean(log_mean(w.reshape(2, 2))),
    ),
    "ciwae": (
        partial(negative_miwae, num_groups=1, num_samples=4, mixing=0.5),
        lambda w: -(log_mean(w) + np.mean(w)) / 2,
    ),
    "mixing 1": (
        partial(negative_miwae, num_groups=2, num_samples=2, mixing=1.0),
        lambda w: -np.mean(w),
    ),
    "piwae": (
        partial(negative_piwae, num_groups=2, num_samples=2),
        lambda w: -log_mean(w),
    ),
    "renyi 0": (partial(negative_renyi, num_samples=4, alpha=0.0), renyi(1.0)),
    "renyi 0.5": (partial(negative_renyi, num_samples=4, alpha=0.5), renyi(0.5)),
    "renyi 0.999": (
        partial(negative_renyi, num_samples=4, alpha=0.999),
        renyi(1 - np.float64(np.float32(0.999))),
    ),
    "renyi -1": (partial(negative_renyi, num_samples=4, alpha=-1.0), renyi(2.0)),
    "renyi 1": (
        partial(negative_renyi, num_samples=4, alpha=1.0),
        lambda w: -np.mean(w),
    ),
    "renyi 2": (partial(negative_renyi, num_samples=4, alpha=2.0), renyi(-1.0)),
    "elbo": (
        partial(negative_elbo, num_samples=4, kl_fn=kl_monte_carlo),
        lambda w: -np.mean(w),
    ),
}


# The others have formulas and code in common with these.
DISTINCT = ("iwae", "dreg", "miwae, traced mixing of 0", "piwae", "renyi 0", "renyi 2")


@pytest.mark.sampled(every=8)
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_with_zero_weights(name):
    """The value is that of the formula in double precision, the gradient finite. With
    one weight of 0 it is the gradient with a weight of exp(-300) instead.
    """
    objective, expected = CASES[name]

    @jax.jit
    def evaluate(key, num, outside):
        model = truncated(edge_that_excludes(key, num), outside)
        weights = log_weights(model, PARAMS, key, X, num_samples=NUM_SAMPLES)
        loss = jax.value_and_grad(lambda p: objective(model, p, key, X)[0])
        value, gradients = loss(PARAMS)
        return weights, value, ravel_pytree(gradients)[0]

    with jax.debug_key_reuse(False):
        key = jax.random.key(5)
        for num in range(NUM_SAMPLES + 1):
            weights, value, gradient = evaluate(key, num, -jnp.inf)
            weights = np.asarray(weights)
            assert np.sum(weights == -np.inf) == num
            with np.errstate(divide="ignore", over="ignore"):
                np.testing.assert_allclose(value, expected(weights), rtol=1e-5)
            assert np.all(np.isfinite(gradient))
            # At this order exp(-300) is not yet nothing.
            if num == 1 and np.isfinite(value) and name != "renyi 0.999":
                nearly = evaluate(key, num, -300.0)[-1]
                np.testing.assert_allclose(gradient, nearly, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_all_weights_of_zero_leave_the_parameters_alone():
    def loss(params):
        model = truncated(-jnp.inf)
        return negative_iwae(model, params, jax.random.key(5), X, num_samples=4)

    (value, terms), gradients = jax.value_and_grad(loss, has_aux=True)(PARAMS)
    assert (value, terms.elbo, terms.effective_sample_size) == (jnp.inf, -jnp.inf, 0)
    assert not np.any(ravel_pytree(gradients)[0])


@pytest.mark.slow
def test_a_weight_of_nan_is_not_taken_for_a_weight_of_zero():
    model = truncated(-jnp.inf, jnp.nan)
    for name in DISTINCT:
        assert np.isnan(CASES[name][0](model, PARAMS, jax.random.key(5), X)[0])


@pytest.mark.parametrize("weight", [0, 0.0, np.float32(0), jnp.float32(0)])
def test_beta_of_zero_leaves_out_an_infinite_kl(weight):
    loss, terms = negative_elbo(
        truncated(-jnp.inf),
        PARAMS,
        jax.random.key(5),
        X,
        beta=weight,
        kl_fn=kl_monte_carlo,
    )
    assert (loss, terms.kl) == (-terms.log_likelihood, jnp.inf)
