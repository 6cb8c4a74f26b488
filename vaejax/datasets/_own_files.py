"""The user's own images: an .npz file, or a folder of .npy files or of image files.

Whatever is wrong with them is one error that names the file, the value and the fix.
Memory maps are read in chunks.
"""

import os
from pathlib import Path

import numpy as np

from vaejax._files import one_line
from vaejax.datasets._image_files import (
    is_flat_folder,
    load_flat_folder,
    load_image_files,
)
from vaejax.datasets._npy_files import npz_names, open_npy, read_npz
from vaejax.datasets._shared import Arrays, first_wrong, listed
from vaejax.datasets.arrays import check_image_axes

LAYOUTS = (
    "a folder with train.npy and test.npy, or with images *.png, or train/*.png and "
    "test/*.png"
)


def load_npz(path: Path, split: str) -> Arrays:
    """Load arrays `{split}_images` and perhaps `{split}_labels` of an .npz file."""
    key, where = f"{split}_images", one_line(path)
    arrays = read_npz(path, key, f"{split}_labels")
    if key not in arrays:
        raise ValueError(
            f"{where} has no {key!r}; it holds {listed(npz_names(path))}; save the "
            "images under this name."
        )
    images, labels = arrays[key], arrays.get(f"{split}_labels")
    check_images(images, f"{key} in {where}")
    if labels is not None:
        check_labels(labels, len(images), f"{split}_labels in {where}")
    if np.issubdtype(images.dtype, np.floating):
        # The arrays are in memory already, so a copy costs little.
        images = images.astype(np.float32, copy=False)
    return images, labels


def is_folder(path: str) -> bool:
    """Tell if a path is a folder that `load_folder` takes; it may be any string."""
    return path != "" and (_has_parts(path) or is_flat_folder(path))


def _has_parts(path: str | Path) -> bool:
    return any(
        os.path.isfile(os.path.join(path, f"{split}.npy"))
        or os.path.isdir(os.path.join(path, split))
        for split in ("train", "test")
    )


def load_folder(path: Path, split: str) -> Arrays:
    """Load a split of a folder.

    It holds `{split}.npy` and perhaps `{split}_labels.npy`, which are memory-mapped, or
    image files in `{split}/`; or image files alone, of which a part is for test.
    """
    if not _has_parts(path):
        return load_flat_folder(path, split)
    file, directory = path / f"{split}.npy", path / split
    if file.exists() and directory.is_dir():
        raise ValueError(
            f"{one_line(path)} holds both {split}.npy and the folder {split}; remove "
            "one of them."
        )
    if directory.is_dir():
        return load_image_files(directory)
    if not file.exists():
        found = sorted(entry.name for entry in path.iterdir())
        raise ValueError(
            f"{one_line(path)} has no {split}.npy [examples, height, width] and no "
            f"folder {split} of image files; it holds {listed(found)}."
        )
    images = _memory_map(file)
    check_images(images, one_line(file))
    labels_file = path / f"{split}_labels.npy"
    if not labels_file.exists():
        return images, None
    labels = _memory_map(labels_file)
    check_labels(labels, len(images), one_line(labels_file))
    return images, labels


def _memory_map(file: Path) -> np.ndarray:
    array = open_npy(file)
    if not array.dtype.isnative or not array.flags.c_contiguous:
        order = (
            "Fortran order"
            if array.dtype.isnative
            else "the byte order of another machine"
        )
        raise ValueError(
            f"{one_line(file)} is stored in {order}; save it with np.save(file, "
            f"np.ascontiguousarray(array, np.{array.dtype.newbyteorder('=').name}))."
        )
    return array


def check_images(images: np.ndarray, where: str) -> None:
    """Check that an array holds images: uint8, uint16, or floating point in [0, 1].

    Raises:
      ValueError: it does not; the error names the first intensity that is wrong.
    """
    floating = np.issubdtype(images.dtype, np.floating)
    if images.ndim > 3 and images.size:
        check_image_axes(images, where=where)
    if (
        not (floating or images.dtype in (np.uint8, np.uint16))
        or images.ndim not in (3, 4)
        or not images.size
    ):
        raise ValueError(
            f"{where} is {images.dtype} {list(images.shape)}; give at least one image "
            "as uint8 (0 to 255), uint16 (0 to 65,535) or floating point (0 to 1), "
            "[examples, height, width]."
        )
    # NaN fails both comparisons.
    if floating and (
        found := first_wrong(images, lambda part: (part >= 0) & (part <= 1))
    ):
        raise ValueError(
            f"{where} {found}; intensities must lie in [0, 1] (or be uint8, 0 to 255)."
        )


def check_labels(labels: np.ndarray, num_images: int, where: str) -> None:
    """Check that labels are integers, one or several per image.

    Raises:
      ValueError: they are not.
    """
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or labels.ndim not in (1, 2)
        or len(labels) != num_images
    ):
        raise ValueError(
            f"{where} is {labels.dtype} {list(labels.shape)}; give {num_images} "
            f"integer classes, [{num_images}], or factors, [{num_images}, factors]."
        )
