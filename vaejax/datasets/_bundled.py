"""Arrays that are part of the package."""

import hashlib
import lzma
from importlib import resources

import numpy as np

from vaejax.datasets.catalogue import parse_idx
from vaejax.datasets.errors import Arrays

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


def load_mnist(split: str) -> Arrays:
    """Images and labels of the bundled digits; each file is verified first."""
    images, labels = (
        _read_idx(name, ["train", "test"].index(split)) for name in _MNIST_FILES
    )
    return images, labels


def _read_idx(name: str, part: int) -> np.ndarray:
    """One of the official files packed in a bundled one, as an array; verified before
    it is parsed.
    """
    parts = _MNIST_FILES[name]
    start, size = sum(size for size, _ in parts[:part]), parts[part][0]
    try:
        with lzma.open(
            resources.files("vaejax.datasets") / "bundled_data" / name
        ) as file:
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
    return parse_idx(raw)
