"""Schedules at the steps where they turn, and inside a compiled step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vaejax


def test_warm_up_rises_to_its_value_and_stays():
    steps = jnp.array([0, 5, 10, 99])
    np.testing.assert_allclose(
        jax.vmap(vaejax.training.warm_up(4.0, 10))(steps), [0, 2, 4, 4]
    )
    np.testing.assert_allclose(jax.vmap(vaejax.training.warm_up(4.0, 0))(steps), 4)


def test_logistic_warm_up_is_half_way_at_half_time():
    beta = vaejax.training.logistic_warm_up(2.0, 100, steepness=8.0)
    expected = 2 / (1 + np.exp([4.0, 2.0, 0.0, -2.0, -4.0]))
    np.testing.assert_allclose(
        jax.vmap(beta)(jnp.array([0, 25, 50, 75, 100])), expected, rtol=1e-5
    )


def test_cycles_rise_and_rest():
    beta = vaejax.training.cyclical(2.0, 100, num_cycles=2, ratio=0.5)
    steps = jnp.array([0, 5, 25, 49, 50, 55, 75, 100, 1000])
    np.testing.assert_allclose(
        jax.vmap(beta)(steps), [0, 0.4, 2, 2, 0, 0.4, 2, 2, 2], atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vaejax.training.logistic_warm_up(1.0, 0), "num_steps is 0"),
        (
            lambda: vaejax.training.logistic_warm_up(1.0, 10, steepness=0.0),
            "steepness is 0.0",
        ),
        (lambda: vaejax.training.warm_up(1.0, -1), "num_steps is -1"),
        (lambda: vaejax.training.cyclical(1.0, 10, num_cycles=0), "num_cycles is 0"),
        (lambda: vaejax.training.cyclical(1.0, 10, ratio=0.0), "ratio is 0"),
    ],
)
def test_schedules_check_their_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_reaches_the_loss_at_every_step_and_its_value_may_be_traced():
    vae = vaejax.gaussian_vae(
        latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
    )
    xs = jnp.zeros((6, 4, 4))

    def loss_fn(params, key, batch, *, beta):
        loss, _ = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))(
            params, key, batch, beta=beta
        )
        return loss, beta

    def betas(value):
        step = vaejax.make_train_step(
            loss_fn, optax.sgd(0.1), {"beta": vaejax.training.warm_up(value, 2)}
        )
        state = vaejax.init_train_state(vae, optax.sgd(0.1), jax.random.key(0), xs[0])
        return vaejax.make_train_epoch(step, 2)(state, xs)[1].terms

    np.testing.assert_allclose(
        jax.jit(jax.vmap(betas))(jnp.array([1.0, 4.0])), [[0, 0.5, 1], [0, 2, 4]]
    )
