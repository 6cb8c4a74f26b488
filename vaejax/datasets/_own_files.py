"""The user's own images: an .npz file, a folder of .npy files, or of image files.

Whatever is wrong with them is one error that names the file, the value and the fix.
Memory maps are read in chunks.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaejax.datasets._shared import Arrays, first_wrong, open_npy, open_npz
from vaejax.datasets.errors import DataUnavailableError

LAYOUTS = (
    "a folder with train.npy and test.npy, or with images train/*.png and test/*.png"
)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def load_npz(path: Path, split: str) -> Arrays:
    """Load arrays `{split}_images` and perhaps `{split}_labels` of an .npz file."""
    with open_npz(path) as file:
        arrays = dict(file)
    key = f"{split}_images"
    if key not in arrays:
        raise ValueError(f"{path} has no {key!r}; it holds {sorted(arrays)}.")
    images, labels = arrays[key], arrays.get(f"{split}_labels")
    check_images(images, f"{key} in {path}")
    if labels is not None:
        check_labels(labels, len(images), f"{split}_labels in {path}")
    if images.dtype != np.uint8:
        # The arrays are in memory already, so a copy costs little.
        images = images.astype(np.float32, copy=False)
    return images, labels


def is_folder(path: str) -> bool:
    """Tell if a path is a folder that `load_folder` takes; it may be any string."""
    return path != "" and any(
        os.path.isfile(os.path.join(path, f"{split}.npy"))
        or os.path.isdir(os.path.join(path, split))
        for split in ("train", "test")
    )


def load_folder(path: Path, split: str) -> Arrays:
    """Load a split of a folder.

    It holds `{split}.npy` and perhaps `{split}_labels.npy`, which are memory-mapped, or
    image files in `{split}/`.
    """
    file, directory = path / f"{split}.npy", path / split
    if file.exists() and directory.is_dir():
        raise ValueError(
            f"{path} holds both {split}.npy and the folder {split}; remove one of them."
        )
    if directory.is_dir():
        return _load_image_files(directory)
    if not file.exists():
        found = sorted(entry.name for entry in path.iterdir())
        listed = ", ".join(found[:8] + ["..."] * (len(found) > 8)) or "nothing"
        raise ValueError(
            f"{path} has no {split}.npy [examples, height, width] and no folder "
            f"{split} of .png or .jpg files; it holds {listed}."
        )
    images = _memory_map(file)
    check_images(images, str(file))
    labels_file = path / f"{split}_labels.npy"
    if not labels_file.exists():
        return images, None
    labels = _memory_map(labels_file)
    check_labels(labels, len(images), str(labels_file))
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
            f"{file} is stored in {order}; save it with np.save(file, "
            f"np.ascontiguousarray(array, np.{array.dtype.newbyteorder('=').name}))."
        )
    return array


def check_images(images: np.ndarray, where: str) -> None:
    """Check that an array holds images, uint8 or floating point in [0, 1].

    Raises:
      ValueError: it does not; the error names the first intensity that is wrong.
    """
    floating = np.issubdtype(images.dtype, np.floating)
    if (
        not (floating or images.dtype == np.uint8)
        or images.ndim not in (3, 4)
        or not images.size
    ):
        raise ValueError(
            f"{where} is {images.dtype} {list(images.shape)}; give at least one image "
            "as uint8 (0 to 255) or floating point (0 to 1), [examples, height, "
            "width]."
        )
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{where} has shape {list(images.shape)}; the last of four axes holds the "
            "colors: give 1 or 3 of them."
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


def _load_image_files(directory: Path) -> Arrays:
    """Load every image file of a directory, in the order of their names.

    The folders that they lie in are the classes, numbered by name over all splits.
    """
    read = _reader(directory)
    loose, folders = _image_files(directory), _class_folders(directory)
    if loose and folders:
        raise ValueError(
            f"{directory} holds both images and folders of images; give each image a "
            "folder, or none."
        )
    files = loose or [file for folder in folders for file in _image_files(folder)]
    if not files:
        raise ValueError(
            f"{directory} holds no image; put .png or .jpg files there, or into a "
            "folder for each class."
        )
    first = read(files[0])
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, file in enumerate(files):
        image = read(file)
        if image.shape != first.shape:
            raise ValueError(
                f"{file} is {_describe(image)}, and {files[0]} is {_describe(first)}; "
                "give images of one size, all gray or all RGB."
            )
        images[index] = image
    if loose:
        return images, None
    # A class that is missing from one split must not shift the others.
    splits = {
        directory,
        *(directory.parent / split for split in ("train", "validation", "test")),
    }
    names = sorted(
        {
            folder.name
            for split in splits
            if split.is_dir()
            for folder in _class_folders(split)
        }
    )
    labels = np.array([names.index(file.parent.name) for file in files])
    return images, labels.astype(np.uint8 if len(names) <= 256 else np.int32)


def _image_files(directory: Path) -> list[Path]:
    entries = (entry for entry in directory.iterdir() if not entry.name.startswith("."))
    return sorted(
        entry
        for entry in entries
        if entry.suffix.lower() in _IMAGE_SUFFIXES and entry.is_file()
    )


def _class_folders(directory: Path) -> list[Path]:
    entries = (entry for entry in directory.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if entry.is_dir() and _image_files(entry))


def _describe(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]} {'gray' if image.ndim == 2 else 'RGB'}"


def _reader(directory: Path) -> Callable[[Path], np.ndarray]:
    """Make the function that reads an image file.

    It returns uint8 `[height, width]` for a gray image, `[height, width, 3]` for one in
    color.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataUnavailableError(
            f"{directory} holds image files, which Pillow reads: pip install "
            f"'vaejax[images]', or save them as {directory.name}.npy."
        ) from error
    modes = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}

    def read(file: Path) -> np.ndarray:
        try:
            with Image.open(file) as image:
                mode = image.mode
                pixels = np.asarray(image.convert(modes.get(mode, "RGB")))
        # Pillow has several errors for each format.
        except Exception as error:
            raise ValueError(f"{file} cannot be read as an image: {error}.") from error
        if mode not in modes:
            raise ValueError(
                f"{file} has the mode {mode} of Pillow; convert it to gray (L) or RGB, "
                "of 8 bits."
            )
        return pixels

    return read
