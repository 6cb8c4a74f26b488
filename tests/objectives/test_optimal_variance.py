"""The negative ELBO with the variance that is the best for a batch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cases import standard_promotion

import vaejax

X = jnp.array([[0.3, -0.2, 1.0], [0.0, 0.5, -1.0], [2.0, 0.1, 0.4], [1.0, 1.0, 1.0]])


def make_vae(likelihood):
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((8,)),
        decoder=vaejax.MLP((8,), (3,)),
        likelihood=likelihood,
    )


def test_optimal_variance_is_the_negative_elbo_at_the_mean_squared_error():
    vae = make_vae(
        vaejax.distributions.shared_variance_normal_head(
            log_variance=0.0, min_log_variance=-math.inf, max_log_variance=math.inf
        )
    )
    params = vae.init(jax.random.key(0), X[0])
    key = jax.random.key(1)
    loss, terms = vaejax.objectives.optimal_variance_loss(vae)(
        params, jax.random.clone(key), X
    )

    def error(key, x):
        z, _ = vae.encode(params, x).sample_and_log_prob(key)
        return jnp.mean(jnp.square(vae.decode(params, z).mean - x))

    variance = jnp.mean(
        jax.vmap(error)(jax.random.split(jax.random.clone(key), len(X)), X)
    )
    expected = 1.5 * (1 + math.log(2 * math.pi) + jnp.log(variance)) + terms.kl
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    # No other shared variance does better on the same draws: the same loss, by the
    # likelihood itself.
    for shift in (-0.1, 0.0, 0.1):
        at = params | {"likelihood": jnp.log(variance) + shift}

        def negative(key, x, at=at):
            z, _ = vae.encode(at, x).sample_and_log_prob(key)
            return -vae.decode(at, z).log_prob(x)

        value = (
            jnp.mean(
                jax.vmap(negative)(jax.random.split(jax.random.clone(key), len(X)), X)
            )
            + terms.kl
        )
        np.testing.assert_allclose(value, expected, rtol=1e-5) if shift == 0 else None
        assert value >= expected - 1e-4


@pytest.mark.slow
def test_the_parameter_follows_the_variance_of_the_batches():
    vae = make_vae(
        vaejax.distributions.shared_variance_normal_head(
            log_variance=3.0, min_log_variance=-math.inf, max_log_variance=math.inf
        )
    )
    optimizer = standard_promotion(
        optax.partition(
            {"network": optax.sgd(0.0), "variance": optax.sgd(0.1)},
            {
                "encoder": "network",
                "decoder": "network",
                "posterior": "network",
                "likelihood": "variance",
            },
        )
    )
    loss_fn = vaejax.objectives.optimal_variance_loss(vae)
    gradient = jax.grad(lambda p: loss_fn(p, jax.random.key(1), X)[0])(
        vae.init(jax.random.key(0), X[0])
    )
    _, terms = loss_fn(vae.init(jax.random.key(0), X[0]), jax.random.key(1), X)
    log_variance = -(terms.log_likelihood / 1.5 + 1 + math.log(2 * math.pi))
    np.testing.assert_allclose(gradient["likelihood"], 3.0 - log_variance, rtol=1e-5)
    step = jax.jit(vaejax.make_train_step(loss_fn, optimizer))
    state = vaejax.init_train_state(vae, optimizer, jax.random.key(0), X[0])
    for _ in range(60):
        state, _ = step(state, X)
    assert (
        abs(state.params["likelihood"] - log_variance) < 0.7 < abs(3.0 - log_variance)
    )


@pytest.mark.slow
def test_optimal_variance_needs_one_log_variance():
    vae = make_vae(vaejax.distributions.fixed_variance_normal_head())
    with pytest.raises(TypeError, match="shared_variance_normal_head"):
        vaejax.objectives.optimal_variance_loss(vae)(
            vae.init(jax.random.key(0), X[0]), jax.random.key(1), X
        )
    vae = make_vae(
        vaejax.distributions.shared_variance_normal_head(
            log_variance=0.0, min_log_variance=-math.inf, max_log_variance=math.inf
        )
    )
    exact = vae._replace(
        decode=lambda params, z: vaejax.Normal(X[0] + 0 * jnp.sum(z), jnp.zeros(()))
    )
    params = vae.init(jax.random.key(0), X[0])
    gradient = jax.grad(
        lambda p: vaejax.objectives.optimal_variance_loss(exact)(
            p, jax.random.key(1), X[:1]
        )[0]
    )(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
