"""Several processes as one run: all compute, the first alone writes and prints."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import jax
import numpy as np

from experiments.harness.errors import UsageError

# A process that is silent for so long counts as dead, and the run ends.
HEARTBEAT_SECONDS = 60


def join(cluster: str | None) -> None:
    """Join the processes of the cluster, before JAX is used for anything else.

    None stands for a single process.

    Raises:
      UsageError: `cluster` cannot be read, or its processes cannot be joined.
    """
    if cluster is None:
        return
    options: dict[str, Any] = {}
    if cluster != "auto":
        try:
            address, num, index = cluster.split(",")
            options = {
                "coordinator_address": address,
                "num_processes": int(num),
                "process_id": int(index),
            }
        except ValueError as error:
            raise UsageError(
                f"--distributed {cluster}: give auto, or HOST:PORT,PROCESSES,INDEX "
                "such as 10.0.0.1:1234,2,0."
            ) from error
    try:
        jax.distributed.initialize(
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            **options,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"--distributed {cluster}: the processes cannot be joined ({reason})."
        ) from error
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def leave(status: int) -> NoReturn:
    """End the program.

    One of several processes ends at once, without waiting for the others.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_count() > 1:
        os._exit(status)
    sys.exit(status)


def leave_quietly(status: int, message: str) -> NoReturn:
    """End the program with `message` as its last line.

    Threads of a failed write print too, in pieces: their line is closed first, and what
    they print later is dropped.
    """
    sys.stderr.flush()
    heard = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.write(heard, f"\n{message}\n".encode())
    leave(status)


def is_first() -> bool:
    """Return whether this is the first process."""
    return jax.process_index() == 0


def by_first(function: Callable) -> Callable:
    """Return a function that does nothing, except in the first process."""

    @wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        if is_first():
            function(*args, **options)

    return guarded


def wait_for_all(where: str) -> None:
    """Return once every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def largest(number: int) -> int:
    """Return the largest of the numbers that the processes give."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))
