"""Image files of the user, read by Pillow and stacked as one array."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaejax.datasets._shared import Arrays
from vaejax.datasets.errors import DataUnavailableError

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def load_image_files(directory: Path) -> Arrays:
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
