"""Images of the user's own: an .npz file, a folder of .npy files, or a folder of image
files.

Whatever is wrong with them is one error that names the file, the value and the fix.
Nothing here holds more than a chunk of a memory map.
"""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vaejax.datasets.errors import Arrays, DataUnavailableError

LAYOUTS = (
    "a folder with train.npy and test.npy, or with images train/*.png and test/*.png"
)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_CHUNK_BYTES = 1 << 24


def iterate_chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive parts along the leading axis, of some megabytes; the array itself
    where it has no axis.
    """
    if not array.ndim:
        yield array
        return
    rows = max(1, _CHUNK_BYTES * len(array) // max(array.nbytes, 1))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def first_wrong(array: np.ndarray, is_right: Callable[[np.ndarray], Any]) -> str | None:
    """The first value that is not right and where it is, as "holds 2 in example 1 (at
    [1, 0])"; None where all are.
    """
    start = 0
    for part in iterate_chunks(array):
        wrong = ~np.asarray(is_right(part))
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            return f"holds {part[place]!s} in example {start + place[0]} (at {[start + place[0], *place[1:]]})"
        start += len(part)
    return None


@contextmanager
def open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An .npz file, whose arrays are read when they are asked for; ValueError where it
    or they cannot be read.
    """
    try:
        file = np.load(path)
        if isinstance(file, np.ndarray):
            raise ValueError("it is a .npy file; rename it")
        with file:
            yield file
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as .npz: {error}.") from error


def open_npy(path: Path, action: str = "memory-mapped") -> np.ndarray:
    """A .npy file, memory-mapped; ValueError where it cannot be `action`."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be {action}: {error}; save one array in it with np.save."
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an .npz file; save one array in it with np.save.")
    return array


def load_npz(path: Path, split: str) -> Arrays:
    """Arrays `{split}_images` and perhaps `{split}_labels` of an .npz file."""
    with open_npz(path) as file:
        arrays = dict(file)
    key = f"{split}_images"
    if key not in arrays:
        raise ValueError(f"{path} has no {key!r}; it holds {sorted(arrays)}.")
    images, labels = arrays[key], arrays.get(f"{split}_labels")
    check_images(images, f"{key} in {path}")
    if labels is not None:
        check_labels(labels, len(images), f"{split}_labels in {path}")
    # Sixteen and 64 bits become 32; a copy, but of what is in memory anyway.
    return images if images.dtype == np.uint8 else images.astype(
        np.float32, copy=False
    ), labels


def is_folder(path: str) -> bool:
    """Whether it is laid out as `load_folder` wants it. Any string may be asked about."""
    return path != "" and any(
        os.path.isfile(os.path.join(path, f"{split}.npy"))
        or os.path.isdir(os.path.join(path, split))
        for split in ("train", "test")
    )


def load_folder(path: Path, split: str) -> Arrays:
    """`{split}.npy`, memory-mapped, and perhaps `{split}_labels.npy`; or the image
    files in `{split}/`.
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
            f"{split} of .png or .jpg files; it "
            f"holds {listed}."
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
            "np.ascontiguousarray(array, "
            f"np.{array.dtype.newbyteorder('=').name}))."
        )
    return array


def check_images(images: np.ndarray, where: str) -> None:
    """ValueError, naming the first intensity that is wrong, unless these are images,
    uint8 or in [0, 1].
    """
    floating = np.issubdtype(images.dtype, np.floating)
    if (
        not (floating or images.dtype == np.uint8)
        or images.ndim not in (3, 4)
        or not images.size
    ):
        raise ValueError(
            f"{where} is {images.dtype} {list(images.shape)}; give at least one image "
            "as uint8 (0 to 255) or floating "
            "point (0 to 1), [examples, height, width]."
        )
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{where} has shape {list(images.shape)}; the last of four axes holds the "
            "colors: give 1 or 3 of them."
        )
    # NaN lies nowhere.
    if floating and (
        found := first_wrong(images, lambda part: (part >= 0) & (part <= 1))
    ):
        raise ValueError(
            f"{where} {found}; intensities must lie in [0, 1] (or be uint8, 0 to 255)."
        )


def check_labels(labels: np.ndarray, num_images: int, where: str) -> None:
    """ValueError unless these are integers, one or several for each image."""
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or labels.ndim not in (1, 2)
        or len(labels) != num_images
    ):
        raise ValueError(
            f"{where} is {labels.dtype} {list(labels.shape)}; give {num_images} "
            f"integer classes, [{num_images}], or "
            f"factors, [{num_images}, factors]."
        )


def _load_image_files(directory: Path) -> Arrays:
    """Every image file, by name; the folders that they lie in are the classes, numbered
    by name over all splits.
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
                "give images of one size, all "
                "gray or all RGB."
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
    """`read(file)`: uint8 `[height, width]` of a gray image, `[height, width, 3]` of
    one in color.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataUnavailableError(
            f"{directory} holds image files, which Pillow reads: pip install "
            "'vaejax[images]', or save them as "
            f"{directory.name}.npy."
        ) from error
    modes = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}

    def read(file: Path) -> np.ndarray:
        try:
            with Image.open(file) as image:
                mode = image.mode
                pixels = np.asarray(image.convert(modes.get(mode, "RGB")))
        except Exception as error:  # Pillow has several for each format; whichever it is, it is the reason reported.
            raise ValueError(f"{file} cannot be read as an image: {error}.") from error
        if mode not in modes:
            raise ValueError(
                f"{file} has the mode {mode} of Pillow; convert it to gray (L) or RGB, "
                "of 8 bits."
            )
        return pixels

    return read
