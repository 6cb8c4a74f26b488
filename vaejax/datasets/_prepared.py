"""Where prepared image sets lie, their cached arrays, and the official files that a set
is built from.

Nothing here imports tensorflow-datasets until something has to be built or decoded.
"""

import os
from pathlib import Path

from vaejax.datasets.array_cache import cached, read_cache
from vaejax.datasets.catalogue import SOURCES
from vaejax.datasets.errors import Arrays, DataUnavailableError
from vaejax.datasets.official_files import (
    BUILDER,
    VERSION,
    check_reachable,
    data_dir,
    find_files,
    read_digests,
    verify,
)


def load_prepared(name: str, split: str, directory: str | os.PathLike | None) -> Arrays:
    """Images and labels of a set of `SOURCES`: cached, else decoded, else built.

    Raises:
      DataUnavailableError: its files are not in the directory, are not the official
        ones, or cannot be downloaded.
    """
    home = data_dir() / BUILDER / name / VERSION
    paths = (
        None if directory is None else find_files(name, Path(directory).expanduser())
    )
    if (
        paths is not None
        and home.exists()
        and read_digests(home) != verify(name, paths)
    ):
        raise DataUnavailableError(
            f"{name} in {home} was built from other files than those in {directory}; "
            "remove it to build anew."
        )
    arrays = read_cache(home, split)
    if arrays is not None:
        return arrays
    from vaejax.datasets import tfds_builders

    if not home.exists():
        if paths is None:
            check_reachable(name, SOURCES[name].files[0][0].url)
        try:
            tfds_builders.build(name, paths)
        except OSError as error:
            raise DataUnavailableError(
                f"{name} cannot be prepared in {data_dir()} ({error}); set "
                "TFDS_DATA_DIR to a folder with room for it."
            ) from error
    return cached(home, split, lambda: tfds_builders.read_directory(home, split))
