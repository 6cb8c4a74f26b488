"""Processes find each other by their environment, and the script for SLURM."""

import subprocess
from pathlib import Path

import pytest
from support import slurm
from support.slurm import step

from experiments.harness import cluster
from experiments.harness.errors import UsageError

NAMED = {
    "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


def test_variables_of_jax_come_before_every_cluster():
    expected = {
        "coordinator_address": "127.0.0.1:1234",
        "num_processes": 2,
        "process_id": 1,
        "cluster_detection_method": "deactivate",
    }
    assert cluster.arguments("auto", NAMED) == expected
    in_a_step = cluster.arguments("auto", NAMED | step())
    assert in_a_step == expected | {"local_device_ids": []}
    portless = {"JAX_COORDINATOR_ADDRESS": "[::1]"}
    assert cluster.arguments("auto", {"JAX_PROCESS_ID": "0"}) == {"process_id": 0}
    with pytest.raises(UsageError, match="give HOST:PORT"):
        cluster.arguments("auto", NAMED | portless)
    apart = {"JAX_COORDINATOR_ADDRESS": "first", "JAX_COORDINATOR_PORT": "99"}
    named = cluster.arguments("auto", NAMED | apart)
    assert named["coordinator_address"] == "first:99"
    assert cluster.arguments("auto", {}) == {}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is two; give an integer"),
        ({"JAX_PROCESS_ID": "2"}, "the index is 2; give one from 0 to 1"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID is -1"),
        ({"JAX_COORDINATOR_ADDRESS": "host:99999"}, "the port is 99999"),
        ({"JAX_COORDINATOR_ADDRESS": "host"}, "is host:; give HOST:PORT"),
    ],
)
def test_a_variable_that_cannot_be_is_refused(variables, words):
    with pytest.raises(UsageError, match=words):
        cluster.arguments("auto", NAMED | variables)


FOUR, TWO = "0,1,2,3", "4,5"


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        # One task per node has all devices, however many it is told of.
        (step(), []),
        (step(node=1, CUDA_VISIBLE_DEVICES=FOUR), []),
        # One task per device, all of which it sees.
        (step(2, "4(x2)", CUDA_VISIBLE_DEVICES=FOUR), [2]),
        (step(2, "4(x2)", SLURM_GPUS_ON_NODE="4"), [2]),
        (step(1, "2", ROCR_VISIBLE_DEVICES=FOUR), [2, 3]),
        # One task per device, of which it sees its own.
        (step(2, "4(x2)", CUDA_VISIBLE_DEVICES="0"), []),
        (step(1, "2", CUDA_VISIBLE_DEVICES=TWO, SLURM_GPUS_ON_NODE="4"), []),
        (step(1, "2", CUDA_VISIBLE_DEVICES=TWO, SLURM_GPUS_ON_NODE="2"), [1]),
        # Nodes that differ.
        (step(0, "2(x3),1", 3, CUDA_VISIBLE_DEVICES=TWO), []),
        (step(1, "2(x3),1", 2, CUDA_VISIBLE_DEVICES=TWO), [1]),
        # Left to JAX: what is not told, and what was chosen.
        (step(1, "2"), None),
        (step(0, "many", CUDA_VISIBLE_DEVICES=FOUR), None),
        (step(node=2, CUDA_VISIBLE_DEVICES=FOUR), None),
        (step(CUDA_VISIBLE_DEVICES=FOUR, JAX_LOCAL_DEVICE_IDS="3"), None),
        (step(1, "3", CUDA_VISIBLE_DEVICES=FOUR, JAX_PLATFORMS="cpu"), None),
        ({"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": FOUR}, None),
        (
            {
                "OMPI_MCA_orte_hnp_uri": "17.0;tcp://127.0.0.1:1",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
                "CUDA_VISIBLE_DEVICES": FOUR,
            },
            [2, 3],
        ),
    ],
)
def test_a_process_takes_its_devices_of_the_node(environment, devices):
    found = cluster.arguments("auto", environment)
    assert found == ({} if devices is None else {"local_device_ids": devices})


def test_devices_that_processes_cannot_share_are_refused():
    with pytest.raises(UsageError, match="3 processes .* cannot share its 4 devices"):
        cluster.arguments("auto", step(1, "3", CUDA_VISIBLE_DEVICES=FOUR))


def test_what_auto_lacks_is_said(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    assert "with srun" in cluster.missing({"SLURM_JOB_ID": "17"})
    assert "extra `k8s`" in cluster.missing({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    some = cluster.missing({"JAX_PROCESS_ID": "0"})
    assert some.startswith("JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES not set: ")
    assert cluster.missing({}) == cluster.missing(NAMED) == ""


def test_a_host_that_is_not_known_yet_is_waited_for(capsys):
    known = {"coordinator_address": "127.0.0.1:1"}
    cluster.check_host("auto", known)
    assert not capsys.readouterr().err
    cluster.check_host("auto", {"coordinator_address": "a b:1"})
    assert "the host a b is not found" in capsys.readouterr().err


def submit(folder: Path, srun: str) -> tuple[int, list[str], list[str]]:
    """Run the script; return its status and the calls of `srun` and `scontrol`."""
    environment = slurm.job(folder, f'echo "$@" >> srun.txt\n{srun}')
    arguments = ["bash", str(slurm.SCRIPT), "mnist", "--seed", "3"]
    status = subprocess.run(arguments, cwd=folder, env=environment).returncode
    calls = (folder / name for name in ("srun.txt", "scontrol.txt"))
    return status, *(
        file.read_text().splitlines() if file.exists() else [] for file in calls
    )


def test_the_script_requeues_a_run_that_was_stopped_until_it_has_finished(tmp_path):
    # SLURM may send the signal to the shell too.
    stopped = 'mkdir -p runs/mnist-job-17; kill -TERM "$PPID"'
    status, starts, requests = submit(tmp_path, stopped)
    assert status == 0 and requests == ["requeue 17"]
    command = "python -m experiments.mnist --seed 3 --distributed auto --out runs/"
    assert command in starts[0] and "--resume" not in starts[0]
    status, starts, requests = submit(tmp_path, "touch runs/mnist-job-17/report.html")
    assert status == 0 and requests == ["requeue 17"]
    assert command in starts[1] and starts[1].endswith(" --resume")


def test_the_script_requeues_no_run_that_failed(tmp_path):
    status, _, requests = submit(tmp_path, "exit 3")
    assert status == 3 and not requests
