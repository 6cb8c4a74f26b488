"""A program on a local Ray cluster of two workers, one of which is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.programs import ENVIRONMENT, ROOT, SMALL, npz

from experiments.harness import UsageError, run_dir, run_lock
from experiments.on_ray import Config, launch

LONG = [*SMALL, "--epochs", "12", "--batch-size", "20"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"program": "nothing"}, "'nothing' is not a program that trains"),
        ({"program": "mnist", "workers": 0}, "--workers is 0; give a positive number"),
        ({"program": "mnist", "max_failures": -1}, "--max-failures is -1"),
        ({"program": "mnist", "options": ("--epochs", "0")}, "--epochs is 0"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_cluster_starts(
    tmp_path, monkeypatch, options, said
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(UsageError, match=said):
        launch(Config(out=tmp_path / "run", **options))


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="install the extra ray"):
        launch(Config("mnist", tmp_path / "run"))


def start(path: Path, data: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.on_ray", "mnist", "--workers", "2"]
    command += ["--out", str(path), "--", *LONG, "--data", str(data)]
    with (path.with_suffix(".log")).open("w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )


def finish(process: subprocess.Popen, path: Path) -> str:
    assert process.wait(250) == 0, path.with_suffix(".log").read_text()[-3000:]
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["device"].startswith("2 x")
    return manifest["params_sha256"]


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("two processes")
def test_a_run_whose_worker_is_killed_ends_as_if_it_had_not_been(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    npz()(tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = finish(start(whole, tmp_path / "data.npz"), whole)

    process = start(killed, tmp_path / "data.npz")
    while not (killed / "config.json").exists() or not run_dir.read_metrics(killed):
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.01)
    holder = run_lock.read(killed / run_lock.NAME)
    os.kill(holder["process"], signal.SIGKILL)
    before = len(run_dir.read_metrics(killed))
    assert before < 12
    assert finish(process, killed) == undisturbed
    rows = run_dir.read_metrics(killed)
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    # Ray says that it started again, and shows the metrics of the epochs.
    log = killed.with_suffix(".log").read_text()
    assert log.count("run folder:") > whole.with_suffix(".log").read_text().count(
        "run folder:"
    )
