"""Networks of images: the same functions as convolutions of XLA, for any size."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax.networks import Convolution, DownConvolution, UpConvolution, convolutional
from vaejax.networks._windows import WindowProducts

SHAPES = [(28, 20), (33, 17, 3), (1, 1)]
PAIRS = {
    "convolutional": (vaejax.ConvolutionalEncoder, vaejax.ConvolutionalDecoder),
    "residual": (vaejax.networks.ResidualEncoder, vaejax.networks.ResidualDecoder),
}


def image(shape):
    return jax.random.normal(jax.random.key(0), shape)


def kernel(size, fan_in, fan_out):
    """`[size, size, fan_in, fan_out]`, as Flax has it."""
    return (
        np.random.default_rng(0)
        .normal(size=(size, size, fan_in, fan_out))
        .astype(np.float32)
    )


def test_convolution_is_that_of_flax():
    x, weights = image((7, 6, 3)), kernel(3, 3, 4)
    theirs = nn.Conv(4, (3, 3)).apply(
        {"params": {"kernel": weights, "bias": jnp.zeros(4)}}, x
    )
    params = {"Dense_0": {"kernel": weights.reshape(-1, 4), "bias": jnp.zeros(4)}}
    np.testing.assert_allclose(
        Convolution(4).apply({"params": params}, x), theirs, rtol=1e-4, atol=1e-5
    )


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(8, 6), (7, 6), (7, 5), (1, 1)])
def test_down_convolution_is_one_of_stride_two(size):
    x, weights = image((*size, 3)), kernel(4, 3, 5)
    padding = [(1, 1 + length % 2) for length in size]
    theirs = nn.Conv(5, (4, 4), strides=2, padding=padding).apply(
        {"params": {"kernel": weights, "bias": jnp.zeros(5)}}, x
    )
    # Window by window, and in each of them 2 by 2 pixels.
    ours = weights.reshape(2, 2, 2, 2, 3, 5).transpose(0, 2, 1, 3, 4, 5).reshape(-1, 5)
    found = DownConvolution(5).apply(
        {"params": {"Dense_0": {"kernel": ours, "bias": jnp.zeros(5)}}}, x
    )
    assert found.shape == (-(-size[0] // 2), -(-size[1] // 2), 5)
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-5)


def test_up_convolution_is_the_transpose_of_a_down_convolution():
    # <down(x), y> = <x, up(y)> for the same weights, which is what transposed means.
    x, y, weights = image((8, 6, 3)), image((4, 3, 5)), kernel(4, 3, 5)
    by_two = weights.reshape(2, 2, 2, 2, 3, 5)
    down_kernel = by_two.transpose(0, 2, 1, 3, 4, 5).reshape(-1, 5)
    down = DownConvolution(5).apply(
        {"params": {"Dense_0": {"kernel": down_kernel, "bias": jnp.zeros(5)}}}, x
    )
    _, transpose = jax.vjp(
        lambda x: DownConvolution(5).apply(
            {"params": {"Dense_0": {"kernel": down_kernel, "bias": jnp.zeros(5)}}}, x
        ),
        x,
    )
    # The window at a place of the output is that of its four corners, the opposite way
    # round.
    up_kernel = by_two[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4).reshape(4 * 5, 4 * 3)
    up = UpConvolution(3, (8, 6)).apply(
        {"params": {"Dense_0": {"kernel": up_kernel, "bias": jnp.zeros(4 * 3)}}}, y
    )
    np.testing.assert_allclose(up, transpose(y)[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jnp.vdot(down, y), jnp.vdot(x, up), rtol=1e-4)


# (features, size, pad): windows of the pixels, and sums of what the pixels give.
@pytest.mark.sampled
@pytest.mark.parametrize(
    "features, size, pad",
    [(6, 2, 0), (1, 2, 1), (6, 3, 1), (1, 3, 1), (1, 2, 0)],
)
def test_products_of_windows_and_their_derivatives(features, size, pad):
    products = WindowProducts(features, size, pad)
    xs = jax.random.normal(jax.random.key(0), (3, 4, 5, 6))
    params = products.init(jax.random.key(1), xs[0])
    towards = jax.tree.map(jnp.sin, params)

    def ours(params, xs):
        return jax.vmap(partial(products.apply, params))(xs)

    def theirs(params, xs):
        kernel = params["params"]["kernel"].reshape(size, size, 6, features)
        return nn.Conv(features, (size, size), padding=pad).apply(
            {"params": params["params"] | {"kernel": kernel}}, xs
        )

    @partial(jax.jit, static_argnums=0)
    def everything(function, params, xs):
        value, tangent = jax.jvp(function, (params, xs), (towards, jnp.cos(xs)))
        gradient = jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), (0, 1))
        return value, tangent, gradient(params, xs)

    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        everything(ours, params, xs),
        everything(theirs, params, xs),
    )


def test_a_batch_of_images_is_one_product():
    x = jnp.zeros((16, 8, 8, 8))
    module = DownConvolution(32)
    params = module.init(jax.random.key(0), x[0])
    jaxpr = jax.make_jaxpr(jax.vmap(partial(module.apply, params)))(x)
    assert str(jaxpr).count("dot_general[") == 1
    assert "f32[16,4,4,32] = dot_general[" in str(jaxpr)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pair", PAIRS)
def test_any_image_has_a_finite_gradient(pair, shape):
    encoder, decoder = PAIRS[pair]
    vae = vaejax.gaussian_vae(
        latent_size=3,
        encoder=encoder(channels=(2, 3)),
        decoder=decoder(shape, num_parameters=2, channels=(3, 2)),
        likelihood=vaejax.Normal,
    )
    x = image(shape)
    params = jax.jit(vae.init)(jax.random.key(0), x)
    assert (
        jax.eval_shape(
            lambda params: vae.decode(params, jnp.zeros(3)).mean, params
        ).shape
        == shape
    )
    gradient = jax.jit(
        jax.grad(
            lambda params: vaejax.negative_elbo(vae, params, jax.random.key(1), x)[0]
        )
    )(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_residual_blocks_start_as_the_identity():
    from vaejax.networks import ResidualBlock

    x = image((5, 4, 6))
    block = ResidualBlock()
    params = block.init(jax.random.key(0), x)
    np.testing.assert_array_equal(block.apply(params, x), x)


def test_group_norm_is_over_height_width_and_a_group():
    x = image((3, 2, 16)) + jnp.arange(16.0)[None, None]
    norm = convolutional._group_norm(16)
    found = norm.apply(norm.init(jax.random.key(0), x), x)
    groups = np.asarray(x).reshape(3, 2, 4, 4)
    mean, variance = (
        groups.mean(axis=(0, 1, 3), keepdims=True),
        groups.var(axis=(0, 1, 3), keepdims=True),
    )
    expected = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [(4,), (8,), (32, 64)])
def test_an_image_reaches_the_features_whatever_its_size(channels):
    encoder = vaejax.networks.ResidualEncoder(channels=channels)
    x = image((2, 2))
    params = encoder.init(jax.random.key(0), x)
    assert (
        jnp.max(
            jnp.abs(encoder.apply(params, x) - encoder.apply(params, x + jnp.eye(2)))
        )
        > 1e-3
    )


@pytest.mark.parametrize("shape", [(28,), (28, 28, 3, 1), (0, 28)])
def test_shapes_that_are_no_image_are_refused(shape):
    for decoder in (vaejax.ConvolutionalDecoder, vaejax.networks.ResidualDecoder):
        with pytest.raises(
            ValueError, match=r"image_shape is .*give \(height, width\)"
        ):
            decoder(shape)
    with pytest.raises(ValueError, match="give .height, width"):
        vaejax.ConvolutionalEncoder().init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_colors_on_the_first_axis_are_named(pair, shape):
    encoder, decoder = pair
    message = r"has shape .*its colors on the last axis: jnp.moveaxis\(x, 0, -1"
    with pytest.raises(ValueError, match=message):
        encoder().init(jax.random.key(0), jnp.zeros(shape))
    with pytest.raises(ValueError, match=message):
        decoder(shape)
    last = jnp.moveaxis(jnp.zeros(shape), 0, -1)
    jax.eval_shape(encoder().init, jax.random.key(0), last)
