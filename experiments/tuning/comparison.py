"""A search beside one process per trial: `python -m experiments.tuning.comparison DIR`.

DIR is the folder of a finished search. Each of its trials is run again as two processes,
one after another: a run of the program, which evaluates as little else as it can, and a
search of that one trial, which does what the whole search does for it and no more.
Half-way the search itself is run again twice, as it was and with nothing stopped. All
train the same settings and seeds for the same epochs on the same examples.
DIR/comparison.json has the seconds of each process, from its start to its end, and the
loss of each trial.
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


def compare(path: Path) -> dict[str, Any]:
    """Run everything again in turn, and return the content of comparison.json."""
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
    rows: dict[str, list[dict[str, Any]]] = {"programs": [], "searches_of_one": []}
    searches = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, trial in enumerate(trials):
            if number == len(trials) // 2:
                searches["search"] = _search(again, Path(folder, "search"))
                searches["without_stopping"] = _search(unstopped, Path(folder, "all"))
            words = command_of(program.name, trial)
            rows["programs"].append(_program(words, Path(folder, f"run-{number}")))
            words = _of_one(again, summary["trials"][number]["settings"])
            rows["searches_of_one"].append(_search(words, Path(folder, f"{number}")))
    sums = {
        name: {
            "wall_seconds": sum(one["wall_seconds"] for one in found),
            "cpu_seconds": sum(one["cpu_seconds"] for one in found),
            "validation": min(one["validation"] for one in found),
            "processes": found,
        }
        for name, found in rows.items()
    }
    return {
        **sums,
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
    folder = Path(sys.argv[1])
    found = compare(folder)
    run_dir.write_json(folder / "comparison.json", found)
    print(json.dumps(found, indent=2))
