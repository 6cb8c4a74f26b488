"""A progress bar that never ends a run: where it cannot be written, it is silent."""

from collections.abc import Callable
from typing import Any

# What a stream raises that is full, closed, missing, or cannot write a character.
_BROKEN_STREAM = (OSError, ValueError, AttributeError)


class Progress:
    """A bar of epochs on stderr, of tqdm where it is installed."""

    def __init__(self, total: int, initial: int, *, is_shown: bool):
        self._bar: Any = None
        if not is_shown:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._write(lambda: self._start(tqdm, total, initial))

    def advance(self, text: str) -> None:
        """Count one epoch, and show a text beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._write(lambda: self._bar.update())

    def close(self) -> None:
        if self._bar is not None:
            self._write(lambda: self._bar.close())

    def _start(self, tqdm: Any, total: int, initial: int) -> None:
        self._bar = tqdm(total=total, initial=initial, unit="epoch", dynamic_ncols=True)

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except _BROKEN_STREAM:
            if self._bar is not None:
                # Or it tries once more when it is collected.
                self._bar.disable = True
            self._bar = None
