"""A moving average, early stopping, skipped gradients and half precision, each against
what it says it does.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.programs import users_settings

import vaejax
from vaejax.training import averaging

VAE = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
)
OPTIMIZER = optax.sgd(0.1)
STEP = vaejax.make_train_step(
    vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE)), OPTIMIZER
)
BATCH = jax.random.bernoulli(jax.random.key(7), 0.3, (10, 4, 4)).astype(jnp.float32)


def start():
    return vaejax.init_train_state(VAE, OPTIMIZER, jax.random.key(0), BATCH[0])


def leaves_close(one, other, **options):
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, **options)


def test_the_average_is_the_weighted_sum_of_every_step():
    state, plain, expected = (
        vaejax.training.init_average(start()),
        start(),
        start().params,
    )
    step = jax.jit(vaejax.training.with_average(STEP, 0.9))
    for _ in range(5):
        state, _ = step(state, BATCH)
        plain, _ = jax.jit(STEP)(plain, BATCH)
        expected = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, expected, plain.params)
    leaves_close(state.params, plain.params)
    leaves_close(
        vaejax.training.averaged_state(state).params, expected, rtol=1e-5, atol=1e-7
    )
    assert vaejax.training.averaged_state(plain) is plain


@pytest.mark.parametrize("decay", [1.0, -0.1, 2])
def test_the_decay_of_an_average_is_checked(decay):
    with pytest.raises(ValueError, match="decay is"):
        vaejax.training.with_average(STEP, decay)


def stop_at(losses, patience=2):
    """States of one member each, after evaluations with these losses; parameters are
    the number of the evaluation.
    """
    state = vaejax.training.init_early_stopping(start()._replace(params=jnp.zeros(())))
    for number, loss in enumerate(losses, 1):
        state = state._replace(
            params=jnp.full((), float(number)), step=jnp.asarray(10 * number, jnp.int32)
        )
        state = vaejax.training.update_early_stopping(
            state, jnp.asarray(loss, jnp.float32), patience=patience
        )
    return state.extra[averaging.STOPPING], vaejax.training.best_state(state).params


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


@pytest.mark.slow
def test_half_precision_rounds_the_networks_and_nothing_else():
    half = vaejax.models.with_compute_dtype(VAE, jnp.bfloat16)
    params = VAE.init(jax.random.key(0), BATCH[0])
    posterior, likelihood = (
        half.encode(params, BATCH[0]),
        half.decode(params, jnp.zeros(2)),
    )
    assert isinstance(posterior, vaejax.Normal) and isinstance(
        likelihood, vaejax.Bernoulli
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((posterior, likelihood))} == {
        jnp.dtype("float32")
    }
    hlo = jax.jit(half.decode).lower(params, jnp.zeros(2)).as_text()
    assert (
        "bf16" in hlo
        and "bf16" not in jax.jit(VAE.decode).lower(params, jnp.zeros(2)).as_text()
    )
    loss = vaejax.mean_over_batch(partial(vaejax.negative_elbo, half))
    gradient = jax.grad(lambda params: loss(params, jax.random.key(1), BATCH)[0])(
        params
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    full = vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE))(
        params, jax.random.key(1), BATCH
    )[0]
    difference = abs(loss(params, jax.random.key(1), BATCH)[0] - full)
    assert 0 < difference < 0.02 * full
    with pytest.raises(TypeError, match="int32"):
        vaejax.models.with_compute_dtype(VAE, jnp.int32)


def test_a_gradient_that_is_not_finite_is_skipped_and_counted():
    optimizer = optax.apply_if_finite(OPTIMIZER, 2**31 - 1)

    def loss_fn(params, key, batch):
        loss, terms = vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE))(
            params, key, batch
        )
        return loss * jnp.where(batch[0, 0, 0] > 1, jnp.nan, 1.0), terms

    with users_settings():
        state = vaejax.init_train_state(VAE, optimizer, jax.random.key(0), BATCH[0])
        step = jax.jit(vaejax.make_train_step(loss_fn, optimizer))
        after, metrics = step(state, BATCH + 2)
        leaves_close(after.params, state.params, rtol=0)
        assert (
            np.isnan(metrics.loss)
            and after.step == 1
            and after.opt_state.total_notfinite == 1
        )
        again, _ = step(after, BATCH)
    assert again.opt_state.notfinite_count == 0 and again.opt_state.total_notfinite == 1
    pairs = zip(*map(jax.tree.leaves, (after.params, again.params)), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)
