"""The processes of a run, as `--distributed` and the environment name them.

Pure functions of the option and the environment's variables, but for the look-up of a
host's name. What they leave out, JAX finds by itself.
"""

import importlib.util
import re
import socket
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from experiments.harness.errors import UsageError

# Variables that Kubeflow Trainer, scripts of SkyPilot and people set.
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
VARIABLES = (ADDRESS, COUNT, INDEX)
# Variables that JAX knows a step of SLURM by.
_SLURM = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def arguments(option: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `jax.distributed.initialize`.

    Args:
      option: what `--distributed` says: HOST:PORT,PROCESSES,INDEX, or auto, which reads
        `VARIABLES` where they are set and leaves the rest to JAX.
      environment: the variables of the environment, by name.

    Raises:
      UsageError: the option or a variable cannot be read, or the devices of a node
        cannot be shared by its processes.
    """
    if option == "auto":
        return _named(environment) | _devices(environment)
    try:
        address, count, index = option.split(",")
        numbers = int(count), int(index)
    except ValueError:
        _refuse(option)
    return _checked(f"--distributed {option}", address, *numbers)


def missing(environment: Mapping[str, str]) -> str:
    """Return what `auto` may lack in an environment, as a sentence; or nothing."""
    absent = [name for name in VARIABLES if not environment.get(name)]
    if 0 < len(absent) < len(VARIABLES):
        return f"{' and '.join(absent)} not set: set all of {', '.join(VARIABLES)}."
    if "SLURM_JOB_ID" in environment and not _is_step(environment):
        return "In a job of SLURM, start the program with srun."
    if (
        "KUBERNETES_SERVICE_HOST" in environment
        and importlib.util.find_spec("kubernetes") is None
    ):
        return f"In Kubernetes, install the extra `k8s`, or set {', '.join(VARIABLES)}."
    return ""


def check_host(option: str, arguments: Mapping[str, Any]) -> None:
    """Look the host of the first process up, which JAX waits for in silence.

    Where the option names it, it must be found. A scheduler may start its processes
    before their names are known: then a line says what is waited for.

    Raises:
      UsageError: the host that the option names is not found.
    """
    if "coordinator_address" not in arguments:
        return
    host = arguments["coordinator_address"].rpartition(":")[0]
    try:
        socket.getaddrinfo(host.strip("[]"), None)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = f"the host {host[:80]} is not found ({reason})"
        if option == "auto":
            print(f"{ADDRESS}: {problem}; waiting for it", file=sys.stderr, flush=True)
            return
        raise UsageError(
            f"--distributed {option}: {problem}; give the address of the first process."
        ) from error


def _refuse(option: str) -> NoReturn:
    raise UsageError(
        f"--distributed {option}: give auto, or HOST:PORT,PROCESSES,INDEX such as "
        "10.0.0.1:1234,2,0."
    ) from None


def _checked(source: str, address: str, count: int, index: int) -> dict[str, Any]:
    """The arguments that name the processes, within their limits: JAX waits beyond."""
    host, _, text = address.rpartition(":")
    try:
        port = int(text)
        if not host:
            raise ValueError
    except ValueError as error:
        raise UsageError(
            f"{source}: the address of the first process is {address[:80]}; give "
            "HOST:PORT, such as 10.0.0.1:1234."
        ) from error
    limits = {
        "port": (port, 1, 65535),
        "number of processes": (count, 1, 2**31 - 1),
        "index": (index, 0, count - 1),
    }
    for name, (number, low, high) in limits.items():
        if not low <= number <= high:
            raise UsageError(
                f"{source}: the {name} is {number}; give one from {low} to {high}."
            )
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
    }


def _named(environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that `VARIABLES` give; JAX completes them, or finds all itself."""
    found = {name: environment[name] for name in VARIABLES if environment.get(name)}
    numbers = {name: _number(name, found[name]) for name in found.keys() - {ADDRESS}}
    if ADDRESS in found and ":" not in found[ADDRESS]:
        found[ADDRESS] += f":{environment.get('JAX_COORDINATOR_PORT', '')}"
    if len(found) < len(VARIABLES):
        names = {
            ADDRESS: "coordinator_address",
            COUNT: "num_processes",
            INDEX: "process_id",
        }
        return {names[name]: value for name, value in (found | numbers).items()}
    checked = _checked(ADDRESS, found[ADDRESS], numbers[COUNT], numbers[INDEX])
    return checked | {"cluster_detection_method": "deactivate"}


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{name} is {text[:80]}; give an integer of at least 0.")
    return int(text)


def _devices(environment: Mapping[str, str]) -> dict[str, list[int]]:
    """The devices of a process under SLURM or Open MPI, where JAX takes one of each.

    JAX takes the device of the process's place on its node, which is one of several
    where the process has the node to itself, and none where the scheduler shows every
    process its own devices. An empty list stands for all that the process sees.
    """
    chosen = environment.get("JAX_LOCAL_DEVICE_IDS")
    on_cpu = environment.get("JAX_PLATFORMS") == "cpu"
    place = None if chosen or on_cpu else _place(environment)
    if place is None:
        return {}
    local, tasks = place
    if tasks == 1:
        return {"local_device_ids": []}
    visible, total = _num_devices(environment)
    if visible is None:
        return {}
    if visible <= 1 or (total is not None and visible < total):
        return {"local_device_ids": []}
    if visible % tasks:
        raise UsageError(
            f"--distributed auto: {tasks} processes on a node cannot share its "
            f"{visible} devices; start one process, or one for each device."
        )
    share = visible // tasks
    return {"local_device_ids": list(range(local * share, (local + 1) * share))}


def _is_step(environment: Mapping[str, str]) -> bool:
    return all(name in environment for name in _SLURM)


def _place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The place of this process among those of its node, and their number."""
    try:
        if "OMPI_MCA_orte_hnp_uri" in environment:
            names = ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
            local, tasks = (int(environment[name]) for name in names)
            return local, tasks
        if _is_step(environment):
            counts = _counts(environment["SLURM_STEP_TASKS_PER_NODE"])
            node = int(environment["SLURM_NODEID"])
            return int(environment["SLURM_LOCALID"]), counts[node]
    except (KeyError, ValueError, IndexError):
        pass  # another version of the scheduler: JAX decides
    return None


def _counts(text: str) -> list[int]:
    """Return the numbers of "2(x3),1", which SLURM writes for 2,2,2,1."""
    counts: list[int] = []
    for part in text.split(","):
        if (match := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)) is None:
            raise ValueError(text)
        count, times = map(int, match.groups("1"))
        counts += [count] * times
    return counts


def _num_devices(environment: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The numbers of devices that the process and its step on the node see, or None."""
    total = environment.get("SLURM_GPUS_ON_NODE", "")
    total = int(total) if total.isdecimal() else None
    lists = [environment[name] for name in _VISIBLE if name in environment]
    visible = len([one for one in lists[0].split(",") if one]) if lists else total
    return visible, total
