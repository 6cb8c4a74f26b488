"""A finished run is trained on with --extend, and not by a larger --epochs alone."""

import json

import jax
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of

from experiments import mnist
from experiments.harness import programs, run, run_dir
from experiments.harness.errors import UsageError
from experiments.harness.load_run import load_run


@pytest.fixture
def arguments(tmp_path):
    npz()(tmp_path)
    return [
        *SMALL,
        "--data",
        str(tmp_path / "data.npz"),
        "--out",
        str(tmp_path / "run"),
    ]


def again(tmp_path, *words):
    return status_of(["--resume", "--out", str(tmp_path / "run"), *words])


@pytest.mark.slow
@pytest.mark.program
def test_a_finished_run_goes_on(tmp_path, arguments, capsys):
    assert status_of(arguments) == 0
    assert again(tmp_path, "--epochs", "4") == 2
    message = capsys.readouterr().err
    for words in ("--epochs is 4", "has 2", "decay to zero", "--extend"):
        assert words in message
    assert again(tmp_path, "--epochs", "1", "--extend") == 2
    before = load_run(tmp_path / "run").state
    assert again(tmp_path, "--epochs", "4", "--extend") == 0
    after = load_run(tmp_path / "run").state
    assert (int(before.step), int(after.step)) == (4, 8)
    changes = jax.tree.map(np.array_equal, before.params, after.params)
    assert not all(jax.tree.leaves(changes))
    rows = run_dir.read_metrics(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert (saved["epochs"], saved["extended_from"]) == (4, [2])
    command = json.loads((tmp_path / "run/manifest.json").read_text())["command"]
    first, second = command.split(" && ")
    assert "--extend" not in first and "--epochs 2 " in first
    assert second == "python -m experiments.mnist --resume --extend --epochs 4"
    # The same command, and plain --resume, find the extended run finished.
    assert again(tmp_path, "--epochs", "4", "--extend") == 0
    assert again(tmp_path) == 0


def test_only_a_finished_run_is_extended(tmp_path):
    program = programs.load_program("mnist")
    with run_dir.claimed(tmp_path / "run", "mnist", mnist.Config(epochs=2)):
        pass
    own = mnist.Config(epochs=4, out=tmp_path / "run", resume=True, extend=True)
    with pytest.raises(UsageError, match="has not finished its 2 epochs"):
        run.run(program, own)
    with pytest.raises(UsageError, match="add --resume"):
        run.run(program, mnist.Config(extend=True))
