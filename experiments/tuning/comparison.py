"""A search beside one process per trial.

`python -m experiments.tuning.comparison DIR KIND` takes the folder of a finished search
and runs each of its trials again as a process, one after another. KIND is `programs`,
runs of the program that evaluate as little else as they can, or `searches`, each a
search of that one trial, which does what the whole search does for it and no more.
Half-way the search itself is run again twice, as it was and with nothing stopped. All
train the same settings and seeds for the same epochs on the same examples.
DIR/comparison_KIND.json has the seconds of each process, from its start to its end, and
the loss of each trial.
"""

import dataclasses
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.harness import Config, UsageError, manifest, run_dir
from experiments.harness.programs import load_program
from experiments.tuning.report import command_of
from experiments.tuning.trials import COMPLETE

# What a program evaluates at the end, where it has these options.
_LEAST = {"num_samples": 1, "num_annealed": 0}


def compare(path: Path, kind: str) -> dict[str, Any]:
    """Run everything again in turn, and return the content of the file."""
    summary, config = (
        run_dir.read_json(path / f"{name}.json") for name in ("summary", "config")
    )
    program = load_program(summary["program"])
    options = _options(program.config_type, config)
    trials = [
        dataclasses.replace(options, **trial["settings"]) for trial in summary["trials"]
    ]
    again = shlex.split(run_dir.read_json(path / "manifest.json")["command"])
    unstopped = _with(again, "--reduction-factor", 1)
    processes: list[dict[str, Any]] = []
    searches = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, trial in enumerate(trials):
            out = Path(folder, str(number))
            if number == len(trials) // 2:
                searches["search"] = _search(again, Path(folder, "search"))
                searches["without_stopping"] = _search(unstopped, Path(folder, "all"))
            if kind == "programs":
                processes.append(_program(command_of(program.name, trial), out))
            else:
                settings = summary["trials"][number]["settings"]
                processes.append(_search(_of_one(again, settings), out))
    return {
        "wall_seconds": sum(one["wall_seconds"] for one in processes),
        "cpu_seconds": sum(one["cpu_seconds"] for one in processes),
        "validation": min(one["validation"] for one in processes),
        "processes": processes,
        **searches,
        "load_average": os.getloadavg(),
        "environment": manifest.environment(),
    }


def _with(words: Sequence[str], flag: str, value: Any) -> list[str]:
    """A command with another value of one of its options."""
    place = words.index(flag) + 1
    return [*words[:place], str(value), *words[place + 1 :]]


def _of_one(words: Sequence[str], settings: dict[str, Any]) -> list[str]:
    """The command of a search of one trial, which has the program's own values."""
    own = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    dashes = [] if "--" in words else ["--"]
    return [*_with(words, "--trials", 1), *dashes, *own]


def _options(config_type: type[Config], config: dict[str, Any]) -> Config:
    """The options of the program in every trial, with the least evaluation."""
    import tyro

    options = tyro.cli(config_type, args=config["options"])
    own = {name: config[name] for name in ("seed", "num_seeds", "num_validation")}
    least = {name: value for name, value in _LEAST.items() if hasattr(options, name)}
    return dataclasses.replace(options, **own, **least)


def _program(words: Sequence[str], out: Path) -> dict[str, Any]:
    """Run the program, and return its seconds and its validation loss."""
    seconds = _timed([*words, "--out", str(out)])
    (row,) = run_dir.read_metrics(out)[-1:]
    summary = run_dir.read_json(out / "summary.json")
    return seconds | {
        "training_seconds": summary["training_seconds"],
        "validation": statistics.fmean(row["validation"]["negative_elbo"]),
    }


def _search(words: Sequence[str], out: Path) -> dict[str, Any]:
    """Run a search, and return its seconds and its best loss."""
    place = words.index("--") if "--" in words else len(words)
    seconds = _timed([*words[:place], "--out", str(out), *words[place:]])
    summary = run_dir.read_json(out / "summary.json")
    complete = [t for t in summary["trials"] if t["state"] == COMPLETE]
    return seconds | {
        "training_seconds": summary["training_seconds"],
        "validation": summary["best"]["validation"]["mean"],
        "settings": summary["best"]["settings"],
        "member_epochs": summary["member_epochs"],
        "complete": len(complete),
    }


def _timed(words: Sequence[str]) -> dict[str, float]:
    """Run a command of Python to its end; return its wall and processor seconds."""
    command, started = [sys.executable, *words[1:]], time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            raise UsageError(output.read().decode(errors="replace")[-2000:])
    return {
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
    }


if __name__ == "__main__":
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    if kind not in ("programs", "searches"):
        sys.exit(f"error: KIND is {kind}; give programs or searches.")
    found = compare(folder, kind)
    run_dir.write_json(folder / f"comparison_{kind}.json", found)
    print(json.dumps(found, indent=2))
