"""Programs as a user runs them, in this process or another, on data of a test."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from experiments import mnist
from experiments.harness import cli, run_dir

ROOT = Path(__file__).parents[2]
SMALL = [
    "--epochs",
    "2",
    "--hidden-size",
    "8",
    "--latent-size",
    "2",
    "--batch-size",
    "50",
    "--num-annealed",
    "0",
    "--num-samples",
    "2",
]
# The programs of many runs are the same: compile them once.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix="vaejax-compiled-"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}
EIGHT_DEVICES = ENVIRONMENT | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}

# For `preexec_fn`: what runs the tests may ignore Ctrl-C, as background shells do.
heed_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


def images(*shape: int, dtype=np.uint8) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)


def npz(**arrays: np.ndarray) -> Callable[[Path], None]:
    """Writes data.npz, valid but for what is given."""
    return lambda path: np.savez(
        path / "data.npz",
        **(
            {"train_images": images(100, 4, 4), "test_images": images(20, 4, 4)}
            | arrays
        ),
    )


def as_npy(data: Path, folder: Path) -> list[str]:
    """Write the images of an .npz as .npy files, and return the option of them."""
    folder.mkdir()
    arrays = np.load(data)
    for part in ("train", "test"):
        np.save(folder / f"{part}.npy", arrays[f"{part}_images"])
    return ["--data", str(folder)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def users_settings() -> Iterator[None]:
    """JAX as a user has it: the libraries that programs use are not written for the
    tests' strictness.
    """
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        yield


def status_of(arguments: list[str], program: ModuleType = mnist) -> int:
    """The exit status of the main job, or of another program, run in this process."""
    argv, sys.argv = sys.argv, [program.__name__, *arguments]
    try:
        with users_settings():
            cli.train(program.Config, program.make_experiment, program.analyze)
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = argv
    return 0


def command(*arguments: str | Path, module: str = "experiments.mnist") -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def execute(
    *arguments: str | Path, cwd: Path = ROOT, module: str = "experiments.mnist"
) -> subprocess.CompletedProcess:
    """The main job, or another program, in a process of its own."""
    return subprocess.run(
        command(*arguments, module=module),
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def check_folder(path: Path) -> None:
    """Check what a finished run of the main job leaves, of two epochs and seed 0."""
    names = (
        "learning_curves",
        "reconstructions",
        "samples",
        "interpolations",
        "manifold",
    )
    figures = list((path / "figures").iterdir())
    assert {file.name for file in figures} == {f"{name}.png" for name in names}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in figures)
    assert [row["epoch"] for row in run_dir.read_metrics(path)] == [1, 2]
    config, manifest, summary = (
        json.loads((path / f"{name}.json").read_text())
        for name in ("config", "manifest", "summary")
    )
    assert (config["seed"], config["epochs"], config["latent_size"]) == (0, 2, 2)
    assert manifest["versions"]["jax"] == jax.__version__
    assert len(manifest["data_sha256"]) == 64
    assert manifest["command"].startswith(
        "python -m experiments.mnist --seed 0 --num-seeds 1 --epochs 2"
    )
    assert manifest["wall_seconds"] > summary["training_seconds"]
    test = summary["test"]
    elbo = test["log_likelihood"]["mean"] - test["kl"]["mean"]
    assert test["negative_elbo"]["mean"] == pytest.approx(-elbo, rel=1e-5)
    report = (path / "report.html").read_text()
    assert report.count("data:image/png;base64,") == len(figures)
    # It is self-contained.
    assert manifest["params_sha256"] in report and '="http' not in report
