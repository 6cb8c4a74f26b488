"""Runs of the main job that die at a chosen moment, each in a fork of one process.

`python -m support.killing`, from the folder of the tests, imports everything once and
then answers requests, one JSON object a line:

- `arguments`: those of the program;
- `log`: the file for what it prints; the number of its writes goes to `log`.writes;
- `writes`: the number of the write that starts the clock; 0 starts it at once;
- `delay`: the seconds after which the process dies, without a chance to clean up; None
  lets it live.

The answer is the exit status, negative for a signal.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

NAMES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate")


def is_write(event: str, arguments: tuple) -> bool:
    """Return whether Python is about to change the file system."""
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in NAMES


def count_writes(folder: str, on_write: Callable[[int], None]) -> list[str]:
    """Call a function at each write below or beside a folder; return their list."""
    writes: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if is_write(event, arguments) and folder in str(arguments[0]):
            writes.append(f"{event} {arguments[0]}")
            on_write(len(writes))

    sys.addaudithook(hook)
    return writes


def die_in(seconds: float) -> None:
    if seconds <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    # Nobody catches it, so that the system ends the process.
    signal.setitimer(signal.ITIMER_REAL, seconds)


def run(request: dict[str, Any]) -> int:
    """Run the program in this process, which is a fork; return its status."""
    from experiments import mnist
    from experiments.harness import cli

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    arguments, delay = request["arguments"], request["delay"]
    folder = os.path.dirname(arguments[arguments.index("--out") + 1])

    def on_write(number: int) -> None:
        if delay is not None and number == request["writes"]:
            die_in(delay)

    writes = count_writes(folder, on_write)
    if delay is not None and request["writes"] == 0:
        die_in(delay)
    sys.argv = ["experiments.mnist", *arguments]
    status = 0
    try:
        cli.train(mnist.Config, mnist.make_experiment, mnist.analyze)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    total = len(writes)
    with open(f"{request['log']}.writes", "w") as file:
        file.write(str(total))
    return status


def main() -> None:
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    from experiments import mnist  # noqa: F401

    # Answers have a stream of their own: what the program prints goes elsewhere.
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 70
            try:
                status = run(json.loads(line))
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
