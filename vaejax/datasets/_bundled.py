"""Files that are part of the package: the digits of MNIST and a corpus.

Each is an .xz file in `bundled_data/`, and its contents are verified by SHA-256.
"""

import hashlib
import lzma
from importlib import resources

import numpy as np

from vaejax.datasets._shared import Arrays, parse_idx

# Sizes and SHA-256 of the official files, decompressed, in the order in which they are
# packed: train, then test.
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
_KING_JAMES_SHA256 = "b5c4940bcfeee072c0935b5200d0f9d88a00a0199cb0961d16133458fcdfae5d"


def load_mnist(split: str) -> Arrays:
    """Load images and labels of the bundled digits."""
    index = ["train", "test"].index(split)
    images, labels = (_read_idx(name, index) for name in _MNIST_FILES)
    return images, labels


def load_king_james() -> str:
    """Load the verses of the King James Bible, one per line."""
    return _read("king_james.txt.xz", _KING_JAMES_SHA256).decode()


def _read_idx(name: str, index: int) -> np.ndarray:
    """Read one of the idx files that are packed in a bundled file, as an array."""
    start = sum(size for size, _ in _MNIST_FILES[name][:index])
    size, sha256 = _MNIST_FILES[name][index]
    return parse_idx(_read(name, sha256, start, start + size))


def _read(name: str, sha256: str, start: int = 0, stop: int = -1) -> bytes:
    """Read the bytes from `start` to `stop` of a bundled file; -1 stands for its end.

    Raises:
      ValueError: the file is missing or damaged.
    """
    path = resources.files("vaejax.datasets") / "bundled_data" / name
    try:
        with path.open("rb") as compressed, lzma.open(compressed) as file:
            raw = file.read(stop)[start:]
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(
            f"the bundled file {name} cannot be read ({error}); install vaejax again."
        ) from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise ValueError(
            f"the bundled file {name} is damaged (its SHA-256 is wrong); install "
            "vaejax again."
        )
    return raw
