"""Data sets as arrays on the host, and the binarization of images.

Data are checked once, here, when they are loaded. They stay `uint8` and are transformed
in the step: dynamic binarization draws the pixels afresh at each access (Salakhutdinov
& Murray 2008; Burda et al. 2016), static binarization draws them once. Published
likelihoods of the two differ by nats: never compare across.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.datasets.bundled import load_mnist
from vaejax.datasets.catalogue import SOURCES
from vaejax.datasets.errors import Arrays
from vaejax.datasets.own_files import (
    LAYOUTS,
    check_labels,
    is_folder,
    iterate_chunks,
    load_folder,
    load_npz,
)
from vaejax.datasets.prepared import load_prepared
from vaejax.datasets.tables import check_numbers

# What can be built from its official files: its shape, splits, source, license, and
# whether that was tested.
CATALOGUE = SOURCES

# What is no data set by itself, by its suffix.
_FILES = {
    ".npy": "one array",
    ".csv": "a table",
    ".txt": "text",
    ".gz": "an archive",
} | dict.fromkeys((".png", ".jpg", ".jpeg"), "one image")


class Dataset(NamedTuple):
    """Images and their classes, on the host, in canonical order; memory maps where the
    user gives .npy files.

    Attributes:
      images: `uint8 [examples, height, width]`, or with a last axis of colors;
        intensity times 255. Those of the user's own files may be floating point in [0,
        1].
      labels: `uint8 [examples]` (int32 beyond 256 classes), `uint8 [examples,
        factors]`, or None: there are none.
    """

    images: np.ndarray
    labels: np.ndarray | None


def load(
    name_or_path: str | os.PathLike,
    *,
    split: str = "train",
    directory: str | os.PathLike | None = None,
) -> Dataset:
    """A data set: of the catalogue, of tensorflow-datasets, or of the user's.

    "mnist" is part of this package. The others of `CATALOGUE` are built from their
    official files: those in `directory`, else downloaded. Any other name is an image
    set of TFDS, such as "cifar10", in TFDS's own order: read where it is prepared, else
    built if TensorFlow is installed (the extra `tfds`). All are prepared once, in
    $TFDS_DATA_DIR, by default ~/tensorflow_datasets; the arrays are cached there.

    Of the user's own are
    - a file ending in .npz, with arrays `{split}_images` (uint8, or floating point in
      [0, 1]) and perhaps `{split}_labels`;
    - a folder with `{split}.npy` and perhaps `{split}_labels.npy`: memory-mapped as
    they are, not copied;
    - a folder with image files `{split}/*.png` or `.jpg`, or `{split}/CLASS/*.png`:
      gray or RGB, of one size. They are decoded into memory, and need Pillow (the extra
      `images`).

    Args:
      name_or_path: a name, or the path of a file or folder. Names of the catalogue come
        first.
      split: "train" and "test", and "validation" where there is one.
      directory: of the official files, under their official names; with "mnist", they
        are used, not the bundled ones.

    Raises:
      ValueError: the name or the split is unknown, a file is damaged, or it holds
        something else.
      DataUnavailableError: a ValueError: the set is neither prepared nor can it be
        built; it says what to do.

    Example:
      load("fashion_mnist", split="test", directory="~/Downloads/fashion")
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
            f"{name} is {_FILES[suffix]}; give {LAYOUTS}, or an .npz with "
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
    return Dataset(*_load_stock(name, split, directory))


def from_array(array: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    """Any array of numbers, `[examples, ...]`, as a data set;
    `vaejax.arrays.describe_array` says what it holds.

    Raises:
      ValueError: it is no array of numbers, is empty or holds NaN or infinity, or the
        labels do not fit it.
    """
    array = np.asanyarray(array)
    check_numbers(array, "the array")
    if labels is not None:
        labels = np.asarray(labels)
        check_labels(labels, len(array), "labels")
    return Dataset(array, labels)


def _load_stock(name: str, split: str, directory: str | os.PathLike | None) -> Arrays:
    if not re.fullmatch(r"[a-z]\w*(/[\w.-]+)?(:[\d.]+)?", name):
        raise ValueError(
            f"there is no data set {name!r}; choose from {sorted(CATALOGUE)}, or name "
            "one of TFDS, or "
            f"{LAYOUTS}."
        )
    from vaejax.datasets import tfds_builders

    return tfds_builders.load_stock(
        name, split, None if directory is None else Path(directory).expanduser()
    )


def describe_catalogue() -> str:
    """The catalogue as a table: name, size, license, whether the official files were
    tested, what it is.
    """
    rows = [
        (
            name,
            "x".join(map(str, source.shape)),
            " / ".join(
                f"{number:,} {split}" for split, number in source.splits.items()
            ),
            "tested" if source.tested else "untested",
            f"{source.what}. License: {source.license}.",
        )
        for name, source in CATALOGUE.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(
            [
                *(cell.ljust(width) for cell, width in zip(row, widths, strict=False)),
                row[-1],
            ]
        )
        for row in rows
    )


def checksum(*parts: Dataset) -> str:
    """SHA-256, in hexadecimal, of the shapes and bytes of images and labels (if any),
    part after part.
    """
    sha = hashlib.sha256()
    for array in (array for part in parts for array in part if array is not None):
        sha.update(str(array.shape).encode())
        for chunk in iterate_chunks(array):
            sha.update(np.ascontiguousarray(chunk).tobytes())
    return sha.hexdigest()
