"""Cached arrays of prepared sets: damaged, unwritable, or of a damaged set."""

import functools

import numpy as np
import pytest
from support.image_files import assert_equal, home_of

from vaejax import datasets
from vaejax.datasets import DataUnavailableError, _array_cache


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-100], lambda raw: b"", lambda raw: raw[:500] + b"?" + raw[501:]],
)
def test_a_damaged_cache_is_made_again(data_dir, fashion, damage):
    arrays, directory = fashion
    datasets.load("fashion_mnist", directory=directory)
    (cache,) = home_of(data_dir, "fashion_mnist").glob("*.npz")
    cache.write_bytes(damage(cache.read_bytes()))
    assert_equal(datasets.load("fashion_mnist"), arrays["train"])
    assert_equal(
        datasets.Dataset(*_array_cache.read_cache(cache.parent, "train")),
        arrays["train"],
    )


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, data_dir, fashion):
    arrays, directory = fashion
    monkeypatch.setattr(
        np, "savez", functools.partial(raise_error, OSError("no space left"))
    )
    assert_equal(datasets.load("fashion_mnist", directory=directory), arrays["train"])
    assert not [
        path
        for path in home_of(data_dir, "fashion_mnist").iterdir()
        if path.suffix in (".npz", ".tmp")
    ]


def raise_error(error, *args, **kwargs):
    raise error


@pytest.mark.parametrize(
    "pattern", ["dataset_info.json", "features.json", "*-train.array_record*"]
)
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut"])
def test_a_damaged_prepared_set_is_not_read(data_dir, fashion, pattern, damage):
    datasets.load("fashion_mnist", split="test", directory=fashion[1])
    (file,) = home_of(data_dir, "fashion_mnist").glob(pattern)
    raw = file.read_bytes()
    file.unlink()
    if damage != "removed":
        file.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"")
    with pytest.raises(
        DataUnavailableError,
        match="cannot be read .*; remove that folder to build it again",
    ) as caught:
        datasets.load("fashion_mnist")
    assert "\n" not in str(caught.value)
