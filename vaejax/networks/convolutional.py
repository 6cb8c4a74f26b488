"""Convolutional networks for images of any `[height, width]` or `[height, width,
channels]`: one image in, arrays out.

Convolutions are written as matrix products over windows. XLA's own are several times
slower on CPU inside a loop, where a training epoch has them; accelerators take either.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from vaejax.base import Array

_ZEROS = nn.initializers.zeros
_GROUPS = 8


class Convolution(nn.Module):
    """A 3 by 3 convolution that keeps the size: `[height, width, c] -> [height, width,
    channels]`.
    """

    channels: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        return nn.Dense(self.channels, kernel_init=self.kernel_init)(_windows(x, 3))


class DownConvolution(nn.Module):
    """A 4 by 4 convolution of stride 2: `[height, width, c] -> [ceil(height / 2),
    ceil(width / 2), channels]`.
    """

    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        height, width, channels = x.shape
        x = jnp.pad(x, ((1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
        # 2 by 2 neighbors become channels; a window of 2 by 2 of these is one of 4 by
        # 4, every other place.
        rows, columns = x.shape[0] // 2, x.shape[1] // 2
        x = (
            x.reshape(rows, 2, columns, 2, channels)
            .transpose(0, 2, 1, 3, 4)
            .reshape(rows, columns, 4 * channels)
        )
        return nn.Dense(self.channels)(_windows(x, 2))


class UpConvolution(nn.Module):
    """A transposed 4 by 4 convolution of stride 2: `[h, w, c] -> [2 h, 2 w, channels]`,
    cropped to `size` at the end.

    Attributes:
      channels: that come out.
      size: `(height, width)` of the output, each 2 h or 2 h - 1.
    """

    channels: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        height, width, _ = x.shape
        x = _windows(jnp.pad(x, ((1, 1), (1, 1), (0, 0))), 2)
        # Each window makes 2 by 2 pixels, which lie between its four corners; the
        # outermost are outside the image.
        x = nn.Dense(4 * self.channels)(x).reshape(
            height + 1, width + 1, 2, 2, self.channels
        )
        x = x.transpose(0, 2, 1, 3, 4).reshape(
            2 * height + 2, 2 * width + 2, self.channels
        )
        return x[1 : 1 + self.size[0], 1 : 1 + self.size[1]]


class ConvolutionalEncoder(nn.Module):
    """Convolutions of stride 2, then dense layers: an image of any size to features
    `[hidden_sizes[-1]]`.

    Attributes:
      channels: of each convolution, in order; each halves height and width, rounding
        up.
      hidden_sizes: widths of the dense layers after them.
      activation: after each layer.
    """

    channels: Sequence[int] = (32, 64)
    hidden_sizes: Sequence[int] = (256,)
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _with_channels(x)
        for channels in self.channels:
            x = self.activation(DownConvolution(channels)(x))
        return _dense_layers(jnp.ravel(x), self.hidden_sizes, self.activation)


class ConvolutionalDecoder(nn.Module):
    """Dense layers, then transposed convolutions of stride 2: z to what the likelihood
    needs for an image of any size.

    Attributes:
      image_shape: of the image, `(height, width)` or `(height, width, channels)`.
      num_parameters: of the likelihood, for each dimension: the output is `image_shape`
        with 1, else `[*image_shape, num_parameters]`.
      channels: that go into each transposed convolution, in order: the mirror of the
        encoder's.
      hidden_sizes: widths of the dense layers before them.
      activation: after each layer but the last.
    """

    image_shape: Sequence[int]
    num_parameters: int = 1
    channels: Sequence[int] = (64, 32)
    hidden_sizes: Sequence[int] = (256,)
    activation: Callable[[Array], Array] = nn.relu

    def __post_init__(self):
        _check_image_shape("ConvolutionalDecoder", self.image_shape)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Array) -> Array:
        sizes = _halvings(self.image_shape[:2], len(self.channels))
        x = _dense_layers(jnp.ravel(z), self.hidden_sizes, self.activation)
        smallest = (*sizes[-1], self.channels[0])
        x = self.activation(nn.Dense(math.prod(smallest))(x)).reshape(smallest)
        for channels, size in zip(self.channels[1:], sizes[-2:0:-1], strict=True):
            x = self.activation(UpConvolution(channels, size)(x))
        channels = math.prod(self.image_shape[2:]) * self.num_parameters
        return _as_outputs(
            UpConvolution(channels, sizes[0])(x), self.image_shape, self.num_parameters
        )


class ResidualBlock(nn.Module):
    """x + f(x), f twice GroupNorm, swish and a 3 by 3 convolution, the last of which
    starts at zero.

    Normalization is over one example, never a batch. Source: He et al. 2016 (identity
    mappings); Wu & He 2018.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        y = Convolution(channels)(nn.swish(_group_norm(channels)(x)))
        return x + Convolution(channels, kernel_init=_ZEROS)(
            nn.swish(_group_norm(channels)(y))
        )


class ResidualEncoder(nn.Module):
    """Residual blocks between convolutions of stride 2, for larger images; features
    `[hidden_size]`.

    Attributes:
      channels: at each size, in order; before each, height and width are halved,
        rounding up.
      blocks: residual blocks at each size.
      hidden_size: width of the dense layer at the end.
    """

    channels: Sequence[int] = (32, 64, 128)
    blocks: int = 1
    hidden_size: int = 256

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _with_channels(x)
        for channels in self.channels:
            x = DownConvolution(channels)(x)
            for _ in range(self.blocks):
                x = ResidualBlock()(x)
        x = nn.swish(_group_norm(x.shape[-1])(x))
        return nn.swish(nn.Dense(self.hidden_size)(jnp.ravel(x)))


class ResidualDecoder(nn.Module):
    """The mirror of `ResidualEncoder`: z to what the likelihood needs for an image of
    any size.

    Attributes:
      image_shape, num_parameters: as in `ConvolutionalDecoder`.
      channels: at each size, in order; after each, height and width are doubled.
      blocks: residual blocks at each size.
      hidden_size: width of the dense layer before them.
    """

    image_shape: Sequence[int]
    num_parameters: int = 1
    channels: Sequence[int] = (128, 64, 32)
    blocks: int = 1
    hidden_size: int = 256

    def __post_init__(self):
        _check_image_shape("ResidualDecoder", self.image_shape)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Array) -> Array:
        sizes = _halvings(self.image_shape[:2], len(self.channels))
        x = nn.swish(nn.Dense(self.hidden_size)(jnp.ravel(z)))
        smallest = (*sizes[-1], self.channels[0])
        x = nn.Dense(math.prod(smallest))(x).reshape(smallest)
        for channels, size in zip(
            (*self.channels[1:], self.channels[-1]), sizes[-2::-1], strict=True
        ):
            for _ in range(self.blocks):
                x = ResidualBlock()(x)
            x = UpConvolution(channels, size)(x)
        x = Convolution(math.prod(self.image_shape[2:]) * self.num_parameters)(
            nn.swish(_group_norm(x.shape[-1])(x))
        )
        return _as_outputs(x, self.image_shape, self.num_parameters)


def _halvings(size: Sequence[int], num: int) -> list[tuple[int, int]]:
    """`(height, width)` and what `num` halvings that round up make of it, largest
    first.
    """
    sizes = [tuple(size)]
    for _ in range(num):
        sizes.append(tuple(-(-length // 2) for length in sizes[-1]))
    return sizes


def _check_image_shape(where: str, image_shape: Sequence[int]) -> None:
    """ValueError unless the shape is `(height, width)` or `(height, width, channels)`,
    all positive.
    """
    if len(image_shape) not in (2, 3) or any(length < 1 for length in image_shape):
        raise ValueError(
            f"{where}: image_shape is {tuple(image_shape)}; give (height, width) or "
            "(height, width, channels) of one "
            "image, without a batch axis."
        )


def _with_channels(x: Array) -> Array:
    _check_image_shape("a convolutional encoder", x.shape)
    return x if x.ndim == 3 else x[..., None]


def _windows(x: Array, size: int) -> Array:
    """Every `size` by `size` window, its pixels side by side: `[h, w, c] -> [h - size +
    1, w - size + 1, size^2 c]`.
    """
    height, width = x.shape[0] - size + 1, x.shape[1] - size + 1
    shifted = [
        x[row : row + height, column : column + width]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


def _dense_layers(
    x: Array, sizes: Sequence[int], activation: Callable[[Array], Array]
) -> Array:
    for size in sizes:
        x = activation(nn.Dense(size)(x))
    return x


def _group_norm(channels: int) -> nn.GroupNorm:
    # At least four channels a group: one alone, of a map of one pixel, would be
    # normalized to nothing.
    return nn.GroupNorm(
        num_groups=math.gcd(_GROUPS, max(channels // 4, 1)), reduction_axes=(0, 1, 2)
    )


def _as_outputs(x: Array, image_shape: Sequence[int], num_parameters: int) -> Array:
    """`[height, width, channels * num_parameters]` as what a likelihood takes."""
    return jnp.reshape(
        x, (*image_shape, num_parameters) if num_parameters > 1 else tuple(image_shape)
    )
