"""Cached arrays of prepared sets."""

import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from vaejax._files import write_atomically
from vaejax.datasets.errors import Arrays, DataUnavailableError


def cached(home: Path, split: str, make_arrays: Callable[[], Arrays]) -> Arrays:
    """The cached arrays of a prepared set; made, and written where the folder permits
    it, if there are none.
    """
    arrays = read_cache(home, split)
    if arrays is None:
        try:
            arrays = make_arrays()
        except (ValueError, ImportError):
            raise
        except Exception as error:  # Of TFDS, array_record, protobuf: whichever it is, it is the reason reported.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataUnavailableError(
                f"what is prepared in {home} cannot be read ({reason}); remove that "
                "folder to build it anew."
            ) from error
        # A prepared set may well be shared and read-only.
        with suppress(OSError):
            write_cache(home, split, arrays)
    return arrays


def read_cache(home: Path, split: str) -> Arrays | None:
    """None where there is no cache or it is damaged (its CRC tells): then it is made
    anew.
    """
    try:
        with np.load(home / _CACHE.format(split=split)) as arrays:
            return arrays["images"], arrays.get("labels")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_cache(home: Path, split: str, arrays: Arrays) -> None:
    """Write the arrays of a split into the folder of its set, atomically."""
    images, labels = arrays
    named = {"images": images} | ({} if labels is None else {"labels": labels})
    write_atomically(
        home / _CACHE.format(split=split), lambda file: np.savez(file, **named)
    )


# In a prepared set's own folder, so that nothing cached outlives, or is taken for, what
# it was made from.
_CACHE, FILES = "vaejax_{split}.npz", "vaejax_files.json"
