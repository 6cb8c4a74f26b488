"""Products of a matrix with every window of an image: what convolutions are made of."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from vaejax.base import Array
from vaejax.networks._products import product


class WindowProducts(nn.Module):
    """Linear function of every window of an image, with the parameters of `nn.Dense`.

    It maps `[h, w, c]` to `[h + 2 pad - size + 1, w + 2 pad - size + 1, features]`.

    Attributes:
      features: the number of outputs of each window.
      size: the height and width of a window.
      pad: the rows and columns of zeros at each edge of the image.
      kernel_init: the initializer of the kernel, `[size^2 c, features]`.
    """

    features: int
    size: int
    pad: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, pad, features = self.size, self.pad, self.features
        height, width, channels = x.shape
        kernel = self.param(
            "kernel", self.kernel_init, (size * size * channels, features)
        )
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)
        rows, columns = height + 2 * pad - size + 1, width + 2 * pad - size + 1
        # The windows of the pixels, or the products of the pixels: whichever makes far
        # fewer numbers.
        if 2 * height * width * features >= rows * columns * channels:
            x = jnp.pad(x, ((pad, pad), (pad, pad), (0, 0)))
            return product(_windows(x, size), kernel) + bias[None, None]
        by_pixel = kernel.reshape(size * size, channels, features).transpose(1, 0, 2)
        products = product(x, by_pixel.reshape(channels, -1))
        products = products.reshape(height, width, size * size, features)
        summed = _sum_of_windows(products, (rows, columns), size, pad)
        return summed + bias[None, None]


def _windows(x: Array, size: int) -> Array:
    """Return every `size` by `size` window of an image, its pixels side by side.

    It maps `[h, w, c]` to `[h - size + 1, w - size + 1, size^2 c]`.
    """
    height, width = x.shape[0] - size + 1, x.shape[1] - size + 1
    shifted = [
        x[row : row + height, column : column + width]
        for row in range(size)
        for column in range(size)
    ]
    # Stacked, since the compiler fuses the slices into it, but not into a
    # concatenation of the last axis.
    return jnp.stack(shifted, axis=2).reshape(height, width, -1)


def _sum_of_windows(
    products: Array, shape: tuple[int, int], size: int, pad: int
) -> Array:
    """Return the sum over each window of what its pixels add to it.

    It maps `[h, w, size^2, features]`, for each pixel what it adds to the window that
    has it at that place, to `[*shape, features]`.
    """
    zero = jnp.zeros((), products.dtype)
    edges = [
        [
            (pad - place, shape[axis] - products.shape[axis] - pad + place, 0)
            for place in range(size)
        ]
        for axis in (0, 1)
    ]
    shifted = [
        jax.lax.pad(
            products[:, :, size * row + column],
            zero,
            (edges[0][row], edges[1][column], (0, 0, 0)),
        )
        for row in range(size)
        for column in range(size)
    ]
    return sum(shifted, start=zero)
