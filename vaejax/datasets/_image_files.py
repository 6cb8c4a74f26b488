"""Image files of the user, read by Pillow and stacked as one array.

Whatever is left out or changed is said in a warning; whatever cannot be read is one
error that names the file and the fix.
"""

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vaejax._files import one_line, reason_of
from vaejax.datasets._shared import Arrays, listed
from vaejax.datasets.arrays import split_indices
from vaejax.datasets.errors import DataUnavailableError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# Formats that are read, whatever the suffix; others may run programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# The pixels of the largest image; and those that a byte of an image can hold, 1,032
# bytes of 8 pixels each, since zlib packs no closer; these formats do.
_MOST_PIXELS, _PIXELS_PER_BYTE = 1 << 26, 8 * 1032
_CLOSER = ("TIFF", "WEBP")
# What Pillow raises where a file is damaged or of another format.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)
# Folders of these names are parts of a set rather than classes.
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
_GRAY, _COLORS = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")


def is_flat_folder(path: str) -> bool:
    """Tell if a path is a folder of images, or of classes, without train and test."""
    try:
        return os.path.isdir(path) and bool(
            _image_files(Path(path)) or _class_folders(Path(path))
        )
    except OSError:
        return False


def load_flat_folder(directory: Path, split: str) -> Arrays:
    """Load a split of a folder of images, of which one in ten is for test."""
    pillow = _pillow(directory)
    names = [folder.name for folder in _class_folders(directory)]
    if names and {name.lower() for name in names} <= _PARTS:
        raise ValueError(
            f"{one_line(directory)} holds the folders {', '.join(names)}; name the "
            "parts of a "
            "set train, test and validation."
        )
    if split not in ("train", "test"):
        raise ValueError(
            f"{one_line(directory)} is one folder of images, of which one in ten is "
            "for test; "
            f"it has no split {split!r}."
        )
    files, labels = _find(directory, [directory])
    try:
        kept = split_indices(len(files))[("train", "test").index(split)]
    except ValueError as error:
        raise ValueError(f"{one_line(directory)}: {error}") from error
    images = _read_all(pillow, directory, [files[i] for i in kept], files[0])
    return images, None if labels is None else labels[kept]


def load_image_files(directory: Path) -> Arrays:
    """Load every image file of a directory, in the order of their names.

    The folders that they lie in are the classes, numbered by name over all splits.
    """
    pillow = _pillow(directory)
    # A class that is missing from one split must not shift the others.
    splits = [directory.parent / split for split in ("train", "validation", "test")]
    files, labels = _find(directory, [directory, *splits])
    return _read_all(pillow, directory, files, files[0]), labels


def _find(
    directory: Path, splits: Sequence[Path]
) -> tuple[list[Path], np.ndarray | None]:
    """The image files in order, and their classes, of those in all splits."""
    loose, folders = _image_files(directory), _class_folders(directory)
    if loose and folders:
        raise ValueError(
            f"{one_line(directory)} holds both images and folders of images; give "
            "each image a "
            "folder, or none."
        )
    files = loose or [file for folder in folders for file in _image_files(folder)]
    if not files:
        raise ValueError(
            f"{one_line(directory)} holds no image; put {', '.join(SUFFIXES)} files "
            "there, or "
            f"into a folder for each class; it holds {_listed(_visible(directory))}."
        )
    read = {*files, *folders}
    left_out = [
        entry
        for folder in (directory, *folders)
        for entry in _visible(folder)
        if entry not in read
    ]
    if left_out:
        warnings.warn(
            f"{one_line(directory)}: left out is what is no {', '.join(SUFFIXES)} "
            "file: "
            f"{_listed(left_out)} ({len(left_out)} in all)",
            stacklevel=5,
        )
    if loose:
        return files, None
    names = sorted(
        {
            folder.name
            for split in splits
            if split.is_dir()
            for folder in _class_folders(split)
        }
    )
    labels = np.array([names.index(file.parent.name) for file in files])
    return files, labels.astype(np.uint8 if len(names) <= 256 else np.int32)


def _listed(entries: Iterable[Path]) -> str:
    return listed(sorted(entry.name for entry in entries))


def _visible(directory: Path) -> list[Path]:
    return [entry for entry in directory.iterdir() if not entry.name.startswith(".")]


def _image_files(directory: Path) -> list[Path]:
    return sorted(
        entry
        for entry in _visible(directory)
        if entry.suffix.lower() in SUFFIXES and entry.is_file()
    )


def _class_folders(directory: Path) -> list[Path]:
    return sorted(
        entry for entry in _visible(directory) if entry.is_dir() and _image_files(entry)
    )


def _read_all(
    pillow: ModuleType, directory: Path, files: Sequence[Path], first_file: Path
) -> np.ndarray:
    """Stack images that are of the size and kind of the first file of the set."""
    first, _ = _read(pillow, first_file)
    images = np.empty((len(files), *first.shape), first.dtype)
    num_transparent = 0
    for index, file in enumerate(files):
        image, is_transparent = _read(pillow, file)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(
                f"{one_line(file)} is {_describe(image)}, and {one_line(first_file)} "
                "is "
                f"{_describe(first)}; give images of one size, all gray or all RGB, of "
                "as many bits."
            )
        images[index] = image
        num_transparent += is_transparent
    if num_transparent:
        warnings.warn(
            f"{one_line(directory)}: {num_transparent} of {len(files)} images are "
            "transparent in "
            "places and are laid over white",
            stacklevel=5,
        )
    return images


def _describe(image: np.ndarray) -> str:
    kind = "gray" if image.ndim == 2 else "RGB"
    bits = "" if image.dtype == np.uint8 else " of 16 bits"
    return f"{image.shape[0]}x{image.shape[1]} {kind}{bits}"


def _pillow(directory: Path) -> ModuleType:
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise DataUnavailableError(
            f"{one_line(directory)} holds image files, which Pillow reads: pip install "
            f"'vaejax[images]', or save them as {directory.name}.npy."
        ) from error
    return PIL


def _read(pillow: ModuleType, file: Path) -> tuple[np.ndarray, bool]:
    """Read an image file upright, laid over white where it is transparent.

    It returns `[height, width]` for a gray image, `[height, width, 3]` for one in
    color, uint8 or uint16; and whether any of it is transparent.
    """
    try:
        # As an open file: by its name, Pillow maps a .tif and may mix up its sides.
        with (
            file.open("rb") as opened,
            pillow.Image.open(opened, formats=_FORMATS) as image,
        ):
            num_bytes = None if image.format in _CLOSER else file.stat().st_size
            _check_pixels(image.size, num_bytes)
            mode, is_png = image.mode, image.format == "PNG"
            num_bits = _bits(image, file)
            # A photograph may hold a small copy of itself as a second frame.
            num_frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            upright = pillow.ImageOps.exif_transpose(image)
            pixels, is_transparent = _decode(upright, is_png)
    except (*_PILLOW_ERRORS, pillow.Image.DecompressionBombError) as error:
        raise ValueError(
            f"{one_line(file)} cannot be read as an image: {reason_of(error)}; save it "
            "again as .png or .jpg, or remove it."
        ) from error
    if num_frames > 1:
        raise ValueError(
            f"{one_line(file)} holds {num_frames} frames; save those to train on as "
            "image files "
            "of their own."
        )
    if pixels is None:
        raise ValueError(
            f"{one_line(file)} has the mode {mode} of Pillow; convert it to gray (L) "
            "or RGB, of "
            "8 bits, or save the set as .npy files."
        )
    if num_bits > 8 and pixels.dtype == np.uint8:
        raise ValueError(
            f"{one_line(file)} has colors of {num_bits} bits, of which Pillow reads "
            "8; convert "
            "it to RGB of 8 bits, or save the set as .npy files."
        )
    return pixels, is_transparent


def _check_pixels(size: tuple[int, int], num_bytes: int | None) -> None:
    """Check the size that an image's header gives, before memory is taken for it.

    The bytes of the file bound it, unless its format packs closer than any bound.
    """
    num, most, within = size[0] * size[1], _MOST_PIXELS, ""
    if num_bytes is not None:
        most, within = (
            min(most, _PIXELS_PER_BYTE * num_bytes),
            f" in {num_bytes:,} bytes",
        )
    if num > most:
        raise ValueError(
            f"its header promises {size[0]:,} x {size[1]:,} pixels{within}, and "
            f"{_MOST_PIXELS:,} are the most"
        )


def _decode(image: Any, is_png: bool) -> tuple[np.ndarray | None, bool]:
    """The pixels of an image over white, and whether any of it is transparent."""
    color = image.info.get("transparency")
    # Earlier versions of Pillow read gray PNG files of 16 bits into 32.
    if image.mode in _DEEP or (image.mode == "I" and is_png):
        pixels = np.asarray(image).astype(np.uint16)
        clear = np.zeros(pixels.shape, bool) if color is None else pixels == color
        pixels[clear] = 65535
        return pixels, bool(clear.any())
    if image.mode not in _GRAY + _COLORS:
        return None, False
    is_gray = image.mode in _GRAY
    if color is None and image.mode in ("1", "L", "P", "RGB"):
        return np.asarray(image.convert("L" if is_gray else "RGB")), False
    values = np.asarray(image.convert("RGBA")).astype(np.uint32)
    colors, alpha = values[..., : 1 if is_gray else 3], values[..., 3:]
    over_white = (colors * alpha + 255 * (255 - alpha) + 127) // 255
    pixels = over_white.astype(np.uint8)
    return pixels[..., 0] if is_gray else pixels, bool(np.any(alpha < 255))


def _bits(image: Any, file: Path) -> int:
    """The bits of one color as the file has them, for formats with more than 8."""
    if image.format == "PNG":
        with file.open("rb") as opened:
            return opened.read(25)[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,)))
    return 8
