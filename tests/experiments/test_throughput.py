"""The data that throughput is measured on, and a small measurement."""

import numpy as np
import pytest
from support.programs import users_settings

from experiments import throughput
from experiments.harness import UsageError
from vaejax import datasets


def test_the_images_are_the_same_each_time_and_look_like_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "CHUNK", 40)
    for name in ("a", "b"):
        throughput.write_images(tmp_path / name / "train.npy", 100)
        assert [entry.name for entry in (tmp_path / name).iterdir()] == ["train.npy"]
    first, second = (datasets.load(tmp_path / name).images for name in "ab")
    assert isinstance(first, np.memmap) and first.shape == (100, 28, 28)
    np.testing.assert_array_equal(first, second)
    digits = datasets.load("mnist").images[:100]
    darkened = first.sum(axis=(1, 2), dtype=int) / digits.sum(axis=(1, 2), dtype=int)
    assert darkened.min() > 0.85 and darkened.max() < 1
    assert not np.array_equal(first[60:], first[:40])


def test_other_images_than_asked_for_are_refused(tmp_path):
    throughput.write_images(tmp_path / "train.npy", 30)
    with pytest.raises(
        UsageError,
        match=r"train.npy is uint8 \[30, 28, 28\]; give --examples 30 or remove it",
    ):
        throughput.memory_mapped(throughput.Config(tmp_path, examples=31))
    with pytest.raises(UsageError, match="--steps is 0; give a positive integer"):
        throughput.measure_throughput(throughput.Config(tmp_path, examples=30, steps=0))


@pytest.mark.slow
def test_a_small_measurement(tmp_path, capsys):
    config = throughput.Config(
        tmp_path,
        examples=5000,
        rounds=1,
        steps=3,
        batch_size=1000,
        prepared_examples=1000,
    )
    with users_settings():
        result = throughput.measure_throughput(config)
    speeds = result["images_per_second"]
    assert set(speeds) == {"resident", "memory map", "TFDS"}
    assert all(len(values) == 1 and values[0] > 0 for values in speeds.values())
    assert result["ratios"]["resident"] == [1]
    printed = capsys.readouterr().out
    assert "memory map" in printed and "peak anonymous memory" in printed
