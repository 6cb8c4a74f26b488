"""Data sets as arrays on the host, by name or from the user's files.

Data are checked once, when they are loaded. They stay `uint8` and are transformed in
the step: dynamic binarization draws the pixels again at each access (Salakhutdinov &
Murray 2008; Burda et al. 2016), static binarization draws them once. Published
likelihoods under the two differ by nats and cannot be compared with each other.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax._files import one_line
from vaejax.datasets._bundled import load_mnist
from vaejax.datasets._image_files import SUFFIXES
from vaejax.datasets._own_files import (
    LAYOUTS,
    check_labels,
    is_folder,
    load_folder,
    load_npz,
)
from vaejax.datasets._prepared import load_prepared, load_stock
from vaejax.datasets._shared import iterate_chunks
from vaejax.datasets.arrays import check_numbers
from vaejax.datasets.catalogue import CATALOGUE
from vaejax.datasets.errors import DataUnavailableError

# Files that are no image set by themselves, by suffix.
_FILES = {
    ".npy": "one array",
    ".csv": "a table",
    ".txt": "text",
    ".gz": "an archive",
} | dict.fromkeys(SUFFIXES, "one image")


class Dataset(NamedTuple):
    """Arrays of a data set on the host, in canonical order.

    They are memory maps where the user gives .npy files.

    Attributes:
      images: `uint8 [examples, height, width]`, or with a last axis of colors, in 0 to
        255. Images from the user's own files may be floating point in [0, 1], and those
        of 16 bits are uint16, in 0 to 65,535; `from_array` takes numbers of any shape
        `[examples, ...]`.
      labels: `uint8 [examples]` (int32 beyond 256 classes), `uint8 [examples,
        factors]`, or None where there are no labels.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> data = datasets.Dataset(np.zeros((5, 28, 28), np.uint8), labels=None)
      >>> data.images.shape
      (5, 28, 28)
    """

    images: np.ndarray
    labels: np.ndarray | None


def load(
    name_or_path: str | os.PathLike,
    *,
    split: str = "train",
    directory: str | os.PathLike | None = None,
) -> Dataset:
    """Load a data set of the catalogue, of tensorflow-datasets, or of the user's.

    "mnist" is part of this package. The others of `CATALOGUE` are built from their
    official files: those in `directory`, else downloaded. Any other name is an image
    set of TFDS, such as "cifar10", in TFDS's own order: read where it is prepared, else
    built if TensorFlow is installed (the extra `tfds`). All are prepared once, in
    $TFDS_DATA_DIR, by default ~/tensorflow_datasets; the arrays are cached there.

    The user's own images may be
    - a file ending in .npz, with arrays `{split}_images` (uint8, or floating point in
      [0, 1]) and perhaps `{split}_labels`;
    - a folder with `{split}.npy` and perhaps `{split}_labels.npy`: memory-mapped as
      they are, not copied;
    - a folder with image files `{split}/*.png`, or `{split}/CLASS/*.png`; or without
      splits, `*.png` or `CLASS/*.png`, of which one in ten, drawn with a fixed seed, is
      for test. They are gray or RGB, of one size and depth, as .png, .jpg, .bmp, .gif,
      .tif or .webp, and are turned upright as their EXIF data say. Transparent ones are
      laid over white, with a warning; a warning also names what is left out. They are
      decoded into memory, and need Pillow (the extra `images`).

    Args:
      name_or_path: a name, or the path of a file or folder. A name of the catalogue
        takes precedence over a folder of that name.
      split: "train" or "test", or "validation" where there is one.
      directory: folder of the official files, under their official names; with "mnist",
        they replace the bundled ones.

    Returns:
      The `Dataset`, in canonical order.

    Raises:
      ValueError: the name or the split is unknown, a file is damaged, or it holds
        something else.
      DataUnavailableError: (a ValueError) the set is not prepared and cannot be built;
        the message says what to do.

    Example:
      >>> from vaejax import datasets
      >>> digits = datasets.load("mnist", split="test")
      >>> digits.images.shape, digits.labels.shape
      ((10000, 28, 28), (10000,))
    """
    name = str(name_or_path)
    path = os.path.expanduser(name)
    suffix = Path(name).suffix.lower()
    if suffix == ".npz":
        return Dataset(*load_npz(Path(path), split))
    if name not in CATALOGUE and is_folder(path):
        return Dataset(*load_folder(Path(path), split))
    if suffix in _FILES:
        other = {".npy": "own_data", ".csv": "own_data", ".txt": "text"}.get(suffix)
        hint = f"; python -m experiments.{other} takes it" if other else ""
        raise ValueError(
            f"{one_line(name)} is {_FILES[suffix]}; give {LAYOUTS}, or an .npz with "
            f"{split}_images{hint}."
        )
    if name in CATALOGUE and split not in CATALOGUE[name].splits:
        raise ValueError(
            f"{name} has no split {split!r}; choose from "
            f"{list(CATALOGUE[name].splits)}."
        )
    if name == "mnist" and directory is None:
        return Dataset(*load_mnist(split))
    if name in CATALOGUE:
        return Dataset(*load_prepared(name, split, directory))
    try:
        return Dataset(*load_stock(name, split, directory))
    except ValueError as error:
        if not os.path.isdir(path):
            raise
        found = ", ".join(sorted(os.listdir(path))[:8]) or "nothing"
        # TFDS may know the name of the folder, and say how its set is prepared.
        is_set = isinstance(error, DataUnavailableError)
        others = "" if os.sep in name else f", or one of {sorted(CATALOGUE)}"
        raise type(error)(
            f"{name} is a folder that holds {found}, and no image ("
            f"{', '.join(SUFFIXES)}); give {LAYOUTS}"
            + (f". As the name of a set: {error}" if is_set else f"{others}.")
        ) from error


def from_array(array: np.ndarray, *, labels: np.ndarray | None = None) -> Dataset:
    """Check an array of numbers and return it as a data set.

    `describe_array` says what it holds.

    Args:
      array: numbers, `[examples, ...]`; it is not copied.
      labels: integer classes `[examples]` or factors `[examples, factors]`, if any.

    Returns:
      The `Dataset`, whose `images` are the array.

    Raises:
      ValueError: the array does not hold numbers, is empty, or holds NaN or infinity;
        or the labels do not fit it.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> table = datasets.from_array(np.ones((4, 3)), labels=np.arange(4))
      >>> table.images.shape
      (4, 3)
    """
    array = np.asanyarray(array)
    check_numbers(array)
    if labels is not None:
        labels = np.asarray(labels)
        check_labels(labels, len(array), "labels")
    return Dataset(array, labels)


def checksum(*parts: Dataset) -> str:
    """Compute the SHA-256 of data sets: shapes and bytes of images and labels.

    Programs record it, so that two runs can be seen to have used the same data. It does
    not depend on the memory layout.

    Args:
      *parts: data sets, such as training and test part; their order matters.

    Returns:
      The digest in hexadecimal, 64 characters.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> data = datasets.from_array(np.arange(6).reshape(3, 2))
      >>> copy = datasets.from_array(np.array(data.images))
      >>> datasets.checksum(data) == datasets.checksum(copy)
      True
    """
    sha = hashlib.sha256()
    for array in (array for part in parts for array in part if array is not None):
        sha.update(str(array.shape).encode())
        for chunk in iterate_chunks(array):
            sha.update(np.ascontiguousarray(chunk).tobytes())
    return sha.hexdigest()
