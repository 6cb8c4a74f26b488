"""Official files of image sets: found, verified, parsed."""

import hashlib
import json
import os
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaejax.datasets.array_cache import FILES
from vaejax.datasets.catalogue import SOURCES, Source
from vaejax.datasets.errors import Arrays, DataUnavailableError

# The name and the version under which TFDS prepares the sets of `SOURCES`: names of our
# own, since some are stock too.
BUILDER, VERSION = "vaejax_images", "1.0.0"
_PROBE_SECONDS = 10.0


def data_dir() -> Path:
    """Where TFDS keeps what it prepares: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_files(name: str, directory: Path) -> dict[str, Path]:
    """Paths, by name, of one tuple of a set's official files in a directory."""
    alternatives = SOURCES[name].files
    for files in alternatives:
        paths = {file.name: directory / file.name for file in files}
        if all(path.is_file() for path in paths.values()):
            return paths
    if not directory.is_dir():
        raise DataUnavailableError(
            f"{directory} is not a directory; name the one that holds "
            f"{describe_files(name)}."
        )
    missing = [
        file.name for file in alternatives[0] if not (directory / file.name).is_file()
    ]
    raise DataUnavailableError(
        f"{directory} lacks {', '.join(missing)}; {name} is built from "
        f"{describe_files(name)}."
    )


def verify(name: str, paths: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file, by its name; DataUnavailableError where the official one is
    known and is another.
    """
    official = {file.name: file for files in SOURCES[name].files for file in files}
    found = {}
    for file_name, path in paths.items():
        with open(path, "rb") as stream:
            found[file_name] = hashlib.file_digest(stream, "sha256").hexdigest()
        file = official[file_name]
        if file.sha256 not in (None, found[file_name]):
            raise DataUnavailableError(
                f"{path} is not the official {file.name} of {name}: its SHA-256 is "
                f"{found[file_name]}, not "
                f"{file.sha256}; download it anew from {file.url}."
            )
    return found


def parse(name: str, paths: Mapping[str, Path]) -> dict[str, Arrays]:
    """Every split of a set from its files, in the catalogue's shapes.

    Raises:
      DataUnavailableError: the files hold something else.
    """
    source = SOURCES[name]
    where = ", ".join(str(path) for path in paths.values())
    try:
        splits = source.parse(paths)
    except (
        Exception
    ) as error:  # Each format has its own; whichever it is, it is the reason reported.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataUnavailableError(
            f"{name} cannot be read from {where}: {reason}."
        ) from error
    for split, arrays in splits.items():
        _check_arrays(name, source, split, arrays, where)
    return splits


def _check_arrays(
    name: str, source: Source, split: str, arrays: Arrays, where: str
) -> None:
    shapes = [(source.splits[split], *source.shape)]
    if source.label_shape is not None:
        shapes.append((source.splits[split], *source.label_shape))
    for array, shape in zip(
        [array for array in arrays if array is not None], shapes, strict=True
    ):
        if array.shape != shape or array.dtype != np.uint8:
            raise DataUnavailableError(
                f"{split} of {name} should be uint8 {list(shape)}, and is "
                f"{array.dtype} {list(array.shape)} in {where}."
            )


def read_digests(home: Path) -> dict[str, str] | None:
    """Of the files that a set was built from; None where they were not recorded."""
    try:
        return json.loads((home / FILES).read_text())
    except (OSError, ValueError):
        return None


def check_reachable(name: str, url: str) -> None:
    """DataUnavailableError, within seconds, unless the URL answers; proxies of the
    environment are honored.

    TFDS itself tries again for minutes.
    """
    result = ["no answer"]
    # A thread, since looking up a name knows no timeout.
    thread = threading.Thread(target=_probe, args=(url, result), daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if result[0] is not None:
        raise unavailable(name, f"{url} cannot be reached ({result[0]})")


def _probe(url: str, result: list[str | None]) -> None:
    try:
        urllib.request.urlopen(url, timeout=_PROBE_SECONDS).close()
        result[0] = None
    except Exception as error:  # Whatever it is, it is the reason that is reported.
        result[0] = str(error) or type(error).__name__


def unavailable(name: str, reason: str) -> DataUnavailableError:
    """What to tell a user whose set cannot be downloaded."""
    reason = " ".join(reason.split())
    return DataUnavailableError(
        f"{name} is not prepared in {data_dir()}, and {reason}. Put "
        f"{describe_files(name)} into a directory and name "
        "that too (directory=..., on the command line --data-dir), or use the bundled "
        '"mnist".'
    )


def describe_files(name: str) -> str:
    """The official files of a set, in words."""
    if name not in SOURCES:
        return f"the files that TFDS's page on {name} asks for"
    return ", or ".join(
        ", ".join(file.name for file in files) for files in SOURCES[name].files
    )
