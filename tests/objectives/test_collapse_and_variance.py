"""Free bits, KL by dimension, and the variance that is the best for a batch."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cases import standard_promotion

import vaejax
from vaejax.objectives import ElboTerms

X = jnp.array([[0.3, -0.2, 1.0], [0.0, 0.5, -1.0], [2.0, 0.1, 0.4], [1.0, 1.0, 1.0]])


def make_vae(likelihood):
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((8,)),
        decoder=vaejax.MLP((8,), (3,)),
        likelihood=likelihood,
    )


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


def test_free_bits_act_on_the_batch_mean_of_each_group():
    # Per example the first group would be max(0, 2) + max(4, 2) = 3 on average, by the
    # mean it is max(2, 2).
    means = ElboTerms(jnp.float32(-10.0), jnp.float32(2.5), jnp.array([2.0, 0.5]))
    assert vaejax.objectives.free_bits_loss(means, minimum=2.0) == 10 + 2 + 2
    assert (
        vaejax.objectives.free_bits_loss(means, minimum=0.0, beta=3.0) == 10 + 3 * 2.5
    )


def test_a_capacity_pulls_the_kl_to_its_target_from_both_sides():
    means = ElboTerms(jnp.float32(-10.0), jnp.float32(2.5), jnp.array([2.0, 0.5]))
    assert vaejax.objectives.capacity_loss(means, target=4.0, gamma=10.0) == 10 + 15
    assert vaejax.objectives.capacity_loss(means, target=1.0, gamma=10.0) == 10 + 15

    def loss(kl, target):
        return vaejax.objectives.capacity_loss(
            means._replace(kl=kl), target=target, gamma=10.0
        )

    assert jax.grad(loss)(2.5, 4.0) == -10 and jax.grad(loss)(2.5, 1.0) == 10


@pytest.mark.parametrize(("minimum", "has_gradient"), [(1e3, False), (0.0, True)])
def test_below_the_minimum_the_kl_costs_nothing(minimum, has_gradient):
    vae = make_vae(vaejax.distributions.fixed_variance_normal_head())
    params = vae.init(jax.random.key(0), X[0])
    free = vaejax.loss_of_means(
        partial(vaejax.elbo_terms, vae),
        partial(vaejax.objectives.free_bits_loss, minimum=minimum),
    )
    without = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae, beta=0.0))
    gradients = [
        jax.grad(lambda p, f=f: f(p, jax.random.key(1), X)[0])(params)
        for f in (free, without)
    ]
    differences = jax.tree.leaves(
        jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), *gradients)
    )
    assert (max(differences) > 1e-3) == has_gradient


def test_optimal_variance_is_the_negative_elbo_at_the_mean_squared_error():
    vae = make_vae(
        vaejax.distributions.shared_variance_normal_head(0.0, -math.inf, math.inf)
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


def test_the_parameter_follows_the_variance_of_the_batches():
    vae = make_vae(
        vaejax.distributions.shared_variance_normal_head(3.0, -math.inf, math.inf)
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


def test_optimal_variance_needs_one_log_variance():
    vae = make_vae(vaejax.distributions.fixed_variance_normal_head())
    with pytest.raises(TypeError, match="shared_variance_normal_head"):
        vaejax.objectives.optimal_variance_loss(vae)(
            vae.init(jax.random.key(0), X[0]), jax.random.key(1), X
        )
    vae = make_vae(
        vaejax.distributions.shared_variance_normal_head(0.0, -math.inf, math.inf)
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
