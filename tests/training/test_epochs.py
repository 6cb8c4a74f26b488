"""Training epochs: the order of the data, resumption, seeds, and what must fit."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.epochs import (
    EPOCH,
    STEP,
    advance,
    one_device_sharding,
    report_batch,
    seed_state,
    start,
)

from vaejax import checkpoints, make_train_epoch
from vaejax.training import epoch_order

DISPATCH = jax.jit(make_train_epoch(STEP, 10, steps_per_dispatch=2))


# order


@cache
def report_epoch(**options):
    return jax.jit(make_train_epoch(report_batch, 5, **options))


def order_of(num_calls, *, seed=0, step=0, **options):
    """The examples of each step, `[steps, 5]`, of 23: four steps an epoch."""
    state, batches = seed_state(seed, step), []
    for _ in range(num_calls):
        state, batch = report_epoch(**options)(state, np.arange(23))
        batches.append(np.asarray(batch))
    return np.concatenate(batches)


def test_an_epoch_visits_an_example_at_most_once():
    order = order_of(30).reshape(30, 20)
    assert all(len(set(epoch)) == 20 for epoch in order.tolist())
    assert set(order.ravel().tolist()) == set(range(23))


def test_epochs_and_seeds_have_their_own_order():
    orders = [order_of(2, seed=seed).reshape(2, 20).tolist() for seed in (0, 1, 0)]
    assert orders[0] == orders[2]
    assert len({tuple(epoch) for order in orders for epoch in order}) == 4


@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 4])
def test_dispatches_cross_epochs_in_the_same_order(steps_per_dispatch):
    order = order_of(12 // steps_per_dispatch, steps_per_dispatch=steps_per_dispatch)
    np.testing.assert_array_equal(order, order_of(3))


@pytest.mark.parametrize("first", [1, 3, 6])
def test_an_epoch_may_start_at_any_step(first):
    np.testing.assert_array_equal(
        order_of(1, step=first), order_of(3)[first : first + 4]
    )


def test_leaves_of_the_data_stay_together():
    _, batches = report_epoch()(
        seed_state(), {"x": np.arange(23), "label": 100 + np.arange(23)}
    )
    np.testing.assert_array_equal(batches["label"], batches["x"] + 100)


def test_batch_sharding_changes_no_batch():
    np.testing.assert_array_equal(
        order_of(1, batch_sharding=one_device_sharding()), order_of(1)
    )


# resumption and seeds


@pytest.mark.slow
def test_eight_and_twelve_steps_are_twenty_bitwise(tmp_path):
    state, _ = advance(DISPATCH, start(0), 4)
    checkpoints.save(tmp_path, state, step=8)
    resumed = advance(DISPATCH, checkpoints.restore(tmp_path, start(1)), 6)
    straight = advance(DISPATCH, state, 6)
    assert straight[0].step == 20
    assert checkpoints.digest(resumed) == checkpoints.digest(straight)


@pytest.mark.slow
def test_dispatches_train_as_epochs_do():
    whole, metrics = advance(EPOCH, start(0), 2)
    part, part_metrics = advance(DISPATCH, start(0), 5)
    assert whole.step == part.step == 10
    # Two programs, which the compiler may fuse differently: equal to float tolerance,
    # not bitwise.
    np.testing.assert_allclose(metrics.loss, part_metrics.loss, rtol=1e-5)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        whole.params,
        part.params,
    )


@pytest.mark.slow
def test_vmapped_seeds_follow_single_runs():
    many = jax.jit(jax.vmap(make_train_epoch(STEP, 10), in_axes=(0, None)))
    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(start, range(3)))
    states, metrics = advance(many, starts, 4, axis=1)
    for seed in range(3):
        state, single = advance(EPOCH, start(seed), 4)
        assert states.step[seed] == state.step == 20
        np.testing.assert_allclose(metrics.loss[seed], single.loss, rtol=1e-5)
        stacked = jax.tree.map(lambda leaf, seed=seed: leaf[seed], states.params)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
            stacked,
            state.params,
        )


# errors


@pytest.mark.parametrize(
    ("batch_size", "steps_per_dispatch"), [(0, None), (2.0, None), (5, 0)]
)
def test_counts_must_be_positive(batch_size, steps_per_dispatch):
    with pytest.raises(ValueError, match="give a positive integer"):
        make_train_epoch(
            report_batch, batch_size, steps_per_dispatch=steps_per_dispatch
        )


def test_batches_and_dispatches_must_fit_the_data():
    with pytest.raises(ValueError, match="batch_size is 21 and the data hold 20"):
        make_train_epoch(report_batch, 21)(seed_state(), np.arange(20))
    with pytest.raises(ValueError, match="steps_per_dispatch is 5 and an epoch has 4"):
        make_train_epoch(report_batch, 5, steps_per_dispatch=5)(
            seed_state(), np.arange(20)
        )
    with pytest.raises(ValueError, match="leading axis"):
        make_train_epoch(report_batch, 5)(
            seed_state(), {"x": np.arange(20), "label": np.arange(19)}
        )


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 70_000])
def test_order_is_a_permutation(size):
    order = epoch_order(jax.random.key(0), 0, size)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_orders_are_uniform():
    num_orders = 24_000
    orders = jax.vmap(lambda epoch: epoch_order(jax.random.key(1), epoch, 4))(
        jnp.arange(num_orders)
    )
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 24
    # The sum of squares has 23 degrees of freedom: mean 23, variance 46.
    expected = num_orders / 24
    assert abs(np.sum((counts - expected) ** 2) / expected - 23) < 5 * np.sqrt(46)


def test_places_of_a_long_order_are_uniform_and_independent():
    size, num_orders = 60_000, 40
    orders = np.stack(
        [epoch_order(jax.random.key(2), epoch, size) for epoch in range(num_orders)]
    )
    # Correlations of place and index, and of neighbors, have deviation size^(-1/2).
    scaled = orders / (size - 1) * np.sqrt(12) - np.sqrt(3)
    by_place = scaled @ scaled[0] / size
    by_index = scaled @ (np.arange(size) / (size - 1) * np.sqrt(12) - np.sqrt(3)) / size
    neighbors = np.mean(scaled[:, 1:] * scaled[:, :-1], axis=1)
    bound = 5 / np.sqrt(size)  # standard errors
    assert np.abs(by_place[1:]).max() < bound
    assert np.abs(by_index).max() < bound and np.abs(neighbors).max() < bound
