"""Early stopping: what is kept, when it stops, and that a stopped member is frozen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.epochs import seed_state

import vaejax
from vaejax import checkpoints

VAE = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
)
OPTIMIZER = optax.sgd(0.1)
STEP = vaejax.make_train_step(
    vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE)), OPTIMIZER
)
BATCH = jax.random.bernoulli(jax.random.key(7), 0.3, (10, 4, 4)).astype(jnp.float32)


def stop_at(losses, patience=2):
    """States of one member each, after evaluations with these losses; parameters are
    the number of the evaluation.
    """
    state = vaejax.training.init_early_stopping(
        seed_state()._replace(params=jnp.zeros(()))
    )
    for number, loss in enumerate(losses, 1):
        state = state._replace(
            params=jnp.full((), float(number)), step=jnp.asarray(10 * number, jnp.int32)
        )
        state = vaejax.training.update_early_stopping(
            state, jnp.asarray(loss, jnp.float32), patience=patience
        )
    return state.extra["stopping"], vaejax.training.best_state(state).params


def test_early_stopping_keeps_the_best_and_waits_as_long_as_asked():
    stopping, params = stop_at([3, 2, 5, 1, 4])
    assert (stopping.best_loss, params, stopping.best_step, stopping.stopped) == (
        1,
        4,
        40,
        False,
    )
    stopping, params = stop_at([3, 2, 5, np.nan, 1])
    assert (stopping.best_loss, params, stopping.best_step, stopping.stopped) == (
        2,
        2,
        20,
        True,
    )
    assert not stop_at([np.nan])[0].stopped
    assert (
        stop_at([np.nan, np.nan, 1])[1] == 2
    )  # never finite: where it stopped, not where it began
    with pytest.raises(ValueError, match="patience is 0"):
        stop_at([1], patience=0)


@pytest.mark.slow
def test_a_stopped_member_is_frozen_and_the_others_go_on():
    states = jax.vmap(
        lambda key: vaejax.init_train_state(VAE, OPTIMIZER, key, BATCH[0])
    )(jax.vmap(jax.random.key)(jnp.arange(2)))
    states = jax.vmap(vaejax.training.init_early_stopping)(states)
    stopping = states.extra["stopping"]._replace(stopped=jnp.array([True, False]))
    states = states._replace(extra={"stopping": stopping})
    epoch = vaejax.training.with_early_stopping(vaejax.make_train_epoch(STEP, 5))
    after, _ = jax.jit(jax.vmap(epoch, in_axes=(0, None)))(states, BATCH)
    assert after.step.tolist() == [2, 2]
    for old, new in zip(
        *map(jax.tree.leaves, (states.params, after.params)), strict=True
    ):
        assert np.array_equal(old[0], new[0])
    pairs = zip(*map(jax.tree.leaves, (states.params, after.params)), strict=True)
    assert any(not np.array_equal(a[1], b[1]) for a, b in pairs)


def test_members_that_stopped_are_told_apart():
    states = jax.vmap(lambda _: vaejax.training.init_early_stopping(seed_state()))(
        jnp.arange(2)
    )
    assert vaejax.training.has_stopped(states).tolist() == [False, False]
    states = jax.vmap(partial(vaejax.training.update_early_stopping, patience=1))(
        states, jnp.array([1.0, jnp.nan])
    )
    assert vaejax.training.has_stopped(states).tolist() == [False, True]
    assert not vaejax.training.has_stopped(seed_state())


def test_leaves_have_the_names_that_saved_checkpoints_have():
    state = seed_state()._replace(params={"w": jnp.zeros(2)})
    state = vaejax.training.init_early_stopping(vaejax.training.init_average(state))
    assert checkpoints.describe(state) == {
        ".params['w']": "float32 [2]",
        ".key": "key<threefry2x32> []",
        ".step": "int32 []",
        ".extra['average']['w']": "float32 [2]",
        ".extra['stopping'].best_loss": "float32 []",
        ".extra['stopping'].best_params['w']": "float32 [2]",
        ".extra['stopping'].best_step": "int32 []",
        ".extra['stopping'].waited": "int32 []",
        ".extra['stopping'].stopped": "bool []",
    }


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_no_improvement(loss):
    state = vaejax.TrainState(jnp.ones(2), (), jax.random.key(0), jnp.int32(0))
    state = vaejax.training.init_early_stopping(state)
    for number in (jnp.bfloat16(2), loss, np.float64(loss)):
        state = vaejax.training.update_early_stopping(state, number, patience=2)
    stopping = state.extra["stopping"]
    assert stopping.best_loss == 2 and stopping.stopped
