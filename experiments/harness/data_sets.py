"""The data set that --data names: loaded, checked, and split."""

import os
from pathlib import Path

import numpy as np

from experiments.harness.config import Config
from experiments.harness.errors import UsageError, one_line
from vaejax import datasets


def load_images(
    config: Config, *, keep_levels: bool = False
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Load the training and the test part of the data set that --data names.

    A part of a folder without parts is held out for test, and that is printed.

    Args:
      config: options with `data` and `data_dir`.
      keep_levels: return images of 16 bits as they are, and not as intensities in
        [0, 1], float32.

    Raises:
      UsageError: there is no such set, or its parts do not fit together.
    """
    try:
        train, test = (
            datasets.load(config.data, split=split, directory=config.data_dir)
            for split in ("train", "test")
        )
    except ValueError as error:
        raise UsageError(f"--data: {error}") from error
    shapes = train.images.shape[1:], test.images.shape[1:]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"--data: images are {shapes[0]} for training and {shapes[1]} for test; "
            "make them the same."
        )
    if len(test.images) < 2:
        raise UsageError(
            "--data: there is one test image; variances over the test set need at "
            "least 2."
        )
    if _is_one_folder(config.data):
        num, total = len(test.images), len(train.images) + len(test.images)
        print(
            f"{one_line(config.data)}: {num:,} of {total:,} images, drawn with a "
            "fixed seed, are "
            "held out for test"
        )
    return (train, test) if keep_levels else (_intensities(train), _intensities(test))


def _is_one_folder(data: str) -> bool:
    """Return whether a folder has no parts, so that `datasets.load` makes them."""
    path = Path(os.path.expanduser(data))
    parts = [name for part in ("train", "test") for name in (part, f"{part}.npy")]
    is_own = path.is_dir() and data not in datasets.CATALOGUE
    return is_own and not any((path / name).exists() for name in parts)


def _intensities(data: datasets.Dataset) -> datasets.Dataset:
    """Return images of 16 bits as intensities, which float32 holds to the last bit."""
    if data.images.dtype != np.uint16:
        return data
    return data._replace(images=data.images.astype(np.float32) / np.float32(65535))


def hold_out(
    train: datasets.Dataset, num: int
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """Split the last `num` examples off the training part.

    Returns:
      The training part without them, and these examples, or None where `num` is 0.

    Raises:
      UsageError: no training example is left.
    """
    if not num:
        return train, None
    if num >= len(train.images):
        raise UsageError(
            f"--num-validation is {num} and there are {len(train.images)} training "
            "examples; give fewer."
        )
    parts = [
        datasets.Dataset(
            train.images[part], None if train.labels is None else train.labels[part]
        )
        for part in (slice(None, -num), slice(-num, None))
    ]
    return parts[0], parts[1]
