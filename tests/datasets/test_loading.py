"""The bundled digits against the official files, damage, and the probabilities of the
binarization.
"""

import hashlib
import lzma
import struct
from functools import cache, partial
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax import binarize, datasets

IMAGES, LABELS = "mnist_images.idx.xz", "mnist_labels.idx.xz"
# SHA-256 of the official files, decompressed; computed from the four .gz files with
# gzip and hashlib alone.
OFFICIAL = {
    "train": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "test": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
SIZES = {"train": 60_000, "test": 10_000}
FIRST_LABELS = {"train": [5, 0, 4, 1, 9], "test": [7, 2, 1, 0, 4]}
HISTOGRAMS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
# 16 bits a pixel: round(2^16 v / 255), in integers.
THRESHOLDS = [(2 * v * 65536 + 255) // 510 for v in range(256)]

load = cache(lambda split: datasets.load("mnist", split=split))


def sha256_of_idx(array):
    """Of the idx file that holds these bytes: its header is written here from the
    format's description.
    """
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return hashlib.sha256(header + array.tobytes()).hexdigest()


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_the_official_files(split):
    images, labels = load(split)
    assert isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape == (SIZES[split], 28, 28) and labels.shape == (SIZES[split],)
    assert labels[:5].tolist() == FIRST_LABELS[split]
    assert np.bincount(labels).tolist() == HISTOGRAMS[split]
    assert (sha256_of_idx(images), sha256_of_idx(labels)) == OFFICIAL[split]


def test_data_readme_states_the_checksums():
    readme = (
        resources.files("vaejax.datasets") / "bundled_data" / "README.md"
    ).read_text()
    assert all(digest in readme for digests in OFFICIAL.values() for digest in digests)


def test_checksum_depends_on_images_labels_and_shapes():
    data = datasets.Dataset(
        np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.arange(3, dtype=np.uint8)
    )
    others = [
        data._replace(images=data.images + np.uint8(1)),
        data._replace(labels=data.labels[::-1]),
        data._replace(images=data.images.reshape(3, 4, 1)),
        data,
    ]
    sums = [datasets.checksum(other) for other in others]
    assert len(set(sums)) == len(others)
    # The values, not the memory layout.
    assert (
        datasets.checksum(data._replace(images=np.asfortranarray(data.images)))
        == sums[-1]
    )


def test_checksum_of_mnist_is_the_one_in_manifests():
    # Recorded with this function; a change makes the manifests of earlier runs
    # incomparable.
    assert (
        datasets.checksum(load("test"))
        == "e495d919dc9453f1b55a889fd404afbbd753b23e9f8fcb03fe1a3a1cbc3c0440"
    )


def test_unknown_name_and_split_say_what_there_is():
    with pytest.raises(ValueError, match=r"'mnits'.*choose from .*'mnist'"):
        datasets.load("mnits")
    with pytest.raises(ValueError, match=r"'validation'.*\['train', 'test'\]"):
        datasets.load("mnist", split="validation")


def flipped_bit(raw):
    damaged = bytearray(raw)
    damaged[len(raw) // 2] ^= 1
    return bytes(damaged)


def intact_xz_of_other_bytes(raw):
    return lzma.compress(flipped_bit(lzma.decompress(raw)), preset=0)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (IMAGES, flipped_bit),
        (IMAGES, lambda raw: raw[:10_000]),
        (IMAGES, None),
        (LABELS, lambda raw: b""),
        (LABELS, lambda raw: b"not an xz file"),
        (LABELS, intact_xz_of_other_bytes),
    ],
    ids=[
        "flipped bit",
        "truncated",
        "missing",
        "empty",
        "another format",
        "other bytes",
    ],
)
def test_damage_names_the_file_and_the_fix(monkeypatch, tmp_path, name, damage):
    (tmp_path / "bundled_data").mkdir()
    for file in (resources.files("vaejax.datasets") / "bundled_data").iterdir():
        if file.name != name:
            (tmp_path / "bundled_data" / file.name).symlink_to(file)
        elif damage is not None:
            (tmp_path / "bundled_data" / name).write_bytes(damage(file.read_bytes()))
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=f"{name}.*install vaejax again"):
        datasets.load("mnist", split="train")


def every_word_once(key, shape, dtype):
    """In place of `jax.random.bits`: each 16-bit number once, two to a word."""
    words = np.arange(65536, dtype=np.uint16).view(np.uint32)
    assert shape == words.shape and dtype == jnp.uint32
    return jnp.asarray(words)


def ones_among_all_draws(intensity):
    """Of the 2^16 equally likely draws of a pixel, the number that give 1."""
    return jnp.sum(binarize(jax.random.key(0), jnp.full(65536, intensity)))


def test_probability_of_each_level_is_exact(monkeypatch):
    monkeypatch.setattr(jax.random, "bits", every_word_once)
    counts = jax.lax.map(ones_among_all_draws, jnp.arange(256, dtype=jnp.uint8))
    np.testing.assert_array_equal(counts, THRESHOLDS)
    assert THRESHOLDS[0] == 0 and THRESHOLDS[255] == 65536
    assert (
        max(abs(count / 65536 - v / 255) for v, count in enumerate(THRESHOLDS))
        <= 2**-17
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_probability_of_floating_point_is_exact(monkeypatch, dtype):
    monkeypatch.setattr(jax.random, "bits", every_word_once)
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


def test_pixels_of_one_word_are_independent():
    num_pairs = 200_000
    pairs = np.asarray(binarize(jax.random.key(2), jnp.full((num_pairs, 2), 0.5)))
    signs = 2 * pairs - 1
    assert abs(np.mean(signs[:, 0] * signs[:, 1])) < 5 / np.sqrt(
        num_pairs
    )  # standard errors


@pytest.mark.parametrize("shape", [(28, 28), (5, 7), (1,), (), (3, 3, 3), (0, 4)])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_shape_and_dtype(shape, dtype):
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        binary = binarize(jax.random.key(3), jnp.ones(shape, dtype))
    assert binary.shape == shape and binary.dtype == jnp.float32


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
