"""manifest.json of a run folder: what the numbers depend on, beside the options."""

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import vaejax
from experiments.harness import distributed, run_dir
from experiments.harness.errors import UsageError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python, vaejax and the libraries below it."""
    return {"python": platform.python_version(), "vaejax": vaejax.__version__} | {
        package: metadata.version(package) for package in PACKAGES
    }


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # a system without affinity


def xla_threads() -> int:
    """Return the number of threads that XLA computes with on the CPU."""
    if "--xla_cpu_multi_thread_eigen=false" in os.environ.get("XLA_FLAGS", ""):
        return 1
    for name in ("PJRT_NPROC", "NPROC"):
        if (text := os.environ.get(name, "")).isdecimal():
            return int(text)
    return num_cores()


def environment() -> dict[str, Any]:
    """Return what the last bits of a computation may depend on."""
    return {
        "versions": versions(),
        "device": (
            f"{jax.device_count()} x {jax.devices()[0].device_kind} "
            f"({jax.default_backend()})"
        ),
        "cores": num_cores(),
        "xla_threads": xla_threads(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in words how an environment differs from another; empty if it does not."""
    before, now = (
        {**one, **one.get("versions", {})} | {"versions": None} for one in (before, now)
    )
    return ", ".join(
        f"{name.replace('_', ' ')} {before.get(name) or 'none'}, now "
        f"{now.get(name) or 'none'}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    )


@distributed.by_first
def write(
    path: Path,
    *,
    command: str,
    seeds: list[int],
    data_checksum: str | None,
    params_digest: str | None,
    environments: list[dict[str, Any]] | None = None,
) -> None:
    """Write manifest.json.

    Args:
      path: the run folder.
      command: the command that repeats the run.
      seeds: the seeds of the run.
      data_checksum: SHA-256 of the data, or None where there are none.
      params_digest: SHA-256 of the parameters; None until the run is finished, or if
        nothing is trained.
      environments: the environments that the parameters were trained in, where there
        were several.
    """
    here = environment()
    manifest = {
        "command": command,
        "versions": here["versions"],
        "device": here["device"],
        "machine": (f"{platform.system()} {platform.machine()}, {here['cores']} cores"),
        "cores": here["cores"],
        "xla_threads": here["xla_threads"],
        "xla_flags": here["xla_flags"],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "key": {
            "implementation": str(jax.random.key_impl(jax.random.key(0))),
            "seeds": seeds,
        },
        "data_sha256": data_checksum,
        "params_sha256": params_digest,
    }
    if environments:
        manifest["environments"] = environments
    run_dir.write_json(path / "manifest.json", manifest)


def check_data(path: Path, data_checksum: str) -> None:
    """Raise UsageError where the folder's run was started with other data.

    A damaged manifest is named; a run that goes on writes it again.
    """
    file = path / "manifest.json"
    if not file.exists():
        return
    try:
        saved = json.loads(file.read_text())["data_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        print(
            f"warning: {file} is damaged ({type(error).__name__}: {error}); the data "
            "are compared with the last checkpoint alone",
            file=sys.stderr,
        )
        return
    if saved != data_checksum:
        raise UsageError(
            f"--resume: --data has changed since the run in {path} was started; start "
            "another run."
        )


def commit() -> str | None:
    """Return the commit of the checkout, marked where files differ.

    It is None where the programs are in no checkout of their own, as in an unpacked
    archive.
    """
    return _commit_of(Path(__file__).parents[2])


def _commit_of(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    # Git refuses another user's checkout, whose code runs here anyway.
    options = ["-C", str(root), "-c", f"safe.directory={root.resolve()}"]
    command = ["git", *options, "describe", "--always", "--dirty", "--abbrev=12"]
    # In a hook these name another repository.
    left_out = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {
        name: value for name, value in os.environ.items() if name not in left_out
    }
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env=environment,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return _head_of(root / ".git")


def _head_of(folder: Path) -> str | None:
    """The commit in Git's own files, where Git is missing or refuses them."""
    try:
        if folder.is_file():  # a worktree, whose references are those of all
            text = folder.read_text().removeprefix("gitdir:").strip()
            folder = folder.parent / text
        head = (folder / "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        if name != head:
            head = _reference(folder, name)
    except (OSError, ValueError, StopIteration):
        return None
    return f"{head[:12]}, not compared with the files"


def _reference(folder: Path, name: str) -> str:
    common = folder / "commondir"
    if common.exists():
        folder = folder / common.read_text().strip()
    if (folder / name).exists():
        return (folder / name).read_text().strip()
    packed = (folder / "packed-refs").read_text().splitlines()
    return next(line.split()[0] for line in packed if line.endswith(f" {name}"))
