"""The jobs of the benchmark in other libraries, each in its library's usual way.

These files import nothing of vaejax: a change of the library is measured against the
same peers, and `source_digests` says whether they are. Read `plain_jax.py` first.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Job(NamedTuple):
    """A job of training on images, as every library does it.

    Attributes:
      images: training images, uint8 of 0 to 255 or floating point in [0, 1].
      layers: `(fan_in, fan_out)` of the four dense layers of the main job.
      batch_size: images per step.
      learning_rate: initial learning rate of Adam; decays to 0 by a cosine.
      num_steps: steps of the cosine.
    """

    images: np.ndarray
    layers: list[tuple[int, int]]
    batch_size: int
    learning_rate: float
    num_steps: int

    @property
    def steps_per_epoch(self) -> int:
        return len(self.images) // self.batch_size

    @property
    def images_used(self) -> int:
        return self.steps_per_epoch * self.batch_size


def intensities(images: Any) -> Any:
    """Return images `[batch, ...]` as probabilities `[batch, pixels]`, float32."""
    scale = 255 if images.dtype == np.uint8 else 1
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(scale)


def source_digests() -> dict[str, str]:
    """Return the SHA-256 of each file of this package."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
