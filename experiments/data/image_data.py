"""Images as numbers: intensities in [0, 1]."""

import jax.numpy as jnp
import numpy as np

from vaejax.base import Array


def intensities(images: np.ndarray | Array) -> Array:
    """Return images as float32 in [0, 1]; uint8 ones are divided by 255."""
    images = jnp.asarray(images)
    return images.astype(jnp.float32) / (255 if images.dtype == jnp.uint8 else 1)
