"""The run folder: its files, replaced atomically, so that a kill leaves it readable.

metrics.jsonl has one line per epoch and is cut back to the last checkpoint when a run
resumes.
"""

import dataclasses
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from experiments.harness import config_file, distributed, run_lock
from experiments.harness.errors import UsageError
from vaejax.checkpoints import write_atomically

# What a run leaves that was killed before its options were written.
_TRACES = (run_lock.NAME, ".config.json.*.tmp", ".run.lock.*.tmp", "config.json.tmp")


class Claim(NamedTuple):
    """A run folder that no other run writes to.

    Attributes:
      path: the folder.
      check: raises RunError once the folder has gone or was taken over.
    """

    path: Path
    check: Callable[[], None]


def find(name: str, config: Any) -> Path:
    """Return the folder of a run, new or resumed; nothing is written.

    Args:
      name: the name of the program.
      config: its options. Where `resume` is set, each must be that of the run in the
        folder, but for the `config_file.CIRCUMSTANCES`.

    Raises:
      UsageError: --out holds a run already, or --resume finds none or another one.
    """
    if config.resume:
        path = config.out or _newest(name)
        if not _is_unstarted(path):
            saved = config_file.read(name, path, type(config))
            config_file.check_same(path, config, saved)
        return path
    if config.out is None and config.distributed:
        raise UsageError(
            "--distributed: the processes need one folder, which all of them reach; "
            "give it with --out."
        )
    path = config.out or _next_free(name)
    _check_free(path)
    return path


def saved_config(name: str, config: Any) -> Any:
    """Return the options of the run in --out, or of the newest one of the program.

    The `config_file.CIRCUMSTANCES` are those of `config`; `out` is the folder that was
    found. A run that was killed before its options were written has those of `config`.

    Raises:
      UsageError: there is no such run, or it is of another program or version.
    """
    path = config.out or _newest(name)
    if _is_unstarted(path):
        print(
            f"{path} holds no run yet, only its folder: starting from the beginning, "
            "with the options that are given",
            file=sys.stderr,
        )
        return dataclasses.replace(config, out=path)
    saved = config_file.converted(config_file.read(name, path, type(config)))
    return dataclasses.replace(config, **saved, out=path)


def command_to_continue(name: str, path: Path) -> str:
    """Return the command that continues the run in a folder."""
    module, folder = f"experiments.{name}", str(path.absolute())
    return shlex.join(["python", "-m", module, "--resume", "--out", folder])


def extended(name: str, config: Any) -> Any:
    """Return the options with what --extend changes; see `config_file.extended`.

    Raises:
      UsageError: --extend is given without --resume, or the run is not finished.
    """
    if not config.extend:
        return config
    if not config.resume:
        raise UsageError("--extend trains a finished run on; add --resume.")
    path = config.out or _newest(name)
    if _is_unstarted(path):
        return config
    saved = config_file.read(name, path, type(config))
    changes = config_file.converted(config_file.extended(path, config, saved))
    return dataclasses.replace(config, **changes)


@contextmanager
def claimed(path: Path, name: str, config: Any) -> Iterator[Claim]:
    """Make the folder, or enter it; hold its lock, and write the options into it.

    Where another run took a folder with a default name meanwhile, the next free one is
    made.

    Raises:
      UsageError: it cannot be written, or another run has it.
    """
    lock = distributed.decided_by_first(lambda: _claim(path, name, config))

    def check() -> None:
        distributed.decided_by_first(lambda: lock.check() if lock else None)

    try:
        yield Claim(lock.file.parent if lock else path, check)
    finally:
        if lock is not None:
            lock.release()


@distributed.by_first
def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically: a reader sees the old file or the new one."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file of the folder.

    Raises:
      UsageError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}).") from error


@distributed.by_first
def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """Append a line of metrics."""
    with open(path / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict]:
    """Return the lines of metrics.jsonl, by epoch; damaged ones are left out."""
    return _metrics(path)[0]


def missing_epochs(rows: Sequence[Mapping[str, Any]], epochs: int) -> list[int]:
    """Return the epochs up to `epochs` that have no line."""
    return sorted(set(range(1, epochs + 1)) - {row["epoch"] for row in rows})


@distributed.by_first
def cut_metrics(path: Path, epochs: int, last: Mapping[str, Any] | None = None) -> None:
    """Drop the lines of epochs that the last checkpoint does not hold.

    The line of its own epoch is `last`, should it be lost. Damaged lines and epochs
    without a line are named, and what was there is kept in metrics.damaged.jsonl.
    """
    file = path / "metrics.jsonl"
    rows, damaged = _metrics(path)
    kept = [row for row in rows if row["epoch"] <= epochs]
    if last is not None and last["epoch"] in missing_epochs(kept, epochs):
        kept = sorted([*kept, dict(last)], key=lambda row: row["epoch"])
    missing = missing_epochs(kept, epochs)
    if (damaged or missing) and file.exists():
        write_atomically(path / "metrics.damaged.jsonl", file.read_bytes())
    if damaged:
        print(f"warning: {file} has {damaged} damaged lines", file=sys.stderr)
    if missing:
        print(
            f"warning: {file} lacks {len(missing)} of {epochs} epochs (the first is "
            f"{missing[0]}): curves and training time leave them out",
            file=sys.stderr,
        )
    write_atomically(file, "".join(json.dumps(row) + "\n" for row in kept))


def command(name: str, config: Any) -> str:
    """Return the command that repeats a run of the program `name`, quoted.

    A run that was extended is repeated by a command for each of its parts.
    """
    module = ["python", "-m", f"experiments.{name}"]
    extended_from = getattr(config, "extended_from", ())
    commands, first = [], config
    if extended_from:
        first = dataclasses.replace(config, epochs=extended_from[0])
        commands = [
            [*module, "--resume", "--extend", "--epochs", str(epochs)]
            for epochs in (*extended_from[1:], config.epochs)
        ]
    commands.insert(0, [*module, *config_file.arguments_of(first)])
    return " && ".join(map(shlex.join, commands))


@distributed.by_first
def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures as PNG files, by name."""
    directory = path / "figures"
    directory.mkdir(exist_ok=True)
    for name, figure in figures.items():
        save = partial(figure.savefig, format="png", dpi=200, bbox_inches="tight")
        write_atomically(directory / f"{name}.png", save)


@distributed.by_first
def write_files(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their paths within the folder, each atomically."""
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)


def _claim(path: Path, name: str, config: Any) -> run_lock.RunLock:
    has_default_name = config.out is None and not config.resume
    try:
        while True:
            if not path.exists():
                lock = _make(path, name, config)
            else:
                lock = None if has_default_name else _enter(path, name, config)
            if lock is not None:
                return lock
            path = _next_free(name) if has_default_name else path
    except OSError as error:
        raise UsageError(
            f"--out {path} cannot be written ({error.strerror}); give another folder."
        ) from error


def _make(path: Path, name: str, config: Any) -> run_lock.RunLock | None:
    """Make the folder, locked and with its options; None where another run did."""
    # The folder takes its name when all is there: a kill leaves all of it or nothing.
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    staged.mkdir(parents=True)
    lock = None
    try:
        lock = run_lock.take(staged)
        write_json(staged / "config.json", config_file.content_of(name, config))
        staged.rename(path)
        lock.file = path / run_lock.NAME
        return lock
    except BaseException as error:
        if lock is not None:
            lock.release()
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, OSError) and path.is_dir():
            return None
        raise


def _enter(path: Path, name: str, config: Any) -> run_lock.RunLock:
    """Lock the folder, and write the options into it."""
    lock = run_lock.take(path)
    try:
        # Another run may have begun and ended here since the folder was found.
        if not config.resume:
            _check_free(path)
        elif not _is_unstarted(path):
            saved = config_file.read(name, path, type(config))
            config_file.check_same(path, config, saved)
        write_json(path / "config.json", config_file.content_of(name, config))
    except BaseException:
        lock.release()
        raise
    return lock


def _check_free(path: Path) -> None:
    """Raise UsageError where a new run may not begin in a folder."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {path} is a file; give a folder.")
    if (path / "config.json").exists():
        raise UsageError(
            f"--out {path} holds a run; add --resume to continue it, or give another "
            "folder."
        )
    if path.is_dir() and not _is_unstarted(path):
        raise UsageError(
            f"--out {path} is not empty and holds no run; give another folder."
        )


def _is_unstarted(path: Path) -> bool:
    """Return whether a folder is there and holds traces of a start at most."""
    return path.is_dir() and all(
        any(entry.match(trace) for trace in _TRACES) for entry in path.iterdir()
    )


def _metrics(path: Path) -> tuple[list[dict], int]:
    """The lines of metrics.jsonl, by epoch, and the number of damaged ones."""
    file = path / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
    # A last line without its end was cut off by a kill; it is written again.
    parsed = [_parsed(line) for line in lines[:-1]]
    rows = {row["epoch"]: row for row in parsed if row is not None}
    return [rows[epoch] for epoch in sorted(rows)], len(parsed) - len(rows)


def _parsed(line: bytes) -> dict | None:
    """A line of metrics; None where it is damaged."""
    try:
        row = json.loads(line)
        types = {"epoch": int, "step": int, "seconds": int | float, "train": dict}
        types |= {"test": dict}
        is_whole = all(isinstance(row[name], kind) for name, kind in types.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return row if is_whole else None


def _numbered(name: str) -> list[Path]:
    return sorted(
        path
        for path in Path("runs").glob(f"{name}-[0-9][0-9][0-9][0-9]")
        if path.is_dir()
    )


def _next_free(name: str) -> Path:
    existing = _numbered(name)
    return (
        Path("runs")
        / f"{name}-{int(existing[-1].name[-4:]) + 1 if existing else 1:04d}"
    )


def _newest(name: str) -> Path:
    existing = _numbered(name)
    if not existing:
        raise UsageError(
            f"--resume: there is no run of {name} in runs/; give its folder with --out."
        )
    return existing[-1]
