"""Random transforms of one example, for the training step."""

import math

import jax
import jax.extend.random
import jax.numpy as jnp

from vaejax._checks import as_numbers, check_key
from vaejax.base import Array, Key


def binarize(key: Key, image: Array) -> Array:
    """Draw each pixel of one image as 1 with the probability of its intensity, else 0.

    The probability is within 2^-17 of the intensity, and exact at 0 and at 1: 16 random
    bits per pixel are compared with the intensity rounded to a multiple of 2^-16.

    Args:
      key: key of the draw.
      image: one image of any shape, `uint8` with intensity v / 255, or floating point
        in [0, 1].

    Returns:
      Zeros and ones, float32, of the shape of the image; NaN where an intensity is NaN
      or outside [0, 1].

    Raises:
      TypeError: the image has another dtype.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import datasets
      >>> image = jnp.array([[0, 255], [128, 255]], jnp.uint8)
      >>> binary = datasets.binarize(jax.random.key(0), image)
      >>> binary.shape, int(binary[0, 0]), int(binary[1, 1])
      ((2, 2), 0, 1)

    Source: Salakhutdinov & Murray 2008, section 4.
    """
    check_key(key)
    image = jnp.asarray(as_numbers("binarize: image", image))
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"binarize: image has dtype {image.dtype}; give uint8 (0 to 255) or "
            "floating point (0 to 1)."
        )
    # Two pixels share a 32-bit word, since counter-based generators spend as much on 16
    # bits as on 32. As a vector: loops over an image's short last axis are slow on CPU.
    words = _random_words(key, math.ceil(image.size / 2))
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: image.size]
    bits = bits.astype(jnp.uint32)
    intensity = jnp.ravel(image)
    if image.dtype == jnp.uint8:
        # bits < floor((2^16 v + 127) / 255), without the division.
        threshold = intensity.astype(jnp.uint32) * jnp.uint32(1 << 16) + jnp.uint32(127)
        is_one = (bits + jnp.uint32(1)) * jnp.uint32(255) <= threshold
    else:
        # In float32: 2^16 overflows float16.
        intensity = intensity.astype(jnp.float32)
        scaled = intensity * jnp.float32(1 << 16)
        is_one = bits < jnp.round(scaled).astype(jnp.uint32)
        is_inside = (intensity >= 0) & (intensity <= 1)
        is_one = jnp.where(is_inside, is_one.astype(jnp.float32), jnp.nan)
    return is_one.astype(jnp.float32).reshape(image.shape)


def _random_words(key: Key, num_words: int) -> Array:
    """Return independent uniform words, uint32 `[num_words]`."""
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.bits(key, (num_words,), jnp.uint32)
    # Both words of each block: `jax.random.bits` makes one of the two, and the cost is
    # that of the blocks.
    counts = jnp.arange(num_words, dtype=jnp.uint32)
    return jax.extend.random.threefry_2x32(jax.random.key_data(key), counts)
