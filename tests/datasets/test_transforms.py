"""The probabilities of the binarization, and its draws."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax import binarize, datasets
from vaejax.datasets import transforms

# 16 bits a pixel: round(2^16 v / 255), in integers.
THRESHOLDS = [(2 * v * 65536 + 255) // 510 for v in range(256)]
load = cache(lambda split: datasets.load("mnist", split=split))


def every_word_once(key, num_words):
    """Return each 16-bit number once, two to a word, in place of random words."""
    words = np.arange(65536, dtype=np.uint16).view(np.uint32)
    assert num_words == len(words)
    return jnp.asarray(words)


def ones_among_all_draws(intensity):
    """Count the draws that give 1, among the 2^16 equally likely ones of a pixel."""
    return jnp.sum(binarize(jax.random.key(0), jnp.full(65536, intensity)))


def test_probability_of_each_level_is_exact(monkeypatch):
    monkeypatch.setattr(transforms, "_random_words", every_word_once)
    counts = jax.lax.map(ones_among_all_draws, jnp.arange(256, dtype=jnp.uint8))
    np.testing.assert_array_equal(counts, THRESHOLDS)
    assert THRESHOLDS[0] == 0 and THRESHOLDS[255] == 65536
    assert (
        max(abs(count / 65536 - v / 255) for v, count in enumerate(THRESHOLDS))
        <= 2**-17
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_probability_of_floating_point_is_exact(monkeypatch, dtype):
    monkeypatch.setattr(transforms, "_random_words", every_word_once)
    intensities = jnp.array([0, 2**-16, 2**-8, 0.25, 0.5, 0.75, 1 - 2**-8, 1], dtype)
    counts = jax.lax.map(ones_among_all_draws, intensities)
    np.testing.assert_array_equal(
        counts, [0, 1, 256, 16384, 32768, 49152, 65280, 65536]
    )


def test_frequencies_are_the_intensities():
    num_draws = 20_000
    levels = np.arange(256)
    image = jnp.asarray(np.repeat(levels.astype(np.uint8)[:, None], num_draws, axis=1))
    binary = np.asarray(jax.jit(binarize)(jax.random.key(1), image))
    assert set(np.unique(binary)) == {0.0, 1.0}
    assert not binary[0].any() and binary[255].all()
    p = levels[1:255] / 255
    z = (binary[1:255].mean(axis=1) - p) / np.sqrt(p * (1 - p) / num_draws)
    assert np.abs(z).max() < 5  # standard errors
    # The sum of 254 squares has mean 254 and variance 2 * 254: neither too spread nor
    # too even, by 5 deviations.
    assert abs(np.sum(z**2) - 254) < 5 * np.sqrt(2 * 254)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_words_differ_within_a_key_and_between_keys(implementation):
    keys = jax.random.split(jax.random.key(0, impl=implementation), 2)
    words = np.stack([transforms._random_words(key, 1001) for key in keys])
    assert len(np.unique(words)) == words.size


def test_pixels_of_one_word_are_independent():
    num_pairs = 200_000
    pairs = np.asarray(binarize(jax.random.key(2), jnp.full((num_pairs, 2), 0.5)))
    signs = 2 * pairs - 1
    assert abs(np.mean(signs[:, 0] * signs[:, 1])) < 5 / np.sqrt(
        num_pairs
    )  # standard errors


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("shape", [(28, 28), (5, 7), (1,), (), (3, 3, 3), (0, 4)])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_shape_and_dtype(shape, dtype):
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        binary = binarize(jax.random.key(3), jnp.ones(shape, dtype))
    assert binary.shape == shape and binary.dtype == jnp.float32


@pytest.mark.slow
def test_jit_is_eager_and_vmap_is_a_loop():
    images = jnp.asarray(load("test").images[:8, :27, :27])  # an odd number of pixels
    make_keys = partial(jax.random.split, num=len(images))
    eager = np.stack(
        [
            binarize(key, image)
            for key, image in zip(make_keys(jax.random.key(4)), images, strict=True)
        ]
    )
    assert 0 < eager.mean() < 1
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(
            jax.vmap(binarize)(make_keys(jax.random.key(4)), images), eager
        )
        np.testing.assert_array_equal(
            jax.jit(jax.vmap(binarize))(make_keys(jax.random.key(4)), images), eager
        )
        np.testing.assert_array_equal(
            jax.jit(binarize)(make_keys(jax.random.key(4))[0], images[0]), eager[0]
        )


def test_the_key_decides_the_draw():
    image = jnp.full((28, 28), 128, jnp.uint8)
    first, again, other = (
        np.asarray(binarize(jax.random.key(seed), image)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    # Two independent draws differ in half of the 784 pixels; 5 deviations of 14.
    assert abs(np.sum(first != other) - 392) < 5 * 14


def test_host_arrays_are_accepted():
    image = load("train").images[0]
    on_host, on_device = (
        binarize(jax.random.key(7), image),
        binarize(jax.random.key(7), jnp.asarray(image)),
    )
    np.testing.assert_array_equal(on_host, on_device)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.uint16, jnp.bool_])
def test_another_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match=rf"{jnp.dtype(dtype)}.*uint8"):
        binarize(jax.random.key(8), jnp.ones((2, 2), dtype))
