"""Training that ends with a finite loss, far above that of the untrained model."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from support.programs import SMALL, npz, status_of

from experiments import mnist
from experiments.harness import RunError, divergence, evaluation, run, run_dir
from experiments.harness.experiment import Comparison
from experiments.harness.job import Job
from experiments.harness.members import Members


def rows(*losses, untrained=(20.0,)):
    """Lines of metrics; losses are lists of one per member."""
    return [
        {"epoch": number, "train": {"loss": list(loss)}}
        | ({} if untrained is None else {divergence.NAME: list(untrained)})
        for number, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (rows([20.1], [5e28]), [0]),
        (rows([5e28], [20.1]), []),
        (rows([20.1], [39.9]), []),
        (rows([20.1], [40.1]), [0]),
        # A density may have a negative loss; one nat per value is noise.
        (rows([0.0], [11.9], untrained=[-0.1]), []),
        (rows([0.0], [12.1], untrained=[-0.1]), [0]),
        (rows([-40.0], [-19.0], untrained=[-20.0]), []),
        (rows([1, 1, 1], [90, 7, 90], untrained=[20, 20, None]), [0]),
        (rows([1, 1], [None, 7], untrained=[20, 20]), []),
        (rows([5e28], untrained=None), []),
        ([], []),
    ],
)
def test_a_loss_far_above_that_of_the_untrained_model_is_divergence(lines, expected):
    assert divergence.diverged(lines, 12) == expected


def test_with_early_stopping_the_best_epoch_is_judged():
    lines = rows([20.0, 5e28], [5e28, 5e28], untrained=[20, 20])
    assert divergence.diverged(lines, 12) == [0, 1]
    assert divergence.diverged(lines, 12, stops_early=True) == [1]


def test_the_losses_of_the_untrained_model_are_those_of_the_first_step():
    losses = np.array([[3.0, 1.0], [np.nan, 1.0]])
    assert divergence.first_losses(losses) == [3.0, None]


def test_numbers_of_diverged_members_are_left_out():
    members = np.array([False, True])
    for values in (np.array([1, 2]), np.ones((2, 3, 4))):
        kept = evaluation._without(values, members)
        assert np.all(kept[0] == values[0]) and np.isnan(kept[1]).all()
        assert evaluation._without(values, np.zeros(2, bool)) is values


def job(num_members, tmp_path, **options):
    """A job of examples of 12 values, as far as its losses are judged."""
    experiment = SimpleNamespace(example={"a": np.zeros(4), "b": np.zeros((2, 4))})
    members = Members(3, num_members)
    return Job(tmp_path, mnist.Config(**options), experiment, members, None, "a")


def test_one_member_of_two_is_named_and_all_are_an_error(tmp_path, capsys):
    two = job(2, tmp_path)
    lines = rows([20.0, 20.0], [15.0, 5e28], untrained=[20.0, 20.5])
    assert divergence.check(two, lines) == [1]
    words = "the training loss is 5e+28, and 20.5 untrained, for seed 4"
    assert words in capsys.readouterr().err
    divergence.warn(two, lines[0])
    assert capsys.readouterr().err == ""
    divergence.warn(two, lines[1])
    assert f"warning: epoch 2: {words}" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"for seed 3; try a smaller --learning-rate"):
        divergence.check(job(1, tmp_path), rows([5e28]))
    stopped = job(1, tmp_path, patience=1, num_validation=1)
    assert divergence.check(stopped, rows([10.0], [5e28])) == []


def test_an_average_of_initial_parameters_is_warned_of(capsys):
    def warned(average, **options):
        config = mnist.Config(average=average, **options)
        part = SimpleNamespace(steps_per_epoch=10)
        run._warn_of_average(config, Comparison({"": part}))
        return capsys.readouterr().err

    assert warned(None) == warned(0.9) == warned(0.999, epochs=70) == ""
    message = warned(0.999, epochs=20)
    assert "after 200 steps the average, which is evaluated, is 82% init" in message
    assert "; 0.9772 would leave 1 %" in message


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("mistakes")
def test_a_run_that_diverges_says_so_and_fails_when_it_is_resumed_too(tmp_path, capsys):
    npz()(tmp_path)
    run = tmp_path / "run"
    new = ["--data", str(tmp_path / "data.npz"), *SMALL, "--learning-rate", "1e6"]
    for options in (new, ["--resume"]):
        assert status_of([*options, "--out", str(run)]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: training has diverged: the training loss is ")
        assert "untrained, for seed 0; try a smaller --learning-rate" in last
    lines = run_dir.read_metrics(run)
    assert [line["epoch"] for line in lines] == [1, 2]
    # 16 pixels, each with a probability near a half.
    assert lines[0][divergence.NAME] == pytest.approx([16 * np.log(2)], rel=0.1)
    assert lines[1][divergence.NAME] == lines[0][divergence.NAME]
    assert not (run / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("sweeps")
def test_a_member_that_diverges_is_named_and_left_out(tmp_path, capsys):
    npz()(tmp_path)
    run = tmp_path / "run"
    options = ["--data", str(tmp_path / "data.npz"), *SMALL, "--out", str(run)]
    assert status_of([*options, "--sweep", "learning-rate=1e-3,1e6"]) == 0
    printed = capsys.readouterr()
    assert "untrained, for learning_rate=1e+06, seed 0; numbers leave" in printed.err
    summary = json.loads((run / "summary.json").read_text())
    assert summary["diverged"] == {"training": ["learning_rate=1e+06, seed 0"]}
    sane, wild = (entry["test"]["negative_elbo"] for entry in summary["sweep"])
    assert sane["num_diverged"] == 0 and wild["num_diverged"] == 1
    assert wild["mean"] is None
