"""Data sets as arrays on the host, and the binarisation of images.

Data are checked once, here, when they are loaded. They stay `uint8` and are transformed in the step: dynamic
binarisation draws the pixels afresh at each access (Salakhutdinov & Murray 2008; Burda et al. 2016), static
binarisation draws them once. Published likelihoods of the two differ by nats: never compare across.
"""

import hashlib
import lzma
import math
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.base import Array, Key

SPLITS = ("train", "test")


class Dataset(NamedTuple):
    """Images and their classes, on the host, in canonical order.

    Attributes:
      images: `uint8 [examples, height, width]`, intensity times 255.
      labels: `uint8 [examples]`.
    """

    images: np.ndarray
    labels: np.ndarray


def load(name: str, *, split: str = "train") -> Dataset:
    """A data set by name: "mnist", the 60,000 and 10,000 grey digits that are part of this package.

    Raises:
      ValueError: the name or the split is unknown, or the bundled file is damaged.

    Source: LeCun, Cortes & Burges, the MNIST database of handwritten digits.
    """
    if name not in _LOADERS:
        raise ValueError(f"there is no data set {name!r}; choose from {sorted(_LOADERS)}.")
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; choose from {list(SPLITS)}.")
    return _LOADERS[name](split)


def checksum(dataset: Dataset) -> str:
    """SHA-256, in hexadecimal, of the shapes and bytes of images and labels."""
    sha = hashlib.sha256()
    for array in dataset:
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def binarize(key: Key, image: Array) -> Array:
    """Each pixel 1 with the probability of its intensity, else 0; of one image, as float32 of its shape.

    The probability is within 2^-17 of the intensity, and exact at 0 and at 1: 16 random bits a pixel are compared with
    the intensity rounded to a multiple of 2^-16.

    Args:
      key: decides the draw.
      image: `uint8`, intensity v / 255, or floating point in [0, 1]; any shape.

    Raises:
      TypeError: the image has another dtype.

    Source: Salakhutdinov & Murray 2008, section 4.
    """
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        threshold = (image.astype(jnp.uint32) * jnp.uint32(1 << 16) + jnp.uint32(127)) // jnp.uint32(255)
    elif jnp.issubdtype(image.dtype, jnp.floating):
        threshold = jnp.round(image * (1 << 16)).astype(jnp.uint32)
    else:
        raise TypeError(f"binarize: image has dtype {image.dtype}; give uint8 (0 to 255) or floating point (0 to 1).")
    # Two pixels share a 32-bit word: a generator of counters spends as much on a 16-bit draw as on a 32-bit one.
    words = jax.random.bits(key, (math.ceil(image.size / 2),), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: image.size].reshape(image.shape)
    return (bits.astype(jnp.uint32) < threshold).astype(jnp.float32)


# SHA-256 of the official files, decompressed, in the order in which they are packed: train, then test.
_MNIST_FILES = {
    "mnist_images.idx.xz": (
        (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ),
    "mnist_labels.idx.xz": (
        (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
}


def _load_mnist(split: str) -> Dataset:
    return Dataset(*(_read_idx(name, SPLITS.index(split)) for name in _MNIST_FILES))


def _read_idx(name: str, part: int) -> np.ndarray:
    """One of the official files packed in a bundled one, as an array; verified before it is parsed."""
    parts = _MNIST_FILES[name]
    start, size = sum(size for size, _ in parts[:part]), parts[part][0]
    try:
        with lzma.open(resources.files("vaejax") / "data" / name) as file:
            raw = file.read(start + size)[start:]
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"the bundled file {name} cannot be read ({error}); install vaejax again.") from error
    if hashlib.sha256(raw).hexdigest() != parts[part][1]:
        raise ValueError(
            f"the bundled file {name} is damaged (its SHA-256 is wrong); install vaejax again."
        )
    # idx: two zero bytes, the type (8: unsigned byte), the number of axes, then each length, big-endian, 32 bits.
    num_axes = raw[3]
    shape = np.frombuffer(raw, ">u4", num_axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * num_axes).reshape(shape)


_LOADERS: dict[str, Callable[[str], Dataset]] = {"mnist": _load_mnist}
