"""The main job: what it leaves, and that it is the same run again, by seed, by member,
and after a kill.
"""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tyro
from support.programs import (
    ENVIRONMENT,
    ROOT,
    SMALL,
    as_npy,
    check_folder,
    command,
    execute,
    images,
    npz,
    status_of,
    users_settings,
)

from experiments import mnist
from experiments.harness import callbacks, distributed, run, run_dir
from experiments.harness.members import Members
from experiments.harness.programs import catalogue, load_program


def load_json(path: Path) -> dict:
    return json.loads(path.read_text())


def digest(path: Path) -> str:
    return load_json(path / "manifest.json")["params_sha256"]


def metrics_without_times(path: Path) -> list[dict]:
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in run_dir.read_metrics(path)
    ]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the bundled digits, in a process of its own."""
    path = tmp_path_factory.mktemp("digits") / "run"
    result = execute(
        *SMALL,
        "--hidden-size",
        "16",
        "--batch-size",
        "500",
        "--num-annealed",
        "16",
        "--out",
        path,
    )
    assert result.returncode == 0, result.stderr
    assert "negative ELBO" in result.stdout and str(path) in result.stdout
    return path


@pytest.mark.slow
@pytest.mark.program
def test_a_run_leaves_its_folder_and_a_summary(digits):
    check_summary(digits)
    check_folder(digits)
    assert load_json(digits / "config.json")["data"] == "mnist"
    # JAX and the digits alone are more.
    assert load_json(digits / "manifest.json")["peak_resident_bytes"] > 2**27


def check_summary(digits: Path):
    """The summary holds bounds, and says what they were measured with."""
    summary = load_json(digits / "summary.json")
    test = summary["test"]
    assert (
        summary["binarization"] == "dynamic" and summary["num_test_examples"] == 10_000
    )
    assert (
        test["nll"]["num_samples"] == 2 and 0 < test["nll"]["monte_carlo_error"] < 0.1
    )
    for number in test.values():
        assert number["std"] is None and number["num_seeds"] == 1
    elbo = test["log_likelihood"]["mean"] - test["kl"]["mean"]
    assert test["negative_elbo"]["mean"] == pytest.approx(-elbo, rel=1e-5)
    # Trained at all (a uniform guess costs 543 nats), and the importance-weighted bound
    # is the tighter one.
    assert 100 < test["nll"]["mean"] < test["negative_elbo"]["mean"] < 250
    assert test["active_units"]["mean"] == test["units_by_kl"]["mean"] == 2
    assert test["units_by_kl"]["threshold"] == 0.1
    # Two samples leave nats of bias, which annealing shows.
    assert test["nll_bias"]["mean"] > 2 * test["nll_bias"]["standard_error"]
    assert test["nll_corrected"]["mean"] < test["nll_more_samples"]["mean"]
    assert test["nll_annealed"]["num_examples"] == 16
    assert test["units_by_kl"]["note"] is None


LONG = [*SMALL, "--epochs", "20", "--seed", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The option that names a small data set."""
    path = tmp_path_factory.mktemp("data")
    npz()(path)
    return ["--data", str(path / "data.npz")]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """An uninterrupted run of seed 3 on the small data set, in a process of its own
    like those that are killed.
    """
    path = tmp_path_factory.mktemp("finished") / "run"
    assert execute(*LONG, *data, "--out", path).returncode == 0
    return path


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("seeds")
def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    finished, data, tmp_path
):
    assert execute(*LONG, *data, "--out", tmp_path / "again").returncode == 0
    assert digest(tmp_path / "again") == digest(finished)
    assert metrics_without_times(tmp_path / "again") == metrics_without_times(finished)
    assert (
        execute(*LONG, *data, "--seed", "4", "--out", tmp_path / "other").returncode
        == 0
    )
    assert digest(tmp_path / "other") != digest(finished)


def kill_and_resume(
    data: list[str], path: Path, *, epochs: int, delay: float = 0.0
) -> None:
    """Kills a run `delay` seconds after it has trained that many epochs, and resumes it
    until it ends.
    """
    arguments = command(*LONG, *data, "--out", path)
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    while (
        not (path / "config.json").exists() or len(run_dir.read_metrics(path)) < epochs
    ):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = execute("--resume", "--out", path)
    assert result.returncode == 0, result.stderr


@pytest.mark.program
@pytest.mark.xdist_group("seeds")
@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(7, marks=pytest.mark.slow),
    ],
)
def test_resume_after_kill_9_ends_with_the_digest_of_the_uninterrupted_run(
    finished, data, tmp_path, epochs
):
    kill_and_resume(data, tmp_path / "run", epochs=epochs)
    assert digest(tmp_path / "run") == digest(finished)
    assert metrics_without_times(tmp_path / "run") == metrics_without_times(finished)


@pytest.mark.slow
@pytest.mark.xdist_group("seeds")
@pytest.mark.parametrize("trial", range(20))
def test_resume_after_kill_9_at_random_moments(finished, data, tmp_path, trial):
    random = np.random.default_rng(trial)
    kill_and_resume(
        data,
        tmp_path / "run",
        epochs=int(random.integers(0, 18)),
        delay=random.uniform(0, 0.3),
    )
    assert digest(tmp_path / "run") == digest(finished)
    assert metrics_without_times(tmp_path / "run") == metrics_without_times(finished)


@pytest.mark.program
def test_help_explains_every_option():
    result = execute("--help")
    assert result.returncode == 0
    for field in (
        "seed",
        "num-seeds",
        "epochs",
        "out",
        "resume",
        "data",
        "data-dir",
        "latent-size",
        "num-samples",
    ):
        assert f"--{field}" in result.stdout


@pytest.mark.program
def test_the_catalogue_lists_every_experiment():
    assert {"mnist", "autoencoder", "benchmark"} <= catalogue().keys()
    listing = subprocess.run(
        [sys.executable, "-m", "experiments"], cwd=ROOT, capture_output=True, text=True
    )
    assert all(f"experiments.{name}" in listing.stdout for name in catalogue())


@pytest.mark.slow
@pytest.mark.program
def test_several_seeds_are_reported_with_their_error_bar(data, tmp_path):
    assert (
        status_of([*SMALL, *data, "--num-seeds", "2", "--out", str(tmp_path / "run")])
        == 0
    )
    summary = load_json(tmp_path / "run" / "summary.json")
    number = summary["test"]["negative_elbo"]
    assert number["num_seeds"] == 2 and summary["seeds"] == [0, 1]
    assert number["mean"] == pytest.approx(np.mean(number["values"]))
    assert (
        number["std"] == pytest.approx(np.std(number["values"], ddof=1))
        and number["std"] > 0
    )


@pytest.mark.slow
@pytest.mark.program
def test_images_in_npy_files_are_streamed_and_give_the_run_of_the_same_images_in_memory(
    data, tmp_path
):
    own = as_npy(data[1], tmp_path / "own")
    for source, name in ((data, "resident"), (own, "streamed")):
        assert status_of([*SMALL, *source, "--out", str(tmp_path / name)]) == 0
    assert digest(tmp_path / "streamed") == digest(tmp_path / "resident")


@pytest.mark.slow
@pytest.mark.program
def test_several_seeds_and_settings_are_streamed_as_they_train_on_the_device(
    data, tmp_path
):
    own = as_npy(data[1], tmp_path / "own")
    members = ["--num-seeds", "2", "--sweep", "beta=0.5,1"]
    losses = []
    for source in (data, own):
        out = tmp_path / f"run{len(losses)}"
        assert status_of([*SMALL, *members, *source, "--out", str(out)]) == 0
        losses.append([row["train"]["loss"] for row in run_dir.read_metrics(out)])
    assert np.shape(losses[0])[1] == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.program
def test_care_around_training_reaches_the_run_and_its_folder(tmp_path, monkeypatch):
    # Enough examples for one draw of the bound to tell epochs apart.
    npz(test_images=images(500, 4, 4))(tmp_path)
    rows = []
    sizes = {
        "epochs": 30,
        "hidden_size": 8,
        "latent_size": 2,
        "batch_size": 20,
        "num_samples": 2,
    }
    care = {
        "num_validation": 20,
        "patience": 2,
        "average": 0.9,
        "clip_norm": 1.0,
        "warm_up_epochs": 2,
    }
    config = mnist.Config(
        data=str(tmp_path / "data.npz"),
        out=tmp_path / "run",
        learning_rate=0.3,
        tensorboard=True,
        **sizes,
        **care,
    )
    with users_settings():
        run.run(load_program("mnist"), config, on_epoch=rows.append)
    losses = [row["validation"]["negative_elbo"][0] for row in rows]
    # It stopped two epochs after its best one, and evaluated that one.
    assert len(rows) < 30 and np.argmin(losses) == len(rows) - 3
    assert (
        rows == run_dir.read_metrics(tmp_path / "run")
        and rows[0]["train"]["loss"][0] > 0
    )
    summary = load_json(tmp_path / "run" / "summary.json")
    best = rows[np.argmin(losses)]["test"]["negative_elbo"][0]
    assert summary["test"]["negative_elbo"]["mean"] == pytest.approx(best, abs=0.02)
    assert list((tmp_path / "run" / "tensorboard" / "seed 0").glob("events.*"))
    with users_settings():
        resumed = dataclasses.replace(config, resume=True)
        again = run.run(load_program("mnist"), resumed)
    assert again["test"] == summary["test"] and len(
        run_dir.read_metrics(tmp_path / "run")
    ) == len(rows)


def test_the_command_of_a_manifest_is_one_that_the_program_takes(monkeypatch):
    config = mnist.Config(
        tensorboard=True,
        shard_parameters=True,
        sweep=("beta=1,2", "learning-rate=0.1"),
        beta=2.0,
    )
    words = run_dir.command("mnist", config).split()
    assert words[:3] == ["python", "-m", "experiments.mnist"] and "False" not in words
    again = tyro.cli(mnist.Config, args=words[3:])
    assert again == dataclasses.replace(config, shard_parameters=False)


@pytest.mark.parametrize(("is_first", "by_all"), [(True, 0), (False, 0), (False, 1)])
def test_a_tracker_hears_of_an_epoch_once_unless_every_process_has_one(
    is_first, by_all, monkeypatch, tmp_path
):
    heard = []
    monkeypatch.setattr(distributed, "is_first", lambda: is_first)
    own = callbacks.of_process(heard.append, by_all=bool(by_all))
    tell = callbacks.each_epoch(mnist.Config(), tmp_path, Members(0, 1), own)
    tell({"epoch": 1})
    assert heard == [{"epoch": 1}] * (is_first or by_all)
