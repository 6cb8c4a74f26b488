"""What goes wrong outside the program: a full disk, a limit on files, a kill in the
middle of a save.
"""

import errno
import json
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.programs import ENVIRONMENT, ROOT, SMALL, command, execute, npz, status_of

from experiments.harness import run_dir
from vaejax import checkpoints

pytestmark = [pytest.mark.program, pytest.mark.xdist_group("faults")]
SIZES = [*SMALL, "--epochs", "4"]


def digest(path: Path) -> str:
    return json.loads((path / "manifest.json").read_text())["params_sha256"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, list[str]]:
    """An undisturbed run, and the options that name its data."""
    path = tmp_path_factory.mktemp("finished")
    npz()(path)
    data = ["--data", str(path / "data.npz")]
    assert status_of([*SIZES, *data, "--out", str(path / "run")]) == 0
    return path / "run", data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (checkpoints, "save", 3),
        pytest.param(run_dir, "append_metrics", 3, marks=pytest.mark.slow),
        pytest.param(run_dir, "write_json", 4, marks=pytest.mark.slow),
        pytest.param(run_dir, "write_figures", 1, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_ends_the_run_with_a_line_and_it_goes_on_from_there(
    finished, tmp_path, monkeypatch, capfd, module, name, call
):
    path, data = finished
    original, calls = getattr(module, name), []

    def fails_once(*args, **options):
        calls.append(name)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))
        return original(*args, **options)

    monkeypatch.setattr(module, name, fails_once)
    assert status_of([*SIZES, *data, "--out", str(tmp_path / "run")]) == 1
    message = capfd.readouterr().err.splitlines()[-1]
    assert (
        message.startswith("error: ")
        and "No space left on device" in message
        and "--resume" in message
    )
    assert status_of(["--resume", "--out", str(tmp_path / "run")]) == 0
    assert digest(tmp_path / "run") == digest(path)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_is_one_line(finished, tmp_path):
    """A limit on the size of files, which the system enforces as it does a quota."""
    run = shlex.join(
        command(*SIZES, *finished[1], "--hidden-size", "64", "--out", tmp_path / "run")
    )
    environment = {
        name: value
        for name, value in ENVIRONMENT.items()
        if "COMPILATION_CACHE" not in name
    }
    result = subprocess.run(
        ["bash", "-c", f"ulimit -f 20; exec {run}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    last = result.stderr.splitlines()[-1]
    assert (
        result.returncode == 1
        and last.startswith("error: ")
        and "File too large" in last
    ), result.stderr[-2000:]
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoints_before_it(
    finished, tmp_path
):
    path, data = tmp_path / "undisturbed", finished[1]
    # In a process of its own, as the one that is killed.
    assert execute(*SIZES, *data, "--out", path).returncode == 0
    unfinished = []
    for attempt in range(10):
        run = tmp_path / f"run{attempt}"
        process = subprocess.Popen(
            command(*SIZES, *data, "--out", run),
            cwd=ROOT,
            env=ENVIRONMENT,
            stderr=subprocess.DEVNULL,
        )
        while not (run / "config.json").exists() or len(run_dir.read_metrics(run)) < 2:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        while process.poll() is None and not list((run / "checkpoints").glob("*tmp*")):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        unfinished = list((run / "checkpoints").glob("*tmp*"))
        if unfinished:
            break
    assert unfinished, "no save was met"
    assert execute("--resume", "--out", run).returncode == 0
    assert digest(run) == digest(path)
