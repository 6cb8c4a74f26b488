"""Times of programs that run in turn, round after round.

A shared machine's speed drifts several-fold within minutes. Programs that are compared
therefore run in the same round, and the ratios of each round are what counts.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from vaejax.base import PyTree


class Program(NamedTuple):
    """A program to be timed repeatedly.

    Attributes:
      state: argument of the first call.
      run: `state -> (state, output)`; a program that trains puts out the loss of every
        step, in nats.
    """

    state: PyTree
    run: Callable[[PyTree], tuple[PyTree, PyTree]]


class Times(NamedTuple):
    """The result of `measure`, without the first round and its compilation.

    Attributes:
      seconds: seconds of each program, one number per round.
      outputs: the last output of each program.
      rates: FLOP/s of each shape of matrix product, one number per round.
    """

    seconds: dict[str, list[float]]
    outputs: dict[str, PyTree]
    rates: dict[str, list[float]]

    @property
    def best_rates(self) -> list[float]:
        """The best rate of any shape, in each round."""
        return [max(rates) for rates in zip(*self.rates.values(), strict=True)]

    @property
    def last_losses(self) -> dict[str, float]:
        """The mean loss over the last run's steps, of each program."""
        return {
            name: float(np.mean(jax.device_get(output)))
            for name, output in self.outputs.items()
        }


def measure(
    programs: Mapping[str, Program],
    rounds: int,
    probe: Callable[[], dict[str, float]] = dict,
) -> Times:
    """Run every program once per round, in turn, and the probe beside them.

    One round before the others is not counted.
    """
    states = {name: program.state for name, program in programs.items()}
    times = Times({name: [] for name in programs}, {}, {})
    for number in tqdm(
        range(rounds + 1), unit="round", dynamic_ncols=True, leave=False
    ):
        for name, program in programs.items():
            started = time.perf_counter()
            states[name], times.outputs[name] = jax.block_until_ready(
                program.run(states[name])
            )
            if number:
                times.seconds[name].append(time.perf_counter() - started)
        for shape, rate in probe().items():
            if number:
                times.rates.setdefault(shape, []).append(rate)
    return times


def seconds_of(function: Callable, *args: Any) -> float:
    """Return the seconds of one call, to its finished result."""
    started = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - started


class Spread(NamedTuple):
    """Median and range over rounds."""

    median: float
    min: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    """Return median and range."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Return the ratios of each round."""
    return [value / other for value, other in zip(values, reference, strict=True)]


def record(
    seconds: Sequence[float], reference: Sequence[float], num_steps: int
) -> dict[str, Any]:
    """Return the content of one row of the JSON file."""
    relative = ratios(seconds, reference)
    return {
        "seconds": list(seconds),
        "seconds_median": statistics.median(seconds),
        "microseconds_a_step": 1e6 * statistics.median(seconds) / num_steps,
        "ratios": relative,
        "ratio": spread(relative)._asdict(),
    }


def floor_seconds(flops: float, times: Times) -> list[float]:
    """Return the time of that many operations at the best rate of each round."""
    return [flops / rate for rate in times.best_rates]
