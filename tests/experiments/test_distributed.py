"""A program on one device, on eight and in two processes: the same losses, and runs
that move between them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import slurm
from support.programs import (
    EIGHT_DEVICES,
    ENVIRONMENT,
    ROOT,
    SMALL,
    as_npy,
    command,
    execute,
    free_port,
    images,
    npz,
    status_of,
)

from experiments.harness import run_dir
from vaejax import checkpoints

LONG = [*SMALL, "--epochs", "8", "--batch-size", "40"]


def losses(path: Path) -> list[float]:
    return [row["train"]["loss"][0] for row in run_dir.read_metrics(path)]


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> tuple[Path, list[str]]:
    """An uninterrupted run on one device, and the options that name its data."""
    path = tmp_path_factory.mktemp("single")
    npz()(path)
    data = ["--data", str(path / "data.npz")]
    assert status_of([*LONG, *data, "--out", str(path / "run")]) == 0
    return path / "run", data


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("eight devices")
def test_a_run_interrupted_on_eight_devices_goes_on_on_one(single, tmp_path):
    path, data = single
    arguments = command(*LONG, *data, "--out", tmp_path / "run", "--shard-parameters")
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=EIGHT_DEVICES, stderr=subprocess.DEVNULL
    )
    wait_for(tmp_path / "run", 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert 2 <= len(losses(tmp_path / "run")) < 8
    assert status_of(["--resume", "--out", str(tmp_path / "run")]) == 0
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(path), rtol=1e-4)


def wait_for(path: Path, epochs: int, *running: subprocess.Popen) -> None:
    while (
        not (path / "config.json").exists() or len(run_dir.read_metrics(path)) < epochs
    ):
        assert all(process.poll() is None for process in running), (
            "the run ended too early"
        )
        time.sleep(0.01)


def start_two(
    path: Path, *arguments: str, second: tuple[str, ...] = ()
) -> list[subprocess.Popen]:
    """Start two processes of one run; the second one has more arguments."""
    port = free_port()
    return [
        subprocess.Popen(
            command(
                *arguments,
                *(second if index else ()),
                "--out",
                path,
                "--distributed",
                f"127.0.0.1:{port},2,{index}",
            ),
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def finish(running: list[subprocess.Popen]) -> None:
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("two processes")
def test_two_processes_are_one_run(single, tmp_path):
    path, data = single
    finish(start_two(tmp_path / "run", *LONG, *data, "--shard-parameters"))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(path), rtol=1e-4)
    one, two = (
        json.loads((run / "summary.json").read_text())["test"]
        for run in (path, tmp_path / "run")
    )
    assert one["nll"]["mean"] == pytest.approx(two["nll"]["mean"], rel=1e-4)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["device"].startswith("2 x")


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("two processes")
def test_two_processes_stream_two_seeds_as_one_process_holds_them(single, tmp_path):
    _, data = single
    own = as_npy(data[1], tmp_path / "own")
    seeds = [*LONG, "--num-seeds", "2"]
    assert status_of([*seeds, *data, "--out", str(tmp_path / "one")]) == 0
    finish(start_two(tmp_path / "two", *seeds, *own))
    one, two = (
        [row["train"]["loss"] for row in run_dir.read_metrics(tmp_path / name)]
        for name in ("one", "two")
    )
    assert np.shape(one) == (8, 2)
    np.testing.assert_allclose(two, one, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("two processes")
@pytest.mark.parametrize("differing", ["--seed 5", "--learning-rate 0.1", "--data"])
def test_two_processes_that_differ_stop_before_the_first_step(tmp_path, differing):
    npz()(tmp_path)
    (tmp_path / "other").mkdir()
    npz(test_images=1 - images(20, 4, 4))(tmp_path / "other")
    second = tuple(differing.split())
    if differing == "--data":
        second = ("--data", str(tmp_path / "other" / "data.npz"))
    data = ["--data", str(tmp_path / "data.npz")]
    running = start_two(tmp_path / "run", *LONG, *data, second=second)
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 2, errors[-3000:]
        assert f"error: --distributed: {second[0]} is" in errors
        assert "in process 1" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("two processes")
def test_when_a_worker_dies_the_run_ends_and_loses_nothing_but_the_steps_since(
    single, tmp_path
):
    path, data = single
    many = [*LONG, "--epochs", "400"]
    running = start_two(tmp_path / "run", *many, *data)
    wait_for(tmp_path / "run", 3, *running)
    running[1].kill()
    _, errors = running[0].communicate(timeout=200)
    assert running[0].returncode != 0 and running[1].wait() != 0
    done = len(losses(tmp_path / "run"))
    assert checkpoints.latest(tmp_path / "run" / "checkpoints") is not None
    running = start_two(tmp_path / "run", "--resume")
    wait_for(tmp_path / "run", done + 1, *running)
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors[-3000:]
    assert checkpoints.latest(tmp_path / "run" / "checkpoints") == 2 * len(
        losses(tmp_path / "run")
    )


JOIN = """
import sys, jax
from experiments.harness import distributed
distributed.join("auto")
visible = jax.config.values["jax_cuda_visible_devices"]
print(jax.process_index(), jax.process_count(), visible, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("two processes")
@pytest.mark.parametrize(
    ("environments", "visible"),
    [
        ([slurm.step(node=0), slurm.step(node=1)], ["all", "all"]),
        (
            [slurm.step(i, "2", CUDA_VISIBLE_DEVICES="0,1,2,3") for i in range(2)],
            ["0,1", "2,3"],
        ),
        (
            [
                {
                    "JAX_COORDINATOR_ADDRESS": "127.0.0.1",
                    "JAX_NUM_PROCESSES": "2",
                    "JAX_PROCESS_ID": str(index),
                    # Where nobody answers: JAX is not asked.
                    "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                }
                for index in range(2)
            ],
            ["all", "all"],
        ),
    ],
    ids=["a node each", "devices each", "variables"],
)
def test_two_processes_find_each_other_by_the_environment(environments, visible):
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN],
            env=ENVIRONMENT | port | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    for index, process in enumerate(running):
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors[-3000:]
        assert errors.splitlines()[-1] == f"{index} 2 {visible[index]}"


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("two processes")
def test_a_job_of_slurm_that_is_preempted_is_requeued_and_goes_on(single, tmp_path):
    path, data = single
    job = slurm.job(tmp_path, slurm.TWO_NODES, JAX_COORDINATOR_PORT=str(free_port()))
    script = ["bash", str(slurm.SCRIPT), "mnist", *LONG, *data]
    out = tmp_path / "runs/mnist-job-17"
    running = subprocess.Popen(script, cwd=tmp_path, env=job)
    wait_for(out, 2, running)
    for task in (tmp_path / "tasks.txt").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    assert running.wait(200) == 0
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"
    assert 2 <= len(losses(out)) < 8
    job |= {"SLURM_RESTART_COUNT": "1"}
    assert subprocess.run(script, cwd=tmp_path, env=job).returncode == 0
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"
    assert (out / "report.html").exists()
    np.testing.assert_allclose(losses(out), losses(path), rtol=1e-4)


@pytest.mark.slow
def test_processes_that_cannot_be_read():
    result = execute("--distributed", "here")
    assert result.returncode == 2 and "HOST:PORT,PROCESSES,INDEX" in result.stderr
    result = execute("--distributed", "auto", "--out", "never")
    assert (
        result.returncode == 2
        and "cannot be joined" in result.stderr
        and not (ROOT / "never").exists()
    )
    result = execute("--distributed", "127.0.0.1:1,1,0")
    assert result.returncode == 2 and "--out" in result.stderr
