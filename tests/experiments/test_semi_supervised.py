"""The program that compares M2 with a classifier and a probe, on small data."""

import json

import numpy as np
import pytest
from support.programs import SMALL, npz, status_of

from experiments import semi_supervised


def labeled(path):
    """Images of two halves, one of which is white."""
    random = np.random.default_rng(0)
    parts = {}
    for name, num in (("train", 200), ("test", 60)):
        labels = random.integers(0, 2, num)
        images = random.integers(0, 90, (num, 4, 4))
        images[labels == 0, :2] += 150
        images[labels == 1, 2:] += 150
        parts |= {f"{name}_images": images.astype(np.uint8), f"{name}_labels": labels}
    npz(**parts)(path)


@pytest.mark.slow
@pytest.mark.program
def test_the_program_compares_all_methods(tmp_path):
    labeled(tmp_path)
    out = tmp_path / "run"
    arguments = ["--data", str(tmp_path / "data.npz"), "--out", str(out)]
    arguments += ["--num-labels", "20", "--num-seeds", "2", "--epochs", "4"]
    assert status_of([*SMALL[2:8], *SMALL[10:], *arguments], semi_supervised) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_labels"] == 20
    of_classes = (f"M2, weight {weight}" for weight in ("0.1", "10", "100"))
    for name in (*of_classes, "VAE, probe of codes", "classifier"):
        assert summary["test"][name]["num_seeds"] == 2
        assert 0 <= summary["test"][name]["mean"] <= 1
    assert summary["test"]["classifier"]["mean"] > 0.9
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert {"accuracy", "samples_1", "samples_3"} <= drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-labels", "1"], "--num-labels is 1; give at least one for each of"),
        (["--beta", "2"], "--beta, --warm-up-epochs"),
        (
            ["--classifier-weights", "1", "1"],
            "--classifier-weights are [1.0, 1.0]; give",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(arguments, message, tmp_path, capsys):
    labeled(tmp_path)
    data = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*SMALL[:4], *arguments, *data], semi_supervised) == 2
    assert message in capsys.readouterr().err
