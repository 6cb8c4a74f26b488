"""Names and paths that `load` takes, arrays as data sets, and checksums."""

import numpy as np
import pytest

from vaejax import datasets

REAL = np.random.default_rng(0).normal(3, 2, (50, 4))
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)


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
        datasets.checksum(datasets.load("mnist", split="test"))
        == "e495d919dc9453f1b55a889fd404afbbd753b23e9f8fcb03fe1a3a1cbc3c0440"
    )


def test_checksum_without_labels_is_that_of_the_images():
    images = np.zeros((2, 3, 4), np.uint8)
    sums = {
        datasets.checksum(datasets.Dataset(images, labels))
        for labels in (None, np.zeros(2, np.uint8))
    }
    assert len(sums) == 2


def test_from_array_takes_any_shape_and_checks_labels():
    data = datasets.from_array(REAL, labels=np.arange(50))
    assert data.images is REAL and len(data.labels) == 50
    with pytest.raises(ValueError, match="give 50 integer classes"):
        datasets.from_array(REAL, labels=np.arange(49))


def test_unknown_name_and_split_say_what_there_is():
    with pytest.raises(ValueError, match=r"'mnits'.*choose from .*'mnist'"):
        datasets.load("mnits")
    with pytest.raises(ValueError, match=r"'validation'.*\['train', 'test'\]"):
        datasets.load("mnist", split="validation")


@pytest.mark.parametrize("name", datasets.CATALOGUE)
def test_unknown_splits_say_what_there_is(name):
    with pytest.raises(
        ValueError, match=f"{name} has no split 'tset'; choose from .*'train'"
    ):
        datasets.load(name, split="tset")


@pytest.mark.parametrize("name", ["mnits", "", "no such set", "../mnist", "/no/where"])
def test_unknown_names_say_what_there_is(data_dir, name):
    with pytest.raises(
        ValueError, match="there is no data set .*choose from .*'fashion_mnist'"
    ) as caught:
        datasets.load(name)
    assert "\n" not in str(caught.value)
    assert not data_dir.exists()


def test_the_catalogue_comes_before_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "own"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "test.npy", IMAGES)
    assert len(datasets.load("mnist", split="test").images) == 10_000
    assert len(datasets.load("own", split="test").images) == 7


@pytest.mark.parametrize(
    "name", ["train.npy", "digit.png", "digit.JPG", "digits.csv", "digits.tar.gz"]
)
def test_one_file_is_answered_with_the_layout(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(
        ValueError,
        match=rf"{name} is .*; give a folder with train.npy and test.npy, or with "
        "images",
    ):
        datasets.load(tmp_path / name)


@pytest.mark.parametrize("name", ["", "~nobody", "x" * 300, "a\0b"])
def test_any_string_may_be_asked_for(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    np.save(tmp_path / "train.npy", IMAGES)
    with pytest.raises(ValueError, match="there is no data set"):
        datasets.load(name)
