"""The bundled digits against the official files, and damaged files."""

import hashlib
import lzma
import struct
from importlib import resources

import numpy as np
import pytest

from vaejax import datasets

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


def sha256_of_idx(array):
    """Of the idx file that holds these bytes: its header is written here from the
    format's description.
    """
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return hashlib.sha256(header + array.tobytes()).hexdigest()


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_the_official_files(split):
    images, labels = datasets.load("mnist", split=split)
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
    damage_bundled(monkeypatch, tmp_path, name, damage)
    with pytest.raises(ValueError, match=f"{name}.*install vaejax again"):
        datasets.load("mnist", split="train")


@pytest.mark.parametrize("damage", [flipped_bit, None, intact_xz_of_other_bytes])
def test_damage_of_the_corpus_is_named(monkeypatch, tmp_path, damage):
    damage_bundled(monkeypatch, tmp_path, "king_james.txt.xz", damage)
    with pytest.raises(ValueError, match="king_james.txt.xz.*install vaejax again"):
        datasets.load_text("king_james")


def damage_bundled(monkeypatch, tmp_path, name, damage):
    """Put a copy of the bundled files, one of them damaged, in place of the files."""
    (tmp_path / "bundled_data").mkdir()
    for file in (resources.files("vaejax.datasets") / "bundled_data").iterdir():
        if file.name != name:
            (tmp_path / "bundled_data" / file.name).symlink_to(file)
        elif damage is not None:
            (tmp_path / "bundled_data" / name).write_bytes(damage(file.read_bytes()))
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
