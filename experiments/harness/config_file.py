"""config.json of a run folder: the version of the format, the program, the options.

The format is extended and never changed: a file without a version is of version 1, and
an option that is missing has its default, which leaves a run as it was.
"""

import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from experiments.harness.config import Config
from experiments.harness.errors import UsageError
from vaejax.datasets import CATALOGUE

VERSION = 2
# Where a run lies and what it runs on are not part of what it is, and may differ when
# it is resumed.
CIRCUMSTANCES = (
    "out",
    "resume",
    "extend",
    "members_at_once",
    "num_devices",
    "shard_parameters",
    "distributed",
)
# What the file holds beside the options.
BESIDE = ("format_version", "experiment", "working_directory")
# Options that may name files; not every program has all.
_PATHS = ("data", "data_dir", "schema")


def options_of(config: Any) -> dict[str, Any]:
    """Return the options as JSON holds them, without the `CIRCUMSTANCES`."""
    values = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(config).items()
    }
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
    return {name: value for name, value in values.items() if name not in CIRCUMSTANCES}


def content_of(name: str, config: Any) -> dict[str, Any]:
    """Return the content of config.json for a run of the program `name`."""
    options = options_of(config)
    beside: dict[str, Any] = {"format_version": VERSION, "experiment": name}
    relative = [
        option
        for option in _PATHS
        if _is_path(option, options.get(option), type(config))
        and not os.path.isabs(os.path.expanduser(options[option]))
    ]
    if relative:
        beside["working_directory"] = os.getcwd()
    return beside | options


def arguments_of(config: Any) -> list[str]:
    """Return the words of a command line that repeats a run from any directory.

    An option that is absent, False or empty is named where it is not by default.
    """
    words: list[str] = []
    defaults = options_of(type(config)())
    options = options_of(config)
    options.pop("extended_from", None)
    for option, value in options.items():
        is_absent = value is None or value is False or value == []
        if is_absent and value == defaults[option]:
            continue
        if option in _PATHS and _is_path(option, value, type(config)):
            value = _absolute(value)
        if isinstance(value, bool):
            words.append(flag(option) if value else f"--no-{flag(option)[2:]}")
        else:
            values = list(map(str, value if isinstance(value, list) else [value]))
            # What starts with a dash would be taken for an option.
            is_joined = len(values) == 1 and values[0].startswith("-")
            words += (
                [f"{flag(option)}={values[0]}"]
                if is_joined
                else [flag(option), *values]
            )
    return words


def read(name: str, path: Path, config_type: type[Config]) -> dict[str, Any]:
    """Return the options in a folder's config.json.

    Paths are those that the run was started with, made absolute where another working
    directory would not find them.

    Raises:
      UsageError: the file is missing or damaged, or of another program or version.
    """
    file = path / "config.json"
    saved = _load(file)
    if saved.get("experiment") != name:
        there = str(saved.get("experiment"))[:40]
        raise UsageError(
            f"--resume: {path} holds a run of {there!r}, not of {name}; give the "
            f"folder of a run of {name} with --out."
        )
    version = saved.get("format_version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise UsageError(
            f"--resume: {path} was made by a newer version (its format is {version}, "
            f"and this one reads up to {VERSION}); update vaejax."
        )
    base = saved.get("working_directory")
    saved = {key: value for key, value in saved.items() if key not in BESIDE}
    saved = options_of(config_type()) | saved
    unknown = sorted(saved.keys() - options_of(config_type()).keys())
    if unknown:
        raise UsageError(
            f"--resume: {path} was made by another version (it has the options "
            f"{unknown}, which this one lacks); start the run again in another folder."
        )
    _check_types(file, saved, config_type)
    return saved | {
        option: _found(saved[option], base)
        for option in _PATHS
        if isinstance(base, str)
        and _is_path(option, saved.get(option), config_type, base)
    }


def converted(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the dataclass holds them, from what JSON holds."""
    values = {
        option: tuple(value) if isinstance(value, list) else value
        for option, value in options.items()
    }
    folders = {name: options[name] for name in ("data_dir",) if name in options}
    return values | {name: value and Path(value) for name, value in folders.items()}


def check_same(path: Path, config: Any, saved: Mapping[str, Any]) -> None:
    """Raise UsageError where an option differs from that of the run in the folder.

    A run that is extended has more epochs. Data may have moved: they are compared by
    their content, once they are loaded.
    """
    extension = {**saved, **extended(path, config, saved)}
    for option, value in options_of(config).items():
        is_same = value in (saved[option], extension[option]) or (
            option in _PATHS
            and _is_path(option, value, type(config))
            and _names_no_set(option, saved[option], type(config))
        )
        if not is_same and option == "epochs" and value > saved[option]:
            raise UsageError(
                f"--resume: --epochs is {value} and the run in {path} has "
                f"{saved[option]}, over which its schedules run (most programs let the "
                "learning rate decay to zero); add --extend to train on under the "
                f"schedules of {value} epochs, or start another run."
            )
        if not is_same:
            raise UsageError(
                f"--resume: {flag(option)} is {value} and the run in {path} has "
                f"{saved[option]}; leave the flag out, or start another run."
            )


def extended(path: Path, config: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that --extend changes in the run of a folder.

    It is empty where --extend is not given, or the run has as many epochs already.

    Raises:
      UsageError: the run has not finished the epochs that it has.
    """
    if not getattr(config, "extend", False) or config.epochs <= saved["epochs"]:
        return {}
    try:
        finished = json.loads((path / "summary.json").read_text())["epochs"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        finished = None
    if finished != saved["epochs"]:
        raise UsageError(
            f"--extend: the run in {path} has not finished its {saved['epochs']} "
            "epochs; continue it with --resume alone first."
        )
    before = [*saved["extended_from"], saved["epochs"]]
    return {"epochs": config.epochs, "extended_from": before}


def flag(option: str) -> str:
    """Return the flag of an option."""
    return f"--{option.replace('_', '-')}"


def _load(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise UsageError(
            f"--resume: {file.parent} holds no run (no config.json); leave --resume "
            "out to start one."
        )
    try:
        saved = json.loads(file.read_text())
        if not isinstance(saved, dict):
            raise ValueError(f"it holds a {type(saved).__name__} and no options")
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    return saved


def _damaged(file: Path, reason: str) -> UsageError:
    return UsageError(
        f"--resume: {file} is damaged ({reason}); start the run again in another "
        "folder."
    )


def _check_types(
    file: Path, options: Mapping[str, Any], config_type: type[Config]
) -> None:
    hints = typing.get_type_hints(config_type)
    for option, value in options.items():
        if not _fits(value, hints[option]):
            raise _damaged(file, f"{option} is {json.dumps(value)[:60]}")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether what JSON holds can be the value of an option of this type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, list) and (
            all(_fits(item, parts[0]) for item in value)
            if parts[1:] == (...,)
            else len(value) == len(parts) and all(map(_fits, value, parts))
        )
    if hint in (int, float):
        number = int if hint is int else int | float
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, str if hint is Path else hint)


def _is_path(
    option: str, value: Any, config_type: type[Config], base: str = ""
) -> bool:
    """Return whether an option names a file, and not a data set known by its name."""
    if not value or not _names_no_set(option, value, config_type):
        return False
    return os.path.exists(os.path.join(base, os.path.expanduser(value)))


def _names_no_set(option: str, value: str | None, config_type: type[Config]) -> bool:
    return option != "data" or value not in {*CATALOGUE, config_type().data}


def _absolute(value: Any) -> Any:
    return value and os.path.abspath(os.path.expanduser(value))


def _found(value: str, base: str) -> str:
    """A path as given, or in the working directory that the run was started in."""
    if os.getcwd() == base:
        return value
    return os.path.join(base, os.path.expanduser(value))
