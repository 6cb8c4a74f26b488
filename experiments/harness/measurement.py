"""Programs that train nothing: a command line, a folder with configuration, numbers and
figures, a report.
"""

import dataclasses
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import tyro

from experiments.harness import interrupts, run, run_dir
from experiments.harness.errors import UsageError
from experiments.harness.experiment import Result
from experiments.harness.interrupts import Interrupted


@dataclasses.dataclass(frozen=True)
class Config:
    """The options that every measurement takes."""

    seed: int = 0
    """Seed of the first repetition."""
    num_seeds: int = 1
    """Repetitions (seed, seed + 1, ...); numbers are mean and std over them."""
    out: Path | None = None
    """Folder of the results; by default the next free of runs/NAME-0001,
    runs/NAME-0002, ...
    """

    # What runs that train have beside; see `folder.find`.
    resume: ClassVar[bool] = False
    distributed: ClassVar[str | None] = None

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.num_seeds))

    def check(self) -> None:
        """UsageError where options contradict one another, before anything is written."""


Measure = Callable[[Any, Callable[[], None]], Result]
"""`(config, check_interrupts) -> Result`; the second ends the program when the user has
asked for that.
"""


def measure(name: str, config: Config, function: Measure) -> dict[str, Any]:
    """Runs a measurement into its folder. Returns its summary."""
    started = time.perf_counter()
    run.check_options(config)
    config.check()
    path, config = run_dir.find(name, config)
    path = run_dir.create(path, name, config)
    print(f"folder: {path}", flush=True)
    with interrupts.requests() as check_interrupts:
        result = function(config, check_interrupts)
    summary = {
        "experiment": name,
        "data": "generated",
        "seeds": config.seeds,
    } | result.summary
    run_dir.write_json(path / "summary.json", summary)
    run_dir.write_manifest(
        path, seeds=config.seeds, data_checksum=None, params_digest=None
    )
    run.show(path, {}, result, sys.modules[function.__module__])
    print(f"done in {time.perf_counter() - started:.0f} s")
    return summary


def main(config_type: type[Config], function: Measure) -> None:
    """The command line; a user's mistake is answered in one line, with exit status 2."""
    module = importlib.import_module(function.__module__)
    name = Path(module.__file__).stem
    config = tyro.cli(
        config_type, prog=f"python -m experiments.{name}", description=module.__doc__
    )
    try:
        measure(name, config, function)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(
            f"error: {error.filename or 'a file'}: {error.strerror or error}; mend "
            "that",
            file=sys.stderr,
        )
        sys.exit(1)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_status)
