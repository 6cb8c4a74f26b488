"""Several processes as one run: all compute, the first alone writes and prints."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, NoReturn

import jax
import numpy as np

from experiments.harness import cluster
from experiments.harness.errors import RunError, UsageError

# A process that is silent for so long counts as dead, and the run ends.
HEARTBEAT_SECONDS = 60


def join(option: str | None) -> None:
    """Join the processes that `--distributed` names, before JAX is used otherwise.

    None stands for a single process.

    Raises:
      UsageError: `option` cannot be read, or its processes cannot be joined.
    """
    if option is None:
        return
    options = cluster.arguments(option, os.environ)
    cluster.check_host(option, options)
    try:
        jax.distributed.initialize(
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            **options,
        )
    except Exception as error:  # the library of a cluster has errors of its own
        reason = str(error).strip().partition("\n")[0]
        hint = f" {cluster.missing(os.environ)}" if option == "auto" else ""
        raise UsageError(
            f"--distributed {option}: the processes cannot be joined ({reason})."
            f"{hint.rstrip()}"
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
    with suppress(OSError):  # nobody hears it, or the disk is full there too
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


def gathered(text: str) -> list[str]:
    """Return the texts that the processes give, in the order of the processes."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(len(content), np.int32))
    padded = np.zeros(max(1, int(sizes.max())), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    pairs = zip(rows, sizes.ravel(), strict=True)
    return [bytes(row[:size]).decode() for row, size in pairs]


def decided_by_first(function: Callable[[], Any]) -> Any:
    """Call a function in the first process, and raise its error in every one.

    Returns:
      What it returns, in the first process; None in the others.

    Raises:
      UsageError: the function did.
      RunError: the function did.
    """
    result, error = None, None
    if is_first():
        try:
            result = function()
        except (UsageError, RunError) as caught:
            error = caught
    kind = "" if error is None else type(error).__name__
    kind, text = json.loads(gathered(json.dumps([kind, str(error)]))[0])
    if error is not None:
        raise error
    if kind:
        raise (UsageError if kind == UsageError.__name__ else RunError)(text)
    return result


def check_same(values: Mapping[str, Any]) -> None:
    """Check that every process has the same values, by name.

    Raises:
      UsageError: they differ; in every process, with the first difference.
    """
    everyone = [json.loads(text) for text in gathered(json.dumps(values))]
    for index, others in enumerate(everyone):
        for name in sorted(everyone[0].keys() | others.keys()):
            one, other = everyone[0].get(name), others.get(name)
            if one != other:
                raise UsageError(
                    f"--distributed: {name} is {one} in process 0 and {other} in "
                    f"process {index}; give every process the same options, data and "
                    "versions."
                )


def largest(number: int) -> int:
    """Return the largest of the numbers that the processes give."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))
