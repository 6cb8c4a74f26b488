"""The sets of the catalogue, each built from small files of its official format."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.image_files import (
    IDX_NAMES,
    THREE,
    TWO,
    assert_equal,
    official,
    random_arrays,
    write_amat,
    write_caltech101,
    write_frey_mat,
    write_frey_npz,
    write_idx,
    write_omniglot,
)

from vaejax import datasets

FASHION_MNIST = os.environ.get("VAEJAX_FASHION_MNIST")


@pytest.mark.parametrize(
    ("name", "sizes", "levels", "num_labels", "write"),
    [
        ("mnist", TWO, 256, 10, write_idx),
        ("fashion_mnist", TWO, 256, 10, write_idx),
        ("kmnist", TWO, 256, 10, write_idx),
        ("binarized_mnist", THREE, 2, 0, write_amat),
        ("omniglot", TWO, 256, 50, write_omniglot),
        ("caltech101_silhouettes", THREE, 2, 101, write_caltech101),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_built_from_official_files(
    tmp_path, shrink, name, sizes, levels, num_labels, write
):
    arrays = random_arrays(0, sizes, (28, 28), levels, max(num_labels, 1))
    if num_labels == 0:
        arrays = {split: (images, None) for split, (images, _) in arrays.items()}
    directory = official(tmp_path)
    write(directory, arrays)
    shrink(name, sizes)
    for split in sizes:
        assert_equal(
            datasets.load(name, split=split, directory=directory), arrays[split]
        )
    if name != "mnist":
        # Prepared, it needs its files no more.
        assert_equal(datasets.load(name, split="test"), arrays["test"])


@pytest.mark.parametrize("write", [write_frey_npz, write_frey_mat], ids=["npz", "mat"])
def test_frey_faces_are_split_at_random_without_overlap(tmp_path, write):
    # Each image is its own number.
    images = np.zeros((1965, 28, 20), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(1965), 256)
    # Told apart from its transpose.
    images[:, 27, 3] = 9
    directory = official(tmp_path)
    write(directory, images)
    parts = {
        split: datasets.load("frey_faces", split=split, directory=directory)
        for split in THREE
    }
    assert [len(part.images) for part in parts.values()] == [1565, 200, 200]
    assert all(part.labels is None for part in parts.values())
    numbers = [
        part.images[:, 0, 0].astype(int) * 256 + part.images[:, 0, 1]
        for part in parts.values()
    ]
    assert sorted(np.concatenate(numbers)) == list(range(1965))
    assert all(np.all(np.diff(number) > 0) for number in numbers)
    # The split is part of every result reported on it: it must not move.
    assert numbers[2][:5].tolist() == FIRST_TEST_FACES
    assert np.all(parts["train"].images[:, 27, 3] == 9)


FIRST_TEST_FACES = [11, 23, 28, 32, 57]


def test_dsprites_have_factors_and_one_split(tmp_path, shrink):
    rng = np.random.default_rng(0)
    images, classes = (
        rng.integers(0, 2, (12, 64, 64), np.uint8),
        rng.integers(0, 32, (12, 6)),
    )
    directory = official(tmp_path)
    np.savez(
        directory / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        imgs=images,
        latents_classes=classes,
        metadata=np.array({"pickled": True}),
    )
    shrink("dsprites", {"train": 12})
    assert_equal(
        datasets.load("dsprites", directory=directory), (images * 255, classes)
    )
    with pytest.raises(
        ValueError, match=r"dsprites has no split 'test'; choose from \['train'\]"
    ):
        datasets.load("dsprites", split="test", directory=directory)


def test_two_sets_with_files_of_the_same_names_do_not_mix(tmp_path, shrink):
    names = ("fashion_mnist", "kmnist", "mnist")
    made = {name: random_arrays(seed, TWO, (28, 28)) for seed, name in enumerate(names)}
    for name, arrays in made.items():
        write_idx(official(tmp_path, name), arrays)
        shrink(name, TWO)
    for split in TWO:
        for name, arrays in made.items():
            assert_equal(
                datasets.load(name, split=split, directory=tmp_path / name),
                arrays[split],
            )
    # Read again, from the caches.
    for name in ("fashion_mnist", "kmnist"):
        assert_equal(datasets.load(name), made[name]["train"])


def test_the_catalogue_says_what_is_tested():
    rows = datasets.describe_catalogue().splitlines()
    assert len(rows) == len(datasets.CATALOGUE)
    for row, (name, source) in zip(rows, datasets.CATALOGUE.items(), strict=True):
        assert row.startswith(name) and source.license in row
        assert ("untested" in row) == (not source.tested)


@pytest.mark.slow
@pytest.mark.skipif(
    not FASHION_MNIST,
    reason="VAEJAX_FASHION_MNIST names no directory of the official files",
)
def test_official_fashion_mnist_without_tensorflow():
    program = (
        "import sys\nfrom vaejax import datasets\n"
        "load = lambda split: datasets.load('fashion_mnist', split=split, "
        f"directory={FASHION_MNIST!r})\n"
        "print(datasets.checksum(load('train')), datasets.checksum(load('test')), "
        "load('train').labels[:5].tolist())\n"
        "assert 'tensorflow' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    raw = [
        gzip.decompress((Path(FASHION_MNIST) / f"{name}.gz").read_bytes())
        for name in IDX_NAMES
    ]
    sums = [
        datasets.checksum(
            datasets.Dataset(
                np.frombuffer(raw[part], np.uint8, offset=16).reshape(-1, 28, 28),
                np.frombuffer(raw[part + 1], np.uint8, offset=8),
            )
        )
        for part in (0, 2)
    ]
    assert result.stdout.splitlines()[-1] == f"{sums[0]} {sums[1]} [9, 0, 0, 3, 0]"
