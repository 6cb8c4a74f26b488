"""Section `startup`: the start of a fresh process."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks import fresh
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.report import interval, table
from experiments.benchmarks.timing import spread

STARTS = 3


def startup_section(bench: Bench) -> dict[str, Any]:
    """Measure the start of a fresh process, up to its first finished training step.

    It starts without and with JAX's compilation cache.
    """
    if jax.default_backend() != "cpu":
        print(f"\nStart: {fresh.NEEDS_CPU}")
        return {"not_measured": {"startup": fresh.NEEDS_CPU}}
    stages: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
    with tempfile.TemporaryDirectory() as directory:
        fresh.run_first_step(bench.config.data, Path(directory))  # fills the cache
        for _ in range(STARTS):
            stages["cold"].append(fresh.run_first_step(bench.config.data, None))
            stages["cached"].append(
                fresh.run_first_step(bench.config.data, Path(directory))
            )
    totals = {
        name: [sum(start.values()) for start in starts]
        for name, starts in stages.items()
    }
    lines = [
        [
            stage,
            *(
                f"{statistics.median(start[stage] for start in starts):.2f}"
                for starts in stages.values()
            ),
        ]
        for stage in fresh.STAGES
    ]
    lines.append(["first step finished after", *map(interval, totals.values())])
    print(
        f"\nStart of a fresh process, in seconds: median of {STARTS}; cached is JAX's "
        "persistent compilation cache"
    )
    print(table(["", *stages], lines))
    return {"stages": stages, "totals": totals} | {
        name: spread(values)._asdict() for name, values in totals.items()
    }
