"""Free bits and capacity: losses of the mean KL of a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import vaejax
from vaejax.objectives import ElboTerms

X = jnp.array([[0.3, -0.2, 1.0], [0.0, 0.5, -1.0], [2.0, 0.1, 0.4], [1.0, 1.0, 1.0]])


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
    assert jax.grad(loss)(2.5, 2.5) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("minimum", "has_gradient"), [(1e3, False), (0.0, True)])
def test_below_the_minimum_the_kl_costs_nothing(minimum, has_gradient):
    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((8,)),
        decoder=vaejax.MLP((8,), (3,)),
        likelihood=vaejax.distributions.fixed_variance_normal_head(),
    )
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
