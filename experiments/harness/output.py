"""Standard output and error that may be closed or full: what cannot be shown is lost.

No training ends because nobody reads its progress bar any more.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

# RuntimeError: a signal handler prints in the middle of a print.
_FAILURES = (OSError, ValueError, RuntimeError)


class _Lenient:
    """A text stream whose writes never fail."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(*_FAILURES):
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with suppress(*_FAILURES):
            self._stream.flush()


@contextmanager
def lenient() -> Iterator[None]:
    """Replace both streams by ones that never fail, until the block is left."""
    before = sys.stdout, sys.stderr
    streams = [
        stream if isinstance(stream, _Lenient) else _Lenient(stream or _opened(number))
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    ]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        # Not those of now: processes after the first print nowhere.
        for stream in streams:
            _empty(stream)
        sys.stdout, sys.stderr = before


def _opened(number: int) -> TextIO:
    """A stream that goes nowhere, for one that was closed before the program began."""
    # Else the next file that is opened gets the number, and what C code prints goes
    # into it.
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
    return open(os.devnull, "w")


def _empty(stream: Any) -> None:
    """Write what is buffered, or send it nowhere, so that Python's own end succeeds."""
    try:
        stream._stream.flush()
    except _FAILURES:
        with suppress(*_FAILURES):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream._stream.flush()
