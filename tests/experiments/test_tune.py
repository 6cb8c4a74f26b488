"""Searches: what is searched, which trials go on, and that a killed one goes on."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.programs import ENVIRONMENT, ROOT, command, npz

from experiments import mnist, tune
from experiments.harness import Comparison, UsageError
from experiments.harness.programs import load_program

pytest.importorskip("optuna")

from experiments.tuning import report, search, space, trials  # noqa: E402
from experiments.tuning.trials import COMPLETE, DIVERGED, RUNNING, STOPPED, Trial

CONFIG = mnist.Config()
ITEMS = ("learning_rate=log:1e-4:1e-2", "beta=0.5:4", "latent-size=2,20")
SMALL = ["--epochs", "3", "--hidden-size", "8", "--latent-size", "2"]
SMALL += ["--batch-size", "20"]


def trial(number: int, *means: float, state: str = RUNNING) -> Trial:
    """A trial of two seeds whose mean losses after every epoch are given."""
    losses = [
        [None, 1.0] if math.isinf(mean) else [mean - 1, mean + 1] for mean in means
    ]
    return Trial(number, {"learning_rate": 0.01 * (number + 1)}, losses, state)


def test_ranges_and_choices_are_those_of_the_option():
    found = space.parse_space((*ITEMS, "hidden_size=8:64"), CONFIG)
    assert list(found) == ["learning_rate", "beta", "latent_size", "hidden_size"]
    assert found["learning_rate"].log and not found["beta"].log
    assert (found["beta"].low, found["beta"].high) == (0.5, 4.0)
    assert found["latent_size"].choices == (2, 20)
    assert isinstance(found["hidden_size"].high, int)
    chosen = space.parse_space(("compute_dtype=float32,bfloat16",), CONFIG)
    assert chosen["compute_dtype"].choices == ("float32", "bfloat16")


def test_by_default_the_learning_rate_is_searched_around_its_own_value():
    found = space.parse_space((), CONFIG)["learning_rate"]
    assert (found.low, found.high, found.log) == (3e-4, 3e-2, True)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (("epochs=1,2",), "epochs is not searched here; give NAME=LOW:HIGH"),
        (("data=mnist,cifar10",), "data is not searched here"),
        (("beta=1:2", "beta=1:3"), "beta is given twice"),
        (("beta=2:1",), "2 is not below 1"),
        (("beta=log:0:1",), "0 has no logarithm"),
        (("beta=exp:1:2",), "'exp:1:2' is no range"),
        (("beta=1",), "there must be several different values"),
        (("beta=",), "nothing is no value of the option"),
        (("latent_size=1.5:2",), "invalid literal"),
        (("compute_dtype=a:b",), "is not a number and has no range"),
        (("compute_dtype=float32,float16",), "float16 is no value of the option"),
        (("learning_rate=0:1",), "--learning-rate is 0.0; give a positive number"),
    ],
)
def test_what_cannot_be_searched_is_refused(items, words):
    with pytest.raises(UsageError, match=words):
        space.parse_space(items, CONFIG)


def test_own_settings_are_those_of_the_program_where_they_are_within():
    found = space.parse_space(ITEMS, CONFIG)
    own = {"learning_rate": 3e-3, "beta": 1.0, "latent_size": 20}
    assert space.own_settings(found, CONFIG) == own
    assert space.own_settings(found, mnist.Config(latent_size=5)) is None
    assert space.own_settings(found, mnist.Config(beta=5.0)) is None


def test_settings_are_split_by_what_one_program_takes_as_an_argument():
    own = {"learning_rate": 3e-3, "beta": 1.0, "latent_size": 20}
    fixed, varied = space.split(own, {"learning_rate": 1.0, "beta": 1.0})
    assert fixed == {"latent_size": 20}
    assert varied == {"learning_rate": 3e-3, "beta": 1.0}


def test_proposals_are_a_function_of_the_seed_and_of_the_trials_before():
    found = space.parse_space(ITEMS, CONFIG)
    own = space.own_settings(found, CONFIG)
    first = trials.ask(found, [], num=9, seed=3, first=own)
    assert [one.number for one in first] == list(range(9))
    assert first[0].settings == own
    assert first == trials.ask(found, [], num=9, seed=3, first=own)
    assert first != trials.ask(found, [], num=9, seed=4, first=own)
    ended = [
        dataclasses.replace(one, losses=[[float(one.number)]], state=COMPLETE)
        for one in first
    ]
    later = trials.ask(found, ended, num=2, seed=3)
    assert [one.number for one in later] == [9, 10]
    # As they come back from a file.
    read = [Trial(**json.loads(json.dumps(dataclasses.asdict(one)))) for one in ended]
    assert later == trials.ask(found, read, num=2, seed=3)
    ended[0] = dataclasses.replace(ended[0], losses=[[100.0]])
    assert later != trials.ask(found, ended, num=2, seed=3)


def test_optuna_is_told_the_mean_over_seeds():
    found = space.parse_space(("learning_rate=log:1e-3:1",), CONFIG)
    ended = [
        trial(0, 9.0, 7.0, state=COMPLETE),
        trial(1, 8.0, state=STOPPED),
        trial(2, math.inf, state=DIVERGED),
    ]
    complete, stopped, diverged = trials.study_of(found, ended).trials
    assert complete.value == 7 and complete.intermediate_values == {1: 9, 2: 7}
    assert stopped.state.name == diverged.state.name == "PRUNED"
    assert diverged.intermediate_values == {1: math.inf}


@pytest.mark.parametrize(
    ("epochs", "first", "factor", "expected"),
    [
        (20, None, 2, [2, 4, 8, 16]),
        (20, None, 3, [2, 6, 18]),
        (20, 5, 2, [5, 10]),
        (8, None, 2, [1, 2, 4]),
        (1, None, 2, []),
        (20, None, 1, []),
    ],
)
def test_rungs_are_powers_of_the_factor_below_the_last_epoch(
    epochs, first, factor, expected
):
    assert trials.rungs(epochs, first, factor) == expected


def test_the_better_half_goes_on_after_a_rung():
    batch = [trial(0, 5), trial(1, 3), trial(2, 4), trial(3, math.inf), trial(4, 9)]
    after = trials.judged(batch, 1, 2)
    states = [one.state for one in after]
    assert states == [RUNNING, RUNNING, RUNNING, DIVERGED, STOPPED]
    assert trials.judged(after, 1, 2) == after
    # Trials of earlier batches compete, however they ended.
    earlier = [trial(0, 1, 1, state=COMPLETE), trial(1, 2, state=STOPPED)]
    both = trials.judged([*earlier, trial(2, 3), trial(3, 1.5)], 1, 2)
    assert [one.state for one in both[2:]] == [STOPPED, RUNNING]
    assert both[:2] == earlier


def test_the_best_trial_is_complete():
    some = [trial(0, 5, 4), trial(1, 6, 3), trial(2, 1, state=STOPPED)]
    assert trials.best_of(some) is None
    ended = trials.finished([*some, trial(3, 2, math.inf)], 2)
    assert [one.state for one in ended] == [COMPLETE, COMPLETE, STOPPED, DIVERGED]
    assert trials.best_of(ended).number == 1


def test_the_command_of_a_trial_has_its_options_alone_and_repeats_them():
    config = mnist.Config(learning_rate=0.0123456789, num_seeds=3, average=0.99)
    words = report.command_of("mnist", config)
    assert words[:3] == ["python", "-m", "experiments.mnist"]
    assert sum(word.startswith("--") for word in words) == 3
    assert config_of(words[3:]) == config
    assert report.changed_options(CONFIG) == []


def config_of(words: list[str]) -> mnist.Config:
    options = tuple(without(words, "--num-seeds"))
    own = tune.Config(num_seeds=3, num_validation=0, options=options)
    return tune.program_config(load_program("mnist"), own)


def without(words: list[str], flag: str) -> list[str]:
    place = words.index(flag)
    return words[:place] + words[place + 2 :]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--num-seeds", "2"), "--num-seeds stands after `--`.*give it before"),
        (("--sweep", "beta=1,2"), "--sweep stands after `--`.*leave it out"),
    ],
)
def test_options_of_the_search_are_refused_among_those_of_the_program(options, words):
    with pytest.raises(UsageError, match=words):
        tune.program_config(load_program("mnist"), tune.Config(options=options))


def test_programs_that_compare_models_or_hold_nothing_out_or_stream_are_refused(
    tmp_path,
):
    program = load_program("mnist")
    several = Comparison({"a": None, "b": None})
    with pytest.raises(UsageError, match="compares several models"):
        search.make_experiment(
            program._replace(make_experiment=lambda config: several), CONFIG
        )
    nothing = SimpleNamespace(validation=None)
    with pytest.raises(UsageError, match="holds out no validation data"):
        search.make_experiment(
            program._replace(make_experiment=lambda config: nothing), CONFIG
        )
    np.save(tmp_path / "train.npy", gray(3, 0))
    on_disk = np.load(tmp_path / "train.npy", mmap_mode="r")
    streamed = SimpleNamespace(validation=gray(3, 1), train=on_disk)
    with pytest.raises(UsageError, match="images in .npy files are streamed"):
        search.make_experiment(
            program._replace(make_experiment=lambda config: streamed), CONFIG
        )


def test_the_command_of_a_search_names_what_it_was_given():
    config = tune.Config(search=ITEMS, trials=4, options=("--epochs", "3"))
    words = tune.command_of(config)
    assert "--search latent-size=2,20 --trials 4" in words
    assert words.endswith("-- --epochs 3") and "--resume" not in words


# Searches spend their time on compiling: once for all, without optimizing.
COMPILED_ONCE = ENVIRONMENT | {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}


def start(*words: str | Path, module: str = "experiments.tune") -> subprocess.Popen:
    return subprocess.Popen(
        command(*words, module=module),
        cwd=ROOT,
        env=COMPILED_ONCE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(*words: str | Path, module: str = "experiments.tune") -> None:
    """Run a search, or another program, to its end."""
    process = start(*words, module=module)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors


def trials_in(path: Path) -> list[dict]:
    return json.loads((path / "trials.json").read_text())["trials"]


def gray(num: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (num, 4, 4)).astype(np.uint8)


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    path = tmp_path_factory.mktemp("data")
    npz(train_images=gray(120, 0))(path)
    return [*SMALL, "--data", str(path / "data.npz")]


SEARCH = ["mnist", "--trials", "6", "--trials-at-once", "4", "--num-seeds", "2"]
SEARCH += ["--num-validation", "20", "--search", "learning_rate=log:1e-4:1e-1"]
SEARCH += ["--search", "latent_size=2,3"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, options) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "search"
    check(*SEARCH, "--out", out, "--", *options)
    return out


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("tune")
def test_a_search_ends_with_its_report_and_the_command_of_the_best(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    found = trials_in(undisturbed)
    assert len(found) == 6 and {one["state"] for one in found} == {COMPLETE, STOPPED}
    complete = [one for one in found if one["state"] == COMPLETE]
    means = {one["number"]: np.mean(one["losses"][-1]) for one in complete}
    assert summary["best"]["number"] == min(means, key=means.get)
    assert summary["member_epochs"] < summary["all_member_epochs"] == 6 * 2 * 3
    latent_size = summary["best"]["settings"]["latent_size"]
    assert f"--latent-size {latent_size} " in summary["command"] + " "
    figures = {file.stem for file in (undisturbed / "figures").iterdir()}
    assert figures == {"learning_curves", "trials"}
    assert not (undisturbed / "checkpoints").exists()
    page = (undisturbed / "report.html").read_text()
    assert "experiments.tune mnist" in page.replace("\\\n  ", "")
    arguments = summary["command"].split()[3:]
    least = ["--num-samples", "2", "--num-annealed", "0"]
    check(
        *arguments,
        *least,
        "--out",
        undisturbed / "tuned",
        module="experiments.mnist",
    )


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("tune")
def test_a_killed_search_goes_on_with_the_same_trials(tmp_path, options, undisturbed):
    out = tmp_path / "search"
    first = [*SEARCH, "--out", out, "--", *options]
    resume = ["--resume", "--out", out]
    # After the first epochs of the first batch, and within the second one.
    for words, epochs in ((first, 4), (resume, 8)):
        process = start(*words)
        while process.poll() is None and done_in(out) < epochs:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert any(one["state"] == RUNNING for one in trials_in(out))
    other = start(*SEARCH, "--trials", "7", *resume)
    assert "--trials is 7 and the run in" in other.communicate()[1]
    # The same command goes on with --resume.
    check(*SEARCH, *resume, "--", *options)
    assert trials_in(out) == trials_in(undisturbed)


def done_in(path: Path) -> int:
    """The epochs of all trials so far."""
    try:
        return sum(len(one["losses"]) for one in trials_in(path))
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("tune")
def test_trials_that_stop_change_nothing_for_those_that_go_on(
    tmp_path, options, undisturbed
):
    words = [*SEARCH[:2], "4", *SEARCH[3:], "--reduction-factor", "1"]
    check(*words, "--out", tmp_path / "all", "--", *options)
    every = trials_in(tmp_path / "all")
    for one, other in zip(trials_in(undisturbed)[:4], every, strict=True):
        assert one["settings"] == other["settings"] and len(other["losses"]) == 3
        np.testing.assert_allclose(
            one["losses"], other["losses"][: len(one["losses"])], rtol=1e-4
        )


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("tune")
def test_a_trial_is_the_run_of_its_settings_and_the_test_set_decides_nothing(
    tmp_path, options, undisturbed
):
    best = trials_in(undisturbed)[0]
    npz(train_images=gray(120, 0), test_images=gray(20, 9))(tmp_path)
    words = [f"--{name.replace('_', '-')}" for name in best["settings"]]
    values = map(str, best["settings"].values())
    arguments = [*options, "--data", str(tmp_path / "data.npz"), "--num-seeds", "2"]
    arguments += [word for pair in zip(words, values, strict=True) for word in pair]
    arguments += ["--num-validation", "20", "--num-samples", "2"]
    arguments += ["--num-annealed", "0", "--out", str(tmp_path / "run")]
    check(*arguments, module="experiments.mnist")
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [row["validation"]["negative_elbo"] for row in rows]
    np.testing.assert_allclose(best["losses"], losses[: len(best["losses"])], rtol=1e-4)
