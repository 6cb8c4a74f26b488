"""Official files that are missing, wrong, or cannot be downloaded."""

import gzip
import socket
import time

import numpy as np
import pytest
from support.image_files import (
    TWO,
    assert_equal,
    home_of,
    idx,
    official,
    random_arrays,
    write_idx,
)

from vaejax import datasets
from vaejax.datasets import DataUnavailableError, _official_files


def test_files_of_another_set_are_refused(tmp_path, data_dir):
    # Of the official names, but with the SHA-256 of the catalogue.
    write_idx(tmp_path, random_arrays(0, TWO, (28, 28)))
    with pytest.raises(
        DataUnavailableError,
        match="train-images-.* is not the official .* of fashion_mnist",
    ):
        datasets.load("fashion_mnist", directory=tmp_path)
    assert not home_of(data_dir, "fashion_mnist").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"<html>", "cannot be read"),
        (gzip.compress(b"text"), "not an idx file"),
        (gzip.compress(idx(np.zeros((23, 28, 28), np.uint8)))[:-20], "cannot be read"),
        (gzip.compress(idx(np.zeros((23, 28, 28), np.uint8))[:-1]), "cannot be read"),
        (
            gzip.compress(idx(np.zeros((22, 28, 28), np.uint8))),
            r"uint8 \[23, 28, 28\], and is .*\[22, 28, 28\]",
        ),
    ],
    ids=["empty", "page", "no idx", "cut", "short", "fewer"],
)
def test_files_that_hold_something_else_are_refused(
    data_dir, fashion, content, message
):
    arrays, directory = fashion
    good = (directory / "train-images-idx3-ubyte.gz").read_bytes()
    (directory / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataUnavailableError, match=message) as caught:
        datasets.load("fashion_mnist", directory=directory)
    assert "\n" not in str(caught.value)
    # Nothing half-made is left to be taken for the set.
    assert not home_of(data_dir, "fashion_mnist").exists()
    (directory / "train-images-idx3-ubyte.gz").write_bytes(good)
    assert_equal(datasets.load("fashion_mnist", directory=directory), arrays["train"])


def test_missing_files_and_directories_are_named(tmp_path, fashion):
    (fashion[1] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DataUnavailableError,
        match="lacks t10k-labels-idx1-ubyte.gz; fashion_mnist is built from",
    ):
        datasets.load("fashion_mnist", directory=fashion[1])
    with pytest.raises(
        DataUnavailableError,
        match="nowhere is not a directory; name the one that holds train-images",
    ):
        datasets.load("fashion_mnist", directory=tmp_path / "nowhere")


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent():
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def check_unreachable(name, *needed):
    started = time.monotonic()
    with pytest.raises(DataUnavailableError) as caught:
        datasets.load(name)
    assert time.monotonic() - started < 20
    message = str(caught.value)
    assert "\n" not in message
    for text in (
        "cannot be reached",
        "directory=",
        "--data-dir",
        'bundled "mnist"',
        *needed,
    ):
        assert text in message


@pytest.mark.parametrize(
    "name", [name for name in datasets.CATALOGUE if name != "mnist"]
)
def test_without_network_one_error_says_what_to_do(data_dir, shrink, name):
    shrink(name, datasets.CATALOGUE[name].splits, url=closed_port())
    check_unreachable(
        name, *[file.name for files in datasets.CATALOGUE[name].files for file in files]
    )
    assert not data_dir.exists()


def test_a_silent_server_is_given_up(monkeypatch, shrink, silent):
    monkeypatch.setattr(_official_files, "_PROBE_SECONDS", 0.5)
    shrink("fashion_mnist", TWO, url=silent)
    check_unreachable("fashion_mnist", "train-images-idx3-ubyte.gz")


def test_a_page_that_is_not_there_is_reported(tmp_path, shrink, serve):
    shrink("fashion_mnist", TWO, url=serve(official(tmp_path, "empty")))
    check_unreachable("fashion_mnist", "404")
