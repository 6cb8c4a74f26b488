"""The programs as a user runs them: in a process of their own, on the bundled digits, with a small network."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import vaejax
from experiments import folder, mnist, run
from experiments.__main__ import catalogue
from experiments.members import Members

ROOT = Path(__file__).parents[1]
SMALL = ["--epochs", "3", "--hidden-size", "16", "--latent-size", "2", "--batch-size", "1000", "--num-samples", "3"]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "experiments.mnist", *map(str, arguments)]


# The programs of the runs below are the same: compile them once.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix="vaejax-compiled-"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}


def execute(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def load_json(path: Path) -> dict:
    return json.loads(path.read_text())


def digest(path: Path) -> str:
    return load_json(path / "manifest.json")["params_sha256"]


def metrics_without_times(path: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in folder.read_metrics(path)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of seed 3."""
    path = tmp_path_factory.mktemp("runs") / "first"
    result = execute(*SMALL, "--seed", "3", "--out", path)
    assert result.returncode == 0, result.stderr
    assert "negative ELBO" in result.stdout and str(path) in result.stdout
    return path


def test_a_run_leaves_its_folder(finished):
    figures = {file.name for file in (finished / "figures").iterdir()}
    names = ("learning_curves", "reconstructions", "samples", "interpolations", "manifold")
    assert figures == {f"{name}.png" for name in names}
    assert all((finished / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in figures)
    assert [row["epoch"] for row in folder.read_metrics(finished)] == [1, 2, 3]
    config = load_json(finished / "config.json")
    assert (config["seed"], config["epochs"], config["latent_size"], config["data"]) == (3, 3, 2, "mnist")
    manifest = load_json(finished / "manifest.json")
    assert manifest["versions"]["jax"] == jax.__version__ and len(manifest["data_sha256"]) == 64


def test_the_summary_is_a_bound_and_says_what_it_was_measured_with(finished):
    summary = load_json(finished / "summary.json")
    test = summary["test"]
    assert summary["binarization"] == "dynamic" and summary["num_test_examples"] == 10_000
    assert test["nll"]["num_samples"] == 3 and 0 < test["nll"]["monte_carlo_error"] < 0.1
    for number in test.values():
        assert number["std"] is None and number["num_seeds"] == 1
    elbo = test["log_likelihood"]["mean"] - test["kl"]["mean"]
    assert test["negative_elbo"]["mean"] == pytest.approx(-elbo, rel=1e-5)
    # Trained at all (a uniform guess costs 543 nats), and the importance-weighted bound is the tighter one.
    assert 100 < test["nll"]["mean"] < test["negative_elbo"]["mean"] < 250
    assert test["active_units"]["mean"] == 2


def test_the_same_seed_gives_the_same_run_and_another_seed_another(finished, tmp_path):
    assert execute(*SMALL, "--seed", "3", "--out", tmp_path / "again").returncode == 0
    assert digest(tmp_path / "again") == digest(finished)
    assert metrics_without_times(tmp_path / "again") == metrics_without_times(finished)
    assert execute(*SMALL, "--seed", "4", "--out", tmp_path / "other").returncode == 0
    assert digest(tmp_path / "other") != digest(finished)


def kill_and_resume(path: Path, delay: float) -> None:
    """Kills a run `delay` seconds after its folder appears, and resumes it until it ends."""
    arguments = command(*SMALL, "--seed", "3", "--out", path)
    process = subprocess.Popen(arguments, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not (path / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = execute("--resume", "--out", path)
    assert result.returncode == 0, result.stderr


def test_resume_after_kill_9_ends_with_the_digest_of_the_uninterrupted_run(finished, tmp_path):
    # Right at the start, and in the middle of training.
    for number, delay in enumerate((0.0, 3.0)):
        kill_and_resume(tmp_path / str(number), delay)
        assert digest(tmp_path / str(number)) == digest(finished)
        assert metrics_without_times(tmp_path / str(number)) == metrics_without_times(finished)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(10))
def test_resume_after_kill_9_at_random_moments(finished, tmp_path, trial):
    kill_and_resume(tmp_path / "run", float(np.random.default_rng(trial).uniform(0, 8)))
    assert digest(tmp_path / "run") == digest(finished)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "-1"], ["--epochs", "-1", "positive"]),
        (["--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["--batch-size", "100000"], ["100000", "60000"]),
        (["--data", "imagenet"], ["imagenet", "mnist"]),
        (["--resume"], ["--resume", "no run"]),
        (["--no-such-flag"], ["no-such-flag"]),
    ],
)
def test_a_mistake_is_answered_in_one_line(tmp_path, arguments, words):
    result = execute(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert not list(tmp_path.rglob("*.json")), "a run that could not start left files behind"


def test_nothing_is_overwritten(finished, tmp_path):
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    taken = execute(*SMALL, "--out", finished)
    assert taken.returncode == 2 and "--resume" in taken.stderr
    different = execute("--resume", "--out", finished, "--latent-size", "5")
    assert different.returncode == 2 and "--latent-size" in different.stderr
    assert before == {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}


def test_help_explains_every_option():
    result = execute("--help")
    assert result.returncode == 0
    for field in ("seed", "num-seeds", "epochs", "out", "resume", "data", "latent-size", "num-samples"):
        assert f"--{field}" in result.stdout


def test_the_catalogue_lists_every_experiment():
    assert {"mnist", "benchmark"} <= catalogue().keys()
    listing = subprocess.run([sys.executable, "-m", "experiments"], cwd=ROOT, capture_output=True, text=True)
    assert all(f"experiments.{name}" in listing.stdout for name in catalogue())


def test_each_member_follows_its_own_single_run_over_a_hundred_steps():
    config = mnist.Config(epochs=1, hidden_size=32, latent_size=4, batch_size=128)
    experiment = mnist.make_experiment(config)
    step = vaejax.make_train_step(experiment.loss_fn, experiment.optimizer)
    images = experiment.train[: 100 * config.batch_size]

    def losses(members: Members) -> np.ndarray:
        init = members.lift(partial(vaejax.init_train_state, experiment.vae, experiment.optimizer))
        epoch = members.lift(vaejax.make_train_epoch(step, config.batch_size))
        return members.stack(jax.jit(epoch)(init(members.keys, experiment.example), images)[1].loss)

    together = losses(Members(5, 3))
    alone = np.concatenate([losses(Members(seed, 1)) for seed in (5, 6, 7)])
    assert together.shape == (3, 100)
    np.testing.assert_allclose(together, alone, rtol=2e-4)
    assert np.ptp(alone[:, -1]) > 1e-2  # three different runs


def test_several_seeds_are_reported_with_their_error_bar(tmp_path):
    config = mnist.Config(
        epochs=1, hidden_size=8, latent_size=2, batch_size=1000, num_samples=2, num_seeds=2, out=tmp_path / "run"
    )
    summary = run.run("mnist", config, mnist.make_experiment)
    number = summary["test"]["negative_elbo"]
    assert number["num_seeds"] == 2 and summary["seeds"] == [0, 1]
    assert number["mean"] == pytest.approx(np.mean(number["values"]))
    assert number["std"] == pytest.approx(np.std(number["values"], ddof=1)) and number["std"] > 0
