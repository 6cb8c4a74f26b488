"""Small files in the official formats of image sets, for the tests of what is built
from them.
"""

import gzip
import struct

import numpy as np
import scipy.io

from vaejax import datasets
from vaejax.datasets import _official_files

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Examples of each split.
TWO, THREE = {"train": 23, "test": 5}, {"train": 23, "validation": 7, "test": 5}


def shrink(monkeypatch, name, sizes, url=None):
    """Gives a set of the catalogue few examples, no known SHA-256, and perhaps another
    address of its files.
    """
    source = datasets.CATALOGUE[name]
    files = tuple(
        tuple(
            file._replace(sha256=None, url=f"{url}/{file.name}" if url else file.url)
            for file in alternative
        )
        for alternative in source.files
    )
    monkeypatch.setitem(
        datasets.CATALOGUE, name, source._replace(splits=sizes, files=files)
    )


def idx(array):
    return (
        struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        + array.tobytes()
    )


def random_arrays(seed, sizes, shape, levels=256, num_labels=10):
    """Of each split, images of so many levels from 0 to 255, and labels."""
    rng = np.random.default_rng(seed)
    step = 255 // (levels - 1)
    return {
        split: (
            rng.integers(0, levels, (size, *shape), np.uint8) * step,
            rng.integers(0, num_labels, size, np.uint8),
        )
        for split, size in sizes.items()
    }


def write_idx(directory, arrays):
    for name, array in zip(
        IDX_NAMES, [array for split in arrays.values() for array in split], strict=True
    ):
        (directory / f"{name}.gz").write_bytes(gzip.compress(idx(array)))


def write_frey_npz(directory, arrays):
    np.savez(directory / "frey_faces.npz", image=arrays)


def write_frey_mat(directory, arrays):
    scipy.io.savemat(
        directory / "frey_rawface.mat", {"ff": arrays.reshape(len(arrays), -1).T}
    )


def write_amat(directory, arrays):
    for split, name in {
        "train": "train",
        "validation": "valid",
        "test": "test",
    }.items():
        lines = [
            " ".join(map(str, row))
            for row in (arrays[split][0] // 255).reshape(-1, 784)
        ]
        (directory / f"binarized_mnist_{name}.amat").write_text("\n".join(lines) + "\n")


def by_columns(images):
    return images.transpose(0, 2, 1).reshape(len(images), -1)


def write_omniglot(directory, arrays):
    contents = {}
    for prefix, (images, labels) in zip(("", "test"), arrays.values(), strict=True):
        contents[f"{prefix}data"] = by_columns(images).T / 255
        contents[f"{prefix}target"] = np.eye(50)[labels].T
    scipy.io.savemat(directory / "chardata.mat", contents)


def write_caltech101(directory, arrays):
    contents = {}
    for name, (images, labels) in zip(
        ("train", "val", "test"), arrays.values(), strict=True
    ):
        contents |= {
            f"{name}_data": by_columns(images) // 255,
            f"{name}_labels": labels[:, None].astype(float) + 1,
        }
    scipy.io.savemat(directory / "caltech101_silhouettes_28_split1.mat", contents)


def official(tmp_path, name="official"):
    directory = tmp_path / name
    directory.mkdir()
    return directory


def assert_equal(dataset, arrays):
    images, labels = arrays
    assert dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images, images)
    if labels is None:
        assert dataset.labels is None
    else:
        assert dataset.labels.dtype == np.uint8
        np.testing.assert_array_equal(dataset.labels, labels)


def home_of(data_dir, name):
    return data_dir / _official_files.BUILDER / name / _official_files.VERSION
