"""Schedules at the steps where they turn, and inside a compiled step."""

import contextlib
import inspect
import math
from fractions import Fraction
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


#: name -> (schedule of a length and a number of cycles, its exact value at a step)
SCHEDULES = {
    "warm_up": (
        lambda value, length, cycles: vaejax.training.warm_up(value, length),
        lambda step, length, cycles: min(Fraction(step, length), Fraction(1)),
    ),
    "logistic_warm_up": (
        lambda value, length, cycles: vaejax.training.logistic_warm_up(value, length),
        lambda step, length, cycles: 1 / (1 + math.exp(-10 * (step / length - 0.5))),
    ),
    "cyclical": (
        lambda value, length, cycles: vaejax.training.cyclical(
            value, length, num_cycles=cycles, ratio=0.75
        ),
        lambda step, length, cycles: (
            min(Fraction(step * cycles, length) % 1 / Fraction(3, 4), Fraction(1))
            if step < length
            else Fraction(1)
        ),
    ),
}
LENGTHS = [
    (220, 2),
    *(
        (int(length), int(cycles))
        for length, cycles in zip(
            np.random.default_rng(0).integers(1, 2000, 199),
            np.random.default_rng(1).integers(1, 9, 199),
            strict=True,
        )
    ),
]
# One shape for all, so that eager steps compile once.
STEPS = np.arange(2003, dtype=np.int32)


@contextlib.contextmanager
def optimized():
    """Compile as programs do, and not as the tests do."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def test_every_schedule_is_in_the_table():
    functions = {
        name: getattr(vaejax.training, name)
        for name in vaejax.training.__all__
        if inspect.isfunction(getattr(vaejax.training, name))
    }
    assert SCHEDULES.keys() == {
        name
        for name, function in functions.items()
        if inspect.signature(function).return_annotation == vaejax.training.Schedule
    }


@pytest.mark.sampled(every=100)
@pytest.mark.parametrize(("length", "cycles"), LENGTHS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_eager_and_compiled_values_are_one_at_every_step(name, length, cycles):
    make, exact = SCHEDULES[name]
    schedule = make(3.3, length, cycles)
    eager = np.asarray(schedule(jnp.asarray(STEPS)))
    with optimized():
        np.testing.assert_array_equal(jax.jit(schedule)(STEPS), eager)
        # Scalars, which XLA divides in another way than arrays.
        one_by_one = jax.jit(lambda steps: jax.lax.map(schedule, steps))(STEPS)
        np.testing.assert_array_equal(one_by_one, eager)
    for step in (1, length // cycles, length - 1, length):
        assert float(schedule(step)) == float(jax.jit(schedule)(step)) == eager[step]
    np.testing.assert_allclose(
        eager[: length + 3],
        [3.3 * float(exact(step, length, cycles)) for step in range(length + 3)],
        rtol=2e-6,
        atol=1e-9,
    )
    if name != "logistic_warm_up":
        np.testing.assert_array_equal(eager[length:], np.float32(3.3))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_of_any_type_has_the_same_value(name):
    schedule = SCHEDULES[name][0](0.7, 220, 2)
    for step in (0, 1, 54, 110, 163, 219, 220, 255):
        of_types = [
            step,
            *(cast(step) for cast in (float, np.int64, np.int32, np.uint8, np.float32)),
            *(jnp.asarray(step, dtype) for dtype in (jnp.int32, jnp.uint32)),
            jnp.asarray(step, jnp.float32),
        ]
        values = {float(schedule(each)) for each in of_types}
        values |= {float(jax.jit(schedule)(each)) for each in of_types[:3]}
        assert len(values) == 1, (step, values)
    assert float(schedule(10**12)) == float(schedule(np.float64(1e12)))


def test_cycles_of_many_steps_do_not_overflow():
    schedule = vaejax.training.cyclical(1.0, 2_000_000_000, num_cycles=1000)
    # Half of the rise of the last cycle, and its rest.
    last = 2_000_000_000 - 2_000_000
    assert float(schedule(last)) == 0 and float(schedule(last + 500_000)) == 0.5
    assert float(schedule(last + 1_500_000)) == 1


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
