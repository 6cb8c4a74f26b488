"""Programs of milliseconds: several calls of one make one measurement of a round."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import vaejax
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.operations import operations_of
from experiments.benchmarks.timing import Program, measure, ratios, spread
from vaejax.base import Array, PyTree

SECONDS_A_ROUND = 0.1


class Prepared(NamedTuple):
    """A compiled program.

    Attributes:
      program: runs it once.
      operations: its floating-point operations.
      temporary_bytes: its temporary memory by the compiler's account, or None.
    """

    program: Program
    operations: float
    temporary_bytes: int | None


def prepare(
    function: Callable,
    state: PyTree,
    *args: PyTree,
    is_step: bool = False,
    while_iterations: int = 1,
) -> Prepared:
    """Compile a function of these arguments.

    Args:
      function: `(state, *args) -> results`.
      state: its first argument.
      *args: its other arguments.
      is_step: whether the results are `(state, outputs)`, of which each call takes the
        state of the one before, and its memory.
      while_iterations: length of its loop, where that is not fixed when compiled.
    """
    jitted = jax.jit(function, donate_argnums=(0,) if is_step else ())
    compiled = jitted.lower(state, *args).compile()

    def run(state: PyTree) -> tuple[PyTree, PyTree]:
        results = compiled(state, *args)
        return results if is_step else (state, results)

    operations = operations_of(
        function, compiled, state, *args, while_iterations=while_iterations
    )
    memory = getattr(compiled.memory_analysis(), "temp_size_in_bytes", None)
    return Prepared(Program(state, run), operations, memory)


def seconds_a_call(
    prepared: Mapping[str, Prepared], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of one call of each program, one number per round."""
    calls, programs = {}, {}
    for name, one in prepared.items():
        programs[name], calls[name] = repeat_within_round(one.program)
    times = measure(programs, rounds)
    return {
        name: [value / calls[name] for value in values]
        for name, values in times.seconds.items()
    }


def record_of(
    one: Prepared,
    seconds: Sequence[float],
    reference: Prepared,
    reference_seconds: Sequence[float],
) -> dict[str, Any]:
    """Return what the JSON file has of a program, relative to its reference."""
    time_ratios = ratios(seconds, reference_seconds)
    return {
        "seconds": list(seconds),
        "seconds_median": statistics.median(seconds),
        "ratios": time_ratios,
        "ratio": spread(time_ratios)._asdict(),
        "operations": one.operations,
        "operations_ratio": one.operations / reference.operations,
        "temporary_bytes": one.temporary_bytes,
    }


def binary_batch(bench: Bench) -> Array:
    """Return the first batch of the main job, binarized, `[batch, pixels]`."""
    images = jnp.asarray(bench.experiment.train[: bench.experiment.batch_size])
    keys = jax.random.split(jax.random.key(1), len(images))
    return jax.vmap(vaejax.binarize)(keys, images.reshape(len(images), -1))


def repeat_within_round(program: Program) -> tuple[Program, int]:
    """Return a program that makes so many calls that they take `SECONDS_A_ROUND`."""
    state, seconds = program.state, []
    for _ in range(3):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(program.run(state))
        seconds.append(time.perf_counter() - started)
    calls = max(1, min(100, round(SECONDS_A_ROUND / min(seconds))))

    def run(state: PyTree) -> tuple[PyTree, PyTree]:
        results = None
        for _ in range(calls):
            state, results = jax.block_until_ready(program.run(state))
        return state, results

    return Program(state, run), calls
