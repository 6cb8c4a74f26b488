"""A whole test set annealed in pieces, which go on where they stopped."""

import json

import numpy as np
import pytest
from support.programs import SMALL, images, npz, status_of, users_settings

from experiments import log_likelihood
from experiments.harness import UsageError, annealing
from experiments.log_likelihood import Config

# The model is trained once, on one worker.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("log_likelihood")]

QUICK = {"num_temperatures": 20, "num_chains": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    npz(test_images=images(40, 4, 4))(path)
    arguments = ["--data", str(path / "data.npz"), "--out", str(path / "run")]
    assert status_of([*SMALL, *arguments]) == 0
    return path / "run"


def annealed(run, **options):
    with users_settings():
        return log_likelihood.log_likelihood(Config(run, **QUICK | options))


def values_of(run):
    with np.load(run / "log_likelihood/member-0.npz") as archive:
        return {name: archive[name] for name in log_likelihood.NUMBERS}


@pytest.mark.slow
@pytest.mark.program
def test_a_longer_run_goes_on_from_a_shorter_one(run, capsys):
    some = annealed(run, num_examples=10)
    before = values_of(run)
    # A piece is annealed whole, and only what was asked for is counted.
    assert len(before["annealed"]) == annealing.AT_ONCE
    assert some["nll_annealed"]["num_examples"] == 10
    whole = annealed(run)
    after = values_of(run)
    assert len(after["annealed"]) == 40
    for name, values in before.items():
        np.testing.assert_array_equal(after[name][: annealing.AT_ONCE], values)
    assert whole["nll"]["mean"] == pytest.approx(-after["bound"].mean())
    bias = whole["nll"]["mean"] - whole["nll_annealed"]["mean"]
    assert whole["nll_bias"]["mean"] == pytest.approx(bias, abs=1e-4)
    # Nothing is left to the choice of examples, but the noise of the chains is.
    assert whole["nll_annealed"]["standard_error"] > 0
    assert (
        whole["nll_annealed"]["standard_error"] < some["nll_annealed"]["standard_error"]
    )
    written = json.loads((run / "log_likelihood/member-0.json").read_text())
    assert written == whole
    assert "40 of 40 test examples" in capsys.readouterr().out


@pytest.mark.program
def test_values_are_not_mixed_with_those_of_other_options(run):
    annealed(run, num_examples=10)
    with pytest.raises(UsageError, match=r"num_chains 2, and this is 3"):
        annealed(run, num_chains=3)
    file = run / "log_likelihood/member-0.npz"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(UsageError, match=r"member-0.npz is damaged"):
        annealed(run)
    file.write_bytes(content)


@pytest.mark.program
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_examples": 41}, "--num-examples is 41; give 2 to 40"),
        ({"num_examples": 1}, "--num-examples is 1"),
        ({"num_temperatures": 21}, "--num-temperatures is 21; give an even number"),
        ({"num_chains": 0}, "--num-chains is 0; give a positive integer"),
        ({"member": 7}, "--member is 7"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, options, words):
    with pytest.raises(UsageError, match=words):
        annealed(run, **options)
