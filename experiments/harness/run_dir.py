"""The run folder: its files, replaced atomically, so that a kill leaves it readable.

metrics.jsonl has one line per epoch and is cut back to the last checkpoint when a run
resumes.
"""

import dataclasses
import datetime
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import vaejax
from experiments.harness import distributed
from experiments.harness.errors import UsageError
from vaejax.checkpoints import write_atomically

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# Where a run lies and what it runs on are not part of what it is, and may differ when
# it is resumed.
CIRCUMSTANCES = (
    "out",
    "resume",
    "members_at_once",
    "num_devices",
    "shard_parameters",
    "distributed",
)


def find(name: str, config: Any) -> Path:
    """Return the folder of a run, new or resumed; nothing is written.

    Args:
      name: the name of the program.
      config: its options. Where `resume` is set, each must be that of the run in the
        folder, but for the `CIRCUMSTANCES`.

    Raises:
      UsageError: --out holds a run already, or --resume finds none or another one.
    """
    if config.resume:
        path = config.out or _newest(name)
        _check_same(path, config, _read_saved(name, path, config))
        return path
    if config.out is None and config.distributed:
        raise UsageError(
            "--distributed: the processes need one folder, which all of them reach; "
            "give it with --out."
        )
    path = config.out or _next_free(name)
    if (path / "config.json").exists():
        raise UsageError(
            f"--out {path} holds a run; add --resume to continue it, or give another "
            "folder."
        )
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"--out {path} is not empty and holds no run; give another folder."
        )
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {path} is a file; give a folder.")
    return path


def saved_config(name: str, config: Any) -> Any:
    """Return the options of the run in --out, or of the newest one of the program.

    The `CIRCUMSTANCES` are those of `config`; `out` is the folder that was found.

    Raises:
      UsageError: there is no such run, or it is of another program or version.
    """
    path = config.out or _newest(name)
    saved = _read_saved(name, path, config)
    converted: dict[str, Any] = {
        option: tuple(value)
        for option, value in saved.items()
        if isinstance(value, list)
    }
    converted["data_dir"] = saved["data_dir"] and Path(saved["data_dir"])
    return dataclasses.replace(config, **saved | converted, out=path)


def create(path: Path, name: str, config: Any) -> Path:
    """Make the folder and write the configuration into it.

    Where another run took a folder with a default name meanwhile, the next free one is
    made.

    Raises:
      UsageError: it cannot be written.
    """
    try:
        while config.out is None:
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                path = _next_free(name)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", {"experiment": name} | _plain(config))
    except OSError as error:
        raise UsageError(
            f"--out {path} cannot be written ({error.strerror}); give another folder."
        ) from error
    return path


def check_data(path: Path, data_checksum: str) -> None:
    """Raise UsageError where the folder's run was started with other data."""
    file = path / "manifest.json"
    if file.exists() and json.loads(file.read_text())["data_sha256"] != data_checksum:
        raise UsageError(
            f"--resume: --data has changed since the run in {path} was started; start "
            "another run."
        )


@distributed.by_first
def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically: a reader sees the old file or the new one."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@distributed.by_first
def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """Append a line of metrics."""
    with open(path / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict]:
    """Return the lines of metrics.jsonl."""
    file = path / "metrics.jsonl"
    # A last line without its end was cut off by a kill; it is written again.
    return (
        [
            json.loads(line)
            for line in file.read_text().splitlines(True)
            if line.endswith("\n")
        ]
        if file.exists()
        else []
    )


@distributed.by_first
def cut_metrics(path: Path, epochs: int) -> None:
    """Drop the lines of epochs that the last checkpoint does not hold."""
    rows = [row for row in read_metrics(path) if row["epoch"] <= epochs]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path / "metrics.jsonl", lines)


@distributed.by_first
def write_manifest(
    path: Path,
    *,
    seeds: list[int],
    data_checksum: str | None,
    params_digest: str | None,
) -> None:
    """Write manifest.json: versions, device, data and keys that the numbers depend on.

    `params_digest` is None until the run is finished, or if nothing is trained.
    """
    manifest = {
        "command": command(json.loads((path / "config.json").read_text())),
        "versions": {"python": platform.python_version(), "vaejax": vaejax.__version__}
        | {package: metadata.version(package) for package in PACKAGES},
        "device": (
            f"{jax.device_count()} x {jax.devices()[0].device_kind} "
            f"({jax.default_backend()})"
        ),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "key": {
            "implementation": str(jax.random.key_impl(jax.random.key(0))),
            "seeds": seeds,
        },
        "data_sha256": data_checksum,
        "params_sha256": params_digest,
    }
    write_json(path / "manifest.json", manifest)


def command(config: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, from the content of its config.json."""
    options = {
        name: value
        for name, value in config.items()
        if name != "experiment" and value not in (None, [])
    }
    # A switch is given by its name alone.
    options = {
        name: [] if value is True else value
        for name, value in options.items()
        if value is not False
    }
    words = {
        name: value if isinstance(value, list) else [value]
        for name, value in options.items()
    }
    flags = " ".join(
        shlex.join([f"--{name.replace('_', '-')}", *map(str, values)])
        for name, values in words.items()
    )
    return f"python -m experiments.{config['experiment']} {flags}"


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


def _read_saved(name: str, path: Path, config: Any) -> dict[str, Any]:
    """The options in config.json; UsageError where they are not those of `config`."""
    file = path / "config.json"
    if not file.exists():
        raise UsageError(
            f"--resume: {path} holds no run (no config.json); leave --resume out to "
            "start one."
        )
    try:
        saved = json.loads(file.read_text())
    except ValueError as error:
        raise UsageError(
            f"--resume: {file} is damaged ({error}); start the run again in another "
            "folder."
        ) from error
    if saved.pop("experiment", None) != name:
        raise UsageError(
            f"--resume: {path} holds a run of another experiment, not of {name}; give "
            "its folder with --out."
        )
    # An option that came later has the default that leaves a run as it was.
    saved = _plain(type(config)()) | saved
    unknown = sorted(saved.keys() - _plain(config).keys())
    if unknown:
        raise UsageError(
            f"--resume: {path} was made by another version (it has the options "
            f"{unknown}, which this one lacks); start the run again in another folder."
        )
    return saved


def _check_same(path: Path, config: Any, saved: dict[str, Any]) -> None:
    for option, value in _plain(config).items():
        if value != saved[option]:
            raise UsageError(
                f"--resume: --{option.replace('_', '-')} is {value} and the run in "
                f"{path} has {saved[option]}; "
                "leave the flag out, or start another run."
            )


def _commit() -> str | None:
    """The commit of the checkout, marked where files differ; None without one."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _plain(config: Any) -> dict[str, Any]:
    values = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(config).items()
    }
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
    return {name: value for name, value in values.items() if name not in CIRCUMSTANCES}


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
