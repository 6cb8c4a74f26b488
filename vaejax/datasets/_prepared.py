"""Image sets that TFDS prepares: read from the cache, else decoded, else built.

tensorflow-datasets is imported only where something has to be built or decoded.
"""

import os
import re
from pathlib import Path

from vaejax.datasets._array_cache import cached, read_cache
from vaejax.datasets._official_files import (
    BUILDER,
    VERSION,
    check_reachable,
    data_dir,
    find_files,
    read_digests,
    verify,
)
from vaejax.datasets._own_files import LAYOUTS
from vaejax.datasets._shared import Arrays
from vaejax.datasets.catalogue import CATALOGUE
from vaejax.datasets.errors import DataUnavailableError


def load_prepared(name: str, split: str, directory: str | os.PathLike | None) -> Arrays:
    """Load images and labels of a set of the catalogue.

    Raises:
      DataUnavailableError: its files are not in the directory, are not the official
        ones, or cannot be downloaded.
    """
    home = data_dir() / BUILDER / name / VERSION
    paths = None
    if directory is not None:
        paths = find_files(name, Path(os.path.expanduser(directory)))
    if (
        paths is not None
        and home.exists()
        and read_digests(home) != verify(name, paths)
    ):
        raise DataUnavailableError(
            f"{name} in {home} was built from other files than those in {directory}; "
            "remove it to build it again."
        )
    arrays = read_cache(home, split)
    if arrays is not None:
        return arrays
    from vaejax.datasets import _tfds_builders

    if not home.exists():
        url = CATALOGUE[name].files[0][0].url
        if paths is None and url is not None:
            check_reachable(name, url)
        try:
            _tfds_builders.build(name, paths)
        except OSError as error:
            raise DataUnavailableError(
                f"{name} cannot be prepared in {data_dir()} ({error}); set "
                "TFDS_DATA_DIR to a folder with room for it."
            ) from error
    return cached(home, split, lambda: _tfds_builders.read_directory(home, split))


def load_stock(name: str, split: str, directory: str | os.PathLike | None) -> Arrays:
    """Load images and labels of one of TFDS's own sets.

    Raises:
      ValueError: there is no set of that name, or it is not a set of images.
      DataUnavailableError: it is not prepared and cannot be.
    """
    if not re.fullmatch(r"[a-z]\w*(/[\w.-]+)?(:[\d.]+)?", name):
        raise ValueError(
            f"there is no data set {name!r}; choose from {sorted(CATALOGUE)}, or name "
            f"one of TFDS, or {LAYOUTS}."
        )
    from vaejax.datasets import _tfds_builders

    return _tfds_builders.load_stock(
        name, split, None if directory is None else Path(os.path.expanduser(directory))
    )
