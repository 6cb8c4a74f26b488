"""Sets that are prepared once: from files, from a download, and from the cache."""

import pytest
from support.image_files import (
    TWO,
    assert_equal,
    home_of,
    official,
    random_arrays,
    write_idx,
)

from vaejax import datasets
from vaejax.datasets import DataUnavailableError, _tfds_builders


def test_a_second_load_decodes_nothing(monkeypatch, fashion):
    arrays, directory = fashion
    datasets.load("fashion_mnist", directory=directory)

    for function in ("build", "read"):
        monkeypatch.delattr(_tfds_builders, function)
    assert_equal(datasets.load("fashion_mnist", directory=directory), arrays["train"])
    assert_equal(datasets.load("fashion_mnist"), arrays["train"])


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path, fashion):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(
        DataUnavailableError, match="cannot be prepared in .*file .*set TFDS_DATA_DIR"
    ):
        datasets.load("fashion_mnist", directory=fashion[1])


def test_other_files_than_those_prepared_are_noticed(tmp_path, fashion):
    datasets.load("fashion_mnist", directory=fashion[1])
    others = official(tmp_path, "others")
    write_idx(others, random_arrays(2, TWO, (28, 28)))
    with pytest.raises(
        DataUnavailableError,
        match="other files than those in .*others; remove it to build it again",
    ):
        datasets.load("fashion_mnist", directory=others)


def test_downloaded(fashion, shrink, serve):
    arrays, directory = fashion
    shrink("fashion_mnist", TWO, url=serve(directory))
    assert_equal(datasets.load("fashion_mnist", split="test"), arrays["test"])


def test_a_wrong_download_is_not_kept(data_dir, fashion, shrink, serve):
    arrays, directory = fashion
    name = "train-images-idx3-ubyte.gz"
    good = (directory / name).read_bytes()
    (directory / name).write_bytes(b"<html>Please log in</html>")
    shrink("fashion_mnist", TWO, url=serve(directory))
    with pytest.raises(DataUnavailableError, match="cannot be read"):
        datasets.load("fashion_mnist")
    assert not home_of(data_dir, "fashion_mnist").exists()
    (directory / name).write_bytes(good)
    assert_equal(datasets.load("fashion_mnist"), arrays["train"])


def test_a_partial_download_never_counts(data_dir, fashion, shrink, serve):
    shrink("fashion_mnist", TWO, url=serve(fashion[1], truncate=True))
    with pytest.raises(DataUnavailableError, match="download failed"):
        datasets.load("fashion_mnist")
    assert not home_of(data_dir, "fashion_mnist").exists()
    assert not list(data_dir.rglob("*.gz"))
