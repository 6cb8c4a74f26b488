"""Gradients of bounds with binary latents, against a model that is enumerated."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support import cases
from support.monte_carlo import over_keys, standard_error

import vaejax
from vaejax.objectives import (
    negative_disarm,
    negative_iwae,
    negative_reinforce,
    negative_vimco,
)

NUM, SIZE = 100_000, 3
X = np.float32([1, 0, 1, 1])


def init(key, x):
    keys = jax.random.split(key, 4)
    return {
        "encoder": jax.random.normal(keys[0], (SIZE, 4)),
        "decoder": jax.random.normal(keys[1], (4, SIZE)),
        "shared": jax.random.normal(keys[2], (SIZE,)),  # of encoder and decoder
        "prior": jax.random.normal(keys[3], (SIZE,)),
    }


VAE = vaejax.VAE(
    init,
    encode=lambda params, x: vaejax.Bernoulli(
        params["encoder"] @ (x - 0.5) + params["shared"]
    ),
    prior=lambda params: vaejax.Bernoulli(params["prior"]),
    decode=lambda params, z: vaejax.Bernoulli(
        params["decoder"] @ (z * params["shared"])
    ),
)
PARAMS = init(jax.random.key(7), X)
STATES = np.float32(list(itertools.product([0, 1], repeat=SIZE)))


def exact_loss(params, num_samples):
    """The expected bound of so many samples, over all the states they may have."""
    posterior, prior = VAE.encode(params, X), VAE.prior(params)
    log_q = jax.vmap(posterior.log_prob)(STATES)
    log_p = jax.vmap(lambda z: VAE.decode(params, z).log_prob(X) + prior.log_prob(z))(
        STATES
    )
    total = 0.0
    for chosen in itertools.product(range(len(STATES)), repeat=num_samples):
        chosen = np.array(chosen)
        bound = jax.nn.logsumexp((log_p - log_q)[chosen]) - jnp.log(num_samples)
        total += jnp.exp(jnp.sum(log_q[chosen])) * bound
    return -total


# The objective, and the number of samples of the bound that it estimates.
ESTIMATORS = {
    "reinforce": (partial(negative_reinforce, num_samples=2), 1),
    "reinforce, 5 samples": (partial(negative_reinforce, num_samples=5), 1),
    "disarm": (partial(negative_disarm, num_samples=2), 1),
    "disarm, 2 pairs": (partial(negative_disarm, num_samples=4), 1),
    "vimco": (partial(negative_vimco, num_samples=2), 2),
}


def draws_of(objective, num=NUM):
    """Losses and gradients of so many keys, `[num]` and `[num, parameters]`."""

    def one(key):
        def loss(params):
            return objective(VAE, params, key, X)[0]

        value, gradient = jax.value_and_grad(loss)(PARAMS)
        return value, ravel_pytree(gradient)[0]

    with jax.debug_key_reuse(False):
        return over_keys(one, num)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_value_and_gradient_are_unbiased_within_five_standard_errors(name):
    objective, num_samples = ESTIMATORS[name]
    value, gradient = jax.value_and_grad(partial(exact_loss, num_samples=num_samples))(
        PARAMS
    )
    losses, gradients = draws_of(objective)
    for found, expected in (
        (losses, value),
        (gradients, ravel_pytree(gradient)[0]),
    ):
        gap = np.abs(np.float64(found).mean(axis=0) - np.float64(expected))
        assert np.all(gap <= 5 * standard_error(np.float64(found)) + 1e-6)


def test_reinforce_varies_more_than_disarm():
    """In the sum over the encoder's parameters; five standard errors of the squares."""
    squares = []
    for objective in (negative_reinforce, negative_disarm):
        _, gradients = draws_of(partial(objective, num_samples=2))
        of_encoder = np.float64(gradients)[:, 12 : 12 + 3 * 4]
        centered = of_encoder - of_encoder.mean(axis=0)
        squares.append(np.square(centered).sum(axis=1))
    errors = [each.std() / np.sqrt(NUM) for each in squares]
    assert squares[0].mean() - squares[1].mean() > 5 * np.hypot(*errors)


@pytest.mark.slow
def test_the_value_of_vimco_is_that_of_the_same_samples():
    key = jax.random.key(3)
    with jax.debug_key_reuse(False):
        loss, terms = negative_vimco(VAE, PARAMS, key, X, num_samples=6)
        expected, of_iwae = negative_iwae(VAE, PARAMS, key, X, num_samples=6)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(terms.elbo, of_iwae.elbo, rtol=1e-5)


def gaussian():
    model = cases.mlp_vae()
    return model, model.init(jax.random.key(0), jnp.zeros(cases.PIXELS))


def test_normal_latents_have_the_gradient_of_the_reparameterized_bound():
    model, params = gaussian()
    x = jax.random.bernoulli(jax.random.key(0), 0.4, cases.PIXELS).astype(jnp.float32)

    def pair(key):
        def of_encoder(objective, **options):
            def loss(params):
                return objective(model, params, key, x, **options)[0]

            return ravel_pytree(jax.grad(loss)(params)["encoder"])[0]

        return of_encoder(negative_reinforce, num_samples=4), of_encoder(
            vaejax.negative_elbo, num_samples=4
        )

    with jax.debug_key_reuse(False):
        found, expected = (np.float64(each) for each in over_keys(pair, 4_000))
    gap = np.abs((found - expected).mean(axis=0))
    assert np.all(gap <= 5 * standard_error(found - expected) + 1e-6)


@pytest.mark.parametrize(
    ("objective", "count"),
    [
        (negative_reinforce, 1),
        (negative_vimco, 1),
        (negative_disarm, 1),
        (negative_disarm, 3),
    ],
)
def test_too_few_samples_are_refused(objective, count):
    with pytest.raises(ValueError, match=rf"num_samples is {count}; give"):
        objective(VAE, PARAMS, jax.random.key(0), X, num_samples=count)


def test_posteriors_that_they_cannot_serve_are_refused_in_one_sentence():
    model, params = gaussian()
    x, key = jnp.zeros(cases.PIXELS), jax.random.key(0)
    with pytest.raises(TypeError) as error:
        negative_disarm(model, params, key, x, num_samples=2)
    assert str(error.value) == (
        "negative_disarm: the posterior is Normal; give a model whose posterior is a "
        "Bernoulli, such as bernoulli_vae, or take negative_reinforce."
    )
    model = cases.vq_vae()
    params = model.init(jax.random.key(0), x)
    for objective in (negative_reinforce, negative_vimco):
        with pytest.raises(TypeError) as error:
            objective(model, params, key, x, num_samples=2)
        assert str(error.value) == (
            f"Quantized has no log_prob; {objective.__name__} differentiates "
            "log q(z|x); give a posterior that has it."
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        partial(negative_vimco, num_samples=3),
        partial(negative_reinforce, num_samples=3),
        partial(negative_disarm, num_samples=2),
    ],
)
def test_weights_of_zero_leave_finite_gradients(objective):
    """States of z that rule x out have weight 0; the bound is that of the others."""
    model = VAE._replace(
        decode=lambda params, z: vaejax.Bernoulli(
            params["decoder"] @ (z * params["shared"])
            + jnp.where(z[0] > 0, -jnp.inf, 0.0)
        )
    )

    def loss(params, key):
        return objective(model, params, key, X)[0]

    keys = jax.random.split(jax.random.key(5), 200)
    losses, gradients = jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0))(
        PARAMS, keys
    )
    assert np.any(np.isfinite(losses)) and not np.any(np.isnan(losses))
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf))
