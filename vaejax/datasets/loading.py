"""Data sets as arrays on the host, and the binarisation of images.

Data are checked once, here, when they are loaded. They stay `uint8` and are transformed
in the step: dynamic binarisation draws the pixels afresh at each access (Salakhutdinov
& Murray 2008; Burda et al. 2016), static binarisation draws them once. Published
likelihoods of the two differ by nats: never compare across.
"""

import hashlib
import lzma
import math
import os
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import arrays, own_data, prepared, sources
from vaejax.base import Array, Key
from vaejax.prepared import Arrays, DataUnavailableError

# What can be built from its official files: its shape, splits, source, licence, and
# whether that was tested.
CATALOGUE = sources.SOURCES

# What is no data set by itself, by its suffix.
_FILES = {
    ".npy": "one array",
    ".csv": "a table",
    ".txt": "text",
    ".gz": "an archive",
} | dict.fromkeys((".png", ".jpg", ".jpeg"), "one image")

__all__ = [
    "CATALOGUE",
    "DataUnavailableError",
    "Dataset",
    "binarize",
    "checksum",
    "describe",
    "from_array",
    "load",
]


class Dataset(NamedTuple):
    """Images and their classes, on the host, in canonical order; memory maps where the
    user gives .npy files.

    Attributes:
      images: `uint8 [examples, height, width]`, or with a last axis of colours;
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
      grey or RGB, of one size. They are decoded into memory, and need Pillow (the extra
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
        return Dataset(*own_data.load_npz(Path(path), split))
    if name not in CATALOGUE and own_data.is_folder(path):
        return Dataset(*own_data.load_folder(Path(path), split))
    if suffix in _FILES:
        other = {".npy": "own_data", ".csv": "own_data", ".txt": "text"}.get(suffix)
        hint = f"; python -m experiments.{other} takes it" if other else ""
        raise ValueError(
            f"{name} is {_FILES[suffix]}; give {own_data.LAYOUTS}, or an .npz with "
            f"{split}_images{hint}."
        )
    if name in CATALOGUE and split not in CATALOGUE[name].splits:
        raise ValueError(
            f"{name} has no split {split!r}; choose from "
            f"{list(CATALOGUE[name].splits)}."
        )
    if name == "mnist" and directory is None:
        return _load_mnist(split)
    if name in CATALOGUE:
        return Dataset(*prepared.load(name, split, directory))
    return Dataset(*_load_stock(name, split, directory))


def from_array(array: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    """Any array of numbers, `[examples, ...]`, as a data set;
    `vaejax.arrays.describe_array` says what it holds.

    Raises:
      ValueError: it is no array of numbers, is empty or holds NaN or infinity, or the
        labels do not fit it.
    """
    array = np.asanyarray(array)
    arrays.check_numbers(array, "the array")
    if labels is not None:
        labels = np.asarray(labels)
        own_data.check_labels(labels, len(array), "labels")
    return Dataset(array, labels)


def _load_stock(name: str, split: str, directory: str | os.PathLike | None) -> Arrays:
    if not re.fullmatch(r"[a-z]\w*(/[\w.-]+)?(:[\d.]+)?", name):
        raise ValueError(
            f"there is no data set {name!r}; choose from {sorted(CATALOGUE)}, or name "
            "one of TFDS, or "
            f"{own_data.LAYOUTS}."
        )
    from vaejax import tfds_builders

    return tfds_builders.load_stock(
        name, split, None if directory is None else Path(directory).expanduser()
    )


def describe() -> str:
    """The catalogue as a table: name, size, licence, whether the official files were
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
            f"{source.what}. Licence: {source.licence}.",
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
        for chunk in own_data.chunks(array):
            sha.update(np.ascontiguousarray(chunk).tobytes())
    return sha.hexdigest()


def binarize(key: Key, image: Array) -> Array:
    """Each pixel 1 with the probability of its intensity, else 0; of one image, as
    float32 of its shape.

    The probability is within 2^-17 of the intensity, and exact at 0 and at 1: 16 random
    bits a pixel are compared with the intensity rounded to a multiple of 2^-16.

    Args:
      key: decides the draw.
      image: `uint8`, intensity v / 255, or floating point in [0, 1]; any shape.

    Raises:
      TypeError: the image has another dtype.

    Source: Salakhutdinov & Murray 2008, section 4.
    """
    image = jnp.asarray(image)
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"binarize: image has dtype {image.dtype}; give uint8 (0 to 255) or "
            "floating point (0 to 1)."
        )
    # Two pixels share a 32-bit word: a generator of counters spends as much on a 16-bit
    # draw as on a 32-bit one.
    words = jax.random.bits(key, (math.ceil(image.size / 2),), jnp.uint32)
    bits = (
        jax.lax.bitcast_convert_type(words, jnp.uint16)
        .reshape(-1)[: image.size]
        .reshape(image.shape)
    )
    bits = bits.astype(jnp.uint32)
    if image.dtype == jnp.uint8:
        # bits < floor((2^16 v + 127) / 255), without the division.
        threshold = image.astype(jnp.uint32) * jnp.uint32(1 << 16) + jnp.uint32(127)
        return ((bits + jnp.uint32(1)) * jnp.uint32(255) <= threshold).astype(
            jnp.float32
        )
    # In float32: 2^16 overflows float16.
    return (
        bits
        < jnp.round(image.astype(jnp.float32) * jnp.float32(1 << 16)).astype(jnp.uint32)
    ).astype(jnp.float32)


# SHA-256 of the official files, decompressed, in the order in which they are packed:
# train, then test.
_MNIST_FILES = {
    "mnist_images.idx.xz": (
        (
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ),
    "mnist_labels.idx.xz": (
        (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
}


def _load_mnist(split: str) -> Dataset:
    return Dataset(
        *(_read_idx(name, ["train", "test"].index(split)) for name in _MNIST_FILES)
    )


def _read_idx(name: str, part: int) -> np.ndarray:
    """One of the official files packed in a bundled one, as an array; verified before
    it is parsed.
    """
    parts = _MNIST_FILES[name]
    start, size = sum(size for size, _ in parts[:part]), parts[part][0]
    try:
        with lzma.open(resources.files("vaejax") / "data" / name) as file:
            raw = file.read(start + size)[start:]
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(
            f"the bundled file {name} cannot be read ({error}); install vaejax again."
        ) from error
    if hashlib.sha256(raw).hexdigest() != parts[part][1]:
        raise ValueError(
            f"the bundled file {name} is damaged (its SHA-256 is wrong); install "
            "vaejax again."
        )
    return sources.parse_idx(raw)
