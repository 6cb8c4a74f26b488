"""Cached arrays of prepared sets.

The cache lies in the prepared set's own folder: it disappears with the set and is never
taken for that of another.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vaejax._files import write_atomically
from vaejax.datasets._npy_files import read_npz
from vaejax.datasets._shared import Arrays
from vaejax.datasets.errors import DataUnavailableError

_CACHE = "vaejax_{split}.npz"


def cached(home: Path, split: str, make_arrays: Callable[[], Arrays]) -> Arrays:
    """Return the cached arrays of a split; make and cache them if there are none.

    Raises:
      DataUnavailableError: `make_arrays` fails because the prepared set is damaged.
    """
    arrays = read_cache(home, split)
    if arrays is None:
        try:
            arrays = make_arrays()
        except (ValueError, ImportError):
            raise
        # TFDS, array_record and protobuf each have their own errors.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataUnavailableError(
                f"what is prepared in {home} cannot be read ({reason}); remove that "
                "folder to build it again."
            ) from error
        # A prepared set may be shared and read-only.
        with suppress(OSError):
            write_cache(home, split, arrays)
    return arrays


def read_cache(home: Path, split: str) -> Arrays | None:
    """Read the cached arrays of a split.

    The result is None where there is no cache or it is damaged, which its CRC tells.
    """
    try:
        arrays = read_npz(home / _CACHE.format(split=split), "images", "labels")
    except ValueError:
        return None
    return (arrays["images"], arrays.get("labels")) if "images" in arrays else None


def write_cache(home: Path, split: str, arrays: Arrays) -> None:
    """Write the arrays of a split into the folder of its set, atomically."""
    images, labels = arrays
    named: dict[str, Any] = {"images": images}
    if labels is not None:
        named["labels"] = labels
    write_atomically(
        home / _CACHE.format(split=split), lambda file: np.savez(file, **named)
    )
