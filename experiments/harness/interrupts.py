"""Ctrl-C and SIGTERM as requests to stop after the current epoch, which is saved."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from experiments.harness import distributed

CheckInterrupts = Callable[[], None]
"""A function that raises `Interrupted` once the user has asked the run to stop."""


class Interrupted(BaseException):
    """A request that the run should stop.

    It is not an `Exception`, as KeyboardInterrupt is not, so that no handler of errors
    swallows it.

    Attributes:
      exit_status: 0 after SIGTERM, which schedulers send and count as a clean end; 130
        after Ctrl-C.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_status = 0 if number == signal.SIGTERM else 130


def answer_with_exceptions() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, where the package answered it at first."""
    # A shell may have told the program to ignore it, and then it stays ignored.
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def requests() -> Iterator[CheckInterrupts]:
    """Turn signals into requests; yield a check that raises `Interrupted` after one.

    A second signal stops the program at once. A signal that the process ignores stays
    ignored. Outside the main thread, where Python delivers no signals, nothing is
    caught.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            raise Interrupted(number)
        received.append(number)
        print(
            f"\n{signal.Signals(number).name}: finishing what is under way; again to "
            "stop at once",
            file=sys.stderr,
        )

    def check() -> None:
        # Every process stops where the first does that was asked to.
        if number := distributed.largest(received[0] if received else 0):
            raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    previous = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield check
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
