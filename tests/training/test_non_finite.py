"""Steps that are not finite: undone, counted, and told from those that are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.programs import users_settings

from vaejax import TrainState, make_train_step
from vaejax.training import (
    averaged_state,
    init_average,
    init_skipped_steps,
    with_average,
    with_skipped_steps,
)


def loss_fn(params, key, batch):
    return jnp.mean(batch) * jnp.sum(jnp.square(params - 1)), ()


def start(optimizer, params=None):
    params = jnp.zeros(2) if params is None else params
    return init_skipped_steps(
        TrainState(params, optimizer.init(params), jax.random.key(0), jnp.int32(0))
    )


def train(optimizer, batches, modify=lambda step: step, init=lambda state: state):
    with users_settings():
        step = jax.jit(with_skipped_steps(modify(make_train_step(loss_fn, optimizer))))
        state = init(start(optimizer))
        for batch in batches:
            state, _ = step(state, jnp.float32(batch))
    return state


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(0.1),
        optax.lion(0.1),
        optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    ],
    ids=["adam", "lion", "accumulated", "clipped"],
)
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(optimizer, bad):
    batches = [1.0, 2.0, 1.0, 3.0]
    # As if the step had not been, but for its number.
    expected = train(optimizer, batches)
    found = train(optimizer, [*batches[:2], bad, bad, *batches[2:]])
    assert found.step == 6
    assert found.extra["skipped"] == (2, 0)
    for one, other in zip(
        jax.tree.leaves((found.params, found.opt_state)),
        jax.tree.leaves((expected.params, expected.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_steps_in_a_row_are_counted():
    optimizer = optax.sgd(0.1)
    assert train(optimizer, [1, np.nan, np.nan, 1, np.nan]).extra["skipped"] == (3, 1)


def test_the_average_stays_with_the_parameters():
    def modify(step):
        return with_average(step, 0.5)

    optimizer = optax.sgd(0.1)
    expected = train(optimizer, [1.0, 1.0], modify, init_average)
    found = train(optimizer, [1.0, np.nan, 1.0], modify, init_average)
    np.testing.assert_array_equal(
        averaged_state(found).params, averaged_state(expected).params
    )


def test_an_optimizer_may_start_from_an_infinite_best_value():
    optimizer = optax.chain(
        optax.sgd(0.1),
        optax.GradientTransformation(
            lambda params: jnp.full((), jnp.inf), lambda u, s, p=None: (u, s)
        ),
    )
    assert train(optimizer, [1.0, 2.0]).extra["skipped"].total == 0
