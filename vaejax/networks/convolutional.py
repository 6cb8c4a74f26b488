"""Convolutional networks for images of any size: one image in, arrays out.

An image is `[height, width]` or `[height, width, channels]`. Convolutions are written
as matrix products over windows: XLA's own are several times slower on CPU inside a
loop, where a training epoch has them; accelerators run either equally well.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from vaejax.base import Array
from vaejax.networks._inputs import integers_as_single
from vaejax.networks._windows import WindowProducts

_ZEROS = nn.initializers.zeros
_GROUPS = 8
# Side from which an image of 1 or 3 rows is taken for one of colors on the first axis.
_SMALLEST_SQUARE = 8


class Convolution(nn.Module):
    """Convolution of 3 by 3 that keeps the size of the image.

    It maps `[height, width, c]` to `[height, width, channels]`.

    Attributes:
      channels: the number of output channels.
      kernel_init: the initializer of the kernel.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.networks.Convolution(channels=4).init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((7, 5, 3)))[0].shape
      (7, 5, 4)
    """

    channels: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return WindowProducts(
            self.channels, 3, 1, kernel_init=self.kernel_init, name="Dense_0"
        )(x)


class DownConvolution(nn.Module):
    """Convolution of 4 by 4 with stride 2, which halves height and width, rounding up.

    It maps `[height, width, c]` to `[ceil(height / 2), ceil(width / 2), channels]`.

    Attributes:
      channels: the number of output channels.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.networks.DownConvolution(channels=4).init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((7, 6, 3)))[0].shape
      (4, 3, 4)
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
        return WindowProducts(self.channels, 2, 0, name="Dense_0")(x)


class UpConvolution(nn.Module):
    """Transposed 4 by 4 convolution of stride 2, which doubles height and width.

    It maps `[h, w, c]` to `[2 h, 2 w, channels]`, cropped to `size`.

    Attributes:
      channels: the number of output channels.
      size: `(height, width)` of the output; the height is 2 h or 2 h - 1, the width 2 w
        or 2 w - 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> upsample = vaejax.networks.UpConvolution(channels=4, size=(7, 6))
      >>> forward = upsample.init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((4, 3, 8)))[0].shape
      (7, 6, 4)
    """

    channels: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        height, width, _ = x.shape
        # Each window makes 2 by 2 pixels, which lie between its four corners; the
        # outermost are outside the image.
        x = WindowProducts(4 * self.channels, 2, 1, name="Dense_0")(x).reshape(
            height + 1, width + 1, 2, 2, self.channels
        )
        x = x.transpose(0, 2, 1, 3, 4).reshape(
            2 * height + 2, 2 * width + 2, self.channels
        )
        return x[1 : 1 + self.size[0], 1 : 1 + self.size[1]]


class ConvolutionalEncoder(nn.Module):
    """Encoder of convolutions of stride 2, then dense layers, for an image of any size.

    It maps an image to features `[hidden_sizes[-1]]`.

    Attributes:
      channels: the output channels of each convolution, in order; each convolution
        halves height and width, rounding up.
      hidden_sizes: the widths of the dense layers after the convolutions, in order.
      activation: the function applied elementwise after each layer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.ConvolutionalEncoder().init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((28, 28)))[0].shape
      (256,)
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
    """Decoder of dense layers, then transposed convolutions, for an image of any size.

    It maps z to what the likelihood needs: `image_shape` with one parameter per
    dimension, else `[*image_shape, num_parameters]`.

    Attributes:
      image_shape: the shape of the image, `(height, width)` or
        `(height, width, channels)`.
      num_parameters: the number of parameters of the likelihood per dimension.
      channels: the input channels of each transposed convolution, in order: the mirror
        of the encoder's.
      hidden_sizes: the widths of the dense layers before the convolutions, in order.
      activation: the function applied elementwise after each layer but the last.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> decoder = vaejax.ConvolutionalDecoder((28, 28), num_parameters=2)
      >>> forward = decoder.init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros(16))[0].shape
      (28, 28, 2)
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
    """Residual block x + f(x), which starts as the identity.

    f is twice GroupNorm, swish and a 3 by 3 convolution, the last of which starts at
    zero. Normalization is over one example, never a batch. It maps `[height, width, c]`
    to the same shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.networks.ResidualBlock().init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((7, 5, 8)))[0].shape
      (7, 5, 8)

    Source: He et al. 2016 (identity mappings); Wu & He 2018.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        y = Convolution(channels)(nn.swish(_group_norm(channels)(x)))
        return x + Convolution(channels, kernel_init=_ZEROS)(
            nn.swish(_group_norm(channels)(y))
        )


class ResidualEncoder(nn.Module):
    """Encoder of residual blocks between convolutions of stride 2, for larger images.

    It maps an image to features `[hidden_size]`.

    Attributes:
      channels: the channels at each size, in order; before each, height and width are
        halved, rounding up.
      blocks: the number of residual blocks at each size.
      hidden_size: the width of the dense layer at the end.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.networks.ResidualEncoder(channels=(8, 16)).init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((33, 17, 3)))[0].shape
      (256,)
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
    """Decoder of residual blocks between transposed convolutions, for larger images.

    It is the mirror of `ResidualEncoder` and maps z to what the likelihood needs:
    `image_shape` with one parameter per dimension, else
    `[*image_shape, num_parameters]`.

    Attributes:
      image_shape: the shape of the image, `(height, width)` or
        `(height, width, channels)`.
      num_parameters: the number of parameters of the likelihood per dimension.
      channels: the channels at each size, in order; after each, height and width are
        doubled.
      blocks: the number of residual blocks at each size.
      hidden_size: the width of the dense layer before the blocks.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> decoder = vaejax.networks.ResidualDecoder((33, 17, 3), channels=(16, 8))
      >>> forward = decoder.init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros(16))[0].shape
      (33, 17, 3)
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
    """Return a size and the `num` halvings of it that round up, largest first."""
    height, width = size
    sizes = [(height, width)]
    for _ in range(num):
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def _check_image_shape(where: str, image_shape: Sequence[int]) -> None:
    """Raise ValueError unless the shape is that of one image, all lengths positive."""
    if len(image_shape) not in (2, 3) or any(length < 1 for length in image_shape):
        raise ValueError(
            f"{where}: image_shape is {tuple(image_shape)}; give (height, width) or "
            "(height, width, channels) of one "
            "image, without a batch axis."
        )
    # An image of 1 or 3 rows, and as many channels as columns, is none.
    if len(image_shape) == 3 and image_shape[0] in (1, 3):
        _, height, width = image_shape
        if height == width >= _SMALLEST_SQUARE:
            raise ValueError(
                f"{where}: the image has shape {tuple(image_shape)}; give one image, "
                "without a batch axis, and its colors on the last axis: "
                "jnp.moveaxis(x, 0, -1)."
            )


def _with_channels(x: Array) -> Array:
    _check_image_shape("a convolutional encoder", x.shape)
    x = integers_as_single(x)
    return x if x.ndim == 3 else x[..., None]


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
    """Reshape `[height, width, channels * num_parameters]` for the likelihood."""
    return jnp.reshape(
        x, (*image_shape, num_parameters) if num_parameters > 1 else tuple(image_shape)
    )
