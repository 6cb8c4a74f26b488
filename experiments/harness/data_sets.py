"""The data set that --data names: loaded, checked, and split."""

from experiments.harness.config import Config
from experiments.harness.errors import UsageError
from vaejax import datasets


def load_images(config: Config) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Load the training and the test part of the data set that --data names.

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
    return train, test


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
