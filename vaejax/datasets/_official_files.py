"""Official files of the image sets in the catalogue: found, verified, parsed."""

import hashlib
import json
import os
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaejax.datasets._shared import Arrays, Splits
from vaejax.datasets.catalogue import CATALOGUE, ImageSource
from vaejax.datasets.errors import DataUnavailableError

# The name and the version under which TFDS prepares the sets of the catalogue: names of
# our own, since TFDS has some of these sets too.
BUILDER, VERSION = "vaejax_images", "1.0.0"
# Records, in the folder of a prepared set, the files that it was built from.
_DIGESTS = "vaejax_files.json"
_PROBE_SECONDS = 10.0


def data_dir() -> Path:
    """Return the folder of prepared sets.

    It is $TFDS_DATA_DIR, as for TFDS itself, or else ~/tensorflow_datasets.
    """
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_files(name: str, directory: Path) -> dict[str, Path]:
    """Find one complete tuple of a set's official files in a directory, by name.

    Raises:
      DataUnavailableError: the directory or one of the files is missing.
    """
    alternatives = CATALOGUE[name].files
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
    """Compute the SHA-256 of each file, by name.

    Raises:
      DataUnavailableError: a file is not the official one, whose SHA-256 is known.
    """
    official = {file.name: file for files in CATALOGUE[name].files for file in files}
    found = {}
    for file_name, path in paths.items():
        with open(path, "rb") as stream:
            found[file_name] = hashlib.file_digest(stream, "sha256").hexdigest()
        file = official[file_name]
        if file.sha256 not in (None, found[file_name]):
            raise DataUnavailableError(
                f"{path} is not the official {file.name} of {name}: its SHA-256 is "
                f"{found[file_name]}, not {file.sha256}; download it again from "
                f"{file.url}."
            )
    return found


def parse(name: str, paths: Mapping[str, Path]) -> Splits:
    """Parse every split of a set from its official files.

    Raises:
      DataUnavailableError: the files hold other arrays than the catalogue says.
    """
    source = CATALOGUE[name]
    where = ", ".join(str(path) for path in paths.values())
    try:
        splits = source.parse(paths)
    # Each format has errors of its own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataUnavailableError(
            f"{name} cannot be read from {where}: {reason}."
        ) from error
    for split, arrays in splits.items():
        _check_arrays(name, source, split, arrays, where)
    return splits


def _check_arrays(
    name: str, source: ImageSource, split: str, arrays: Arrays, where: str
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
    """Read the SHA-256 of the files that a prepared set was built from, by name.

    The result is None where they were not recorded.
    """
    try:
        return json.loads((home / _DIGESTS).read_text())
    except (OSError, ValueError):
        return None


def write_digests(home: Path, digests: Mapping[str, str]) -> None:
    """Record the SHA-256 of the files that a set is built from."""
    (home / _DIGESTS).write_text(json.dumps(digests, indent=1))


def check_reachable(name: str, url: str) -> None:
    """Check, within seconds, that a URL answers; TFDS itself retries for minutes.

    Proxies of the environment are honored.

    Raises:
      DataUnavailableError: the URL does not answer.
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
    # In a thread, an error must be handed over to be reported.
    except Exception as error:
        result[0] = str(error) or type(error).__name__


def unavailable(name: str, reason: str) -> DataUnavailableError:
    """Make the error of a set that cannot be downloaded."""
    reason = " ".join(reason.split())
    return DataUnavailableError(
        f"{name} is not prepared in {data_dir()}, and {reason}. Put "
        f"{describe_files(name)} into a directory and name that too (directory=..., "
        'on the command line --data-dir), or use the bundled "mnist".'
    )


def describe_files(name: str) -> str:
    """Name the official files of a set, for an error."""
    if name not in CATALOGUE:
        return f"the files that TFDS's page on {name} asks for"
    return ", or ".join(
        ", ".join(file.name for file in files) for files in CATALOGUE[name].files
    )
