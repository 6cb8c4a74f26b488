"""Several processes as one run: every one computes, the first alone writes and prints."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import jax
import numpy as np

from experiments.harness.errors import UsageError

# A process that says nothing for so long is dead, and the run ends rather than waits.
HEARTBEAT_SECONDS = 60


def join(cluster: str | None) -> None:
    """Joins the processes of the cluster, before JAX is used for anything else; None is
    one process.

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
    """Ends the program; in one of several processes at once, since the others would be
    waited for in vain.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_count() > 1:
        os._exit(status)
    sys.exit(status)


def leave_quietly(status: int, message: str) -> NoReturn:
    """Ends the program with `message` as its last line: threads of a failed write would
    complain through it and after.

    They write in pieces, so whatever line they are in is closed first, and from there
    on they are not heard.
    """
    sys.stderr.flush()
    heard = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.write(heard, f"\n{message}\n".encode())
    leave(status)


def is_first() -> bool:
    return jax.process_index() == 0


def by_first(function: Callable) -> Callable:
    """The function, which writes and returns nothing, in the first process; in the
    others nothing.
    """

    @wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        if is_first():
            function(*args, **options)

    return guarded


def wait_for_all(where: str) -> None:
    """Returns once every process is there."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def largest(number: int) -> int:
    """The largest of the numbers that the processes give."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))
