"""Sweeps over seeds and hyper-parameters: each member is its own run, however many are
trained together.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of, users_settings

import vaejax
from experiments import mnist
from experiments.harness import UsageError
from experiments.harness.members import Members, fitting, in_pieces, parse_sweep, pieces


def test_members_are_every_seed_of_every_setting():
    members = Members(
        5,
        2,
        parse_sweep(
            ("beta=0.5,1,2", "learning-rate=1e-3"), {"beta": 1.0, "learning_rate": 1e-2}
        ),
    )
    assert members.num == 6 and len(members.settings) == 3
    assert members.hyperparameters["beta"].tolist() == [0.5, 0.5, 1, 1, 2, 2]
    assert members.name(3) == "beta=1, learning_rate=0.001, seed 6"
    assert members.of_setting(np.arange(6), 1).tolist() == [2, 3]
    keys = jax.random.key_data(members.keys)
    assert np.array_equal(keys[0], keys[4]) and not np.array_equal(keys[0], keys[1])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("beta=1e-60,1", "1e-60 is a value, which is 0 in float32"),
        ("beta=1,1e60", "1e\\+60 is a value, which is infinite in float32"),
        ("beta=1,1.00000001", "two values are the same in float32"),
    ],
)
def test_swept_values_are_those_that_float32_holds(item, words):
    with pytest.raises(UsageError, match=f"--sweep {item}: {words}"):
        parse_sweep((item,), {"beta": 1.0})


@pytest.mark.parametrize(("num", "at_once"), [(7, 3), (7, 7), (7, 1), (64, 10), (5, 4)])
def test_pieces_are_of_one_size_and_cover_every_member(num, at_once):
    parts = [np.arange(num)[piece] for piece in pieces(num, at_once)]
    assert len({len(part) for part in parts}) == 1 and len(parts[0]) <= at_once
    assert sorted(set(np.concatenate(parts))) == list(range(num))
    doubled = in_pieces(lambda tree, factor: {"x": tree["x"] * factor}, num, at_once)(
        {"x": jax.numpy.arange(num)}, 2
    )
    assert doubled["x"].tolist() == list(range(0, 2 * num, 2))


def test_pieces_need_no_cpu_of_jax(monkeypatch):
    devices = jax.local_devices

    def without_cpu(*args, backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return devices(*args, backend=backend)

    monkeypatch.setattr(jax, "local_devices", without_cpu)
    doubled = in_pieces(lambda x: 2 * x, 5, 2)(jax.numpy.arange(5))
    assert doubled.tolist() == [0, 2, 4, 6, 8]


def test_as_many_members_as_fit_into_memory_but_never_none():
    assert fitting(6, 1) == 6
    assert fitting(6, 2**60) == 1


def losses(members: Members, at_once: int) -> np.ndarray:
    """Of the first hundred steps, `[members, steps]`."""
    experiment = mnist.make_experiment(
        mnist.Config(epochs=1, hidden_size=32, latent_size=4, batch_size=128)
    )
    images = jax.numpy.asarray(experiment.train[: 100 * 128])

    def one(member):
        swept, key = member
        recipe = experiment.recipe(experiment.hyperparameters | swept)
        epoch = vaejax.make_train_epoch(vaejax.make_train_step(*recipe), 128)
        state = vaejax.init_train_state(
            experiment.vae, recipe.optimizer, key, experiment.example
        )
        return epoch(state, images)[1].loss

    with users_settings():
        run = in_pieces(jax.jit(members.lift(one)), members.num, at_once)
        return np.asarray(members.stack(run((members.hyperparameters, members.keys))))


@pytest.mark.slow
def test_each_member_follows_its_own_single_run_over_a_hundred_steps():
    together = losses(
        Members(5, 2, {"beta": (1.0, 4.0), "learning_rate": (1e-3, 3e-3)}), at_once=8
    )
    in_threes = losses(
        Members(5, 2, {"beta": (1.0, 4.0), "learning_rate": (1e-3, 3e-3)}), at_once=3
    )
    assert together.shape == (8, 100)
    np.testing.assert_allclose(in_threes, together, rtol=1e-5)
    singles = [(1.0, 1e-3, 6), (1.0, 3e-3, 5), (4.0, 3e-3, 6)]
    for (beta, rate, seed), row in zip(singles, together[[1, 2, 7]], strict=True):
        alone = losses(
            Members(seed, 1, {"beta": (beta,), "learning_rate": (rate,)}), at_once=1
        )[0]
        np.testing.assert_allclose(row, alone, rtol=2e-4)
    assert np.ptp(together[:, -1]) > 1  # eight different runs


def run_sweep(directory: Path, name: str, *arguments: str) -> dict:
    npz()(directory)
    data = ["--data", str(directory / "data.npz")]
    assert status_of([*SMALL, *data, "--out", str(directory / name), *arguments]) == 0
    return json.loads((directory / name / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("sweeps")
def test_a_sweep_is_reported_by_setting_with_differences_paired_by_seed(
    tmp_path, capsys
):
    summary = run_sweep(tmp_path, "run", "--num-seeds", "2", "--sweep", "beta=0.5,1,4")
    assert summary["reference"] == {"beta": 1}
    assert [entry["setting"]["beta"] for entry in summary["sweep"]] == [0.5, 1, 4]
    kl = [entry["test"]["kl"]["values"] for entry in summary["sweep"]]
    difference = summary["sweep"][2]["difference"]["kl"]
    np.testing.assert_allclose(difference["values"], np.subtract(kl[2], kl[1]))
    assert difference["std"] == pytest.approx(np.std(difference["values"], ddof=1))
    table = capsys.readouterr().out
    assert "beta=4 minus beta=1" in table and "±" in table
    assert (tmp_path / "run" / "figures" / "sweep.png").exists()
    again = run_sweep(
        tmp_path,
        "pieces",
        "--num-seeds",
        "2",
        "--sweep",
        "beta=0.5,1,4",
        "--members-at-once",
        "4",
    )
    for one, other in zip(summary["sweep"], again["sweep"], strict=True):
        np.testing.assert_allclose(
            one["test"]["nll"]["values"], other["test"]["nll"]["values"], rtol=1e-4
        )


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("sweeps")
def test_a_member_that_diverges_is_named_and_disturbs_no_other(tmp_path, capsys):
    summary = run_sweep(tmp_path, "run", "--sweep", "learning-rate=1e-3,1e30")
    printed = capsys.readouterr()
    assert (
        "not finite for learning_rate=1e+30, seed 0" in printed.err
        and "diverged" in printed.out
    )
    sane, wild = (entry["test"]["negative_elbo"] for entry in summary["sweep"])
    assert (
        wild["mean"] is None and wild["num_diverged"] == 1 and wild["values"] == [None]
    )
    for count in ("active_units", "units_by_kl"):
        assert summary["sweep"][1]["test"][count]["mean"] is None
    alone = run_sweep(tmp_path, "alone", "--learning-rate", "1e-3")
    assert sane["mean"] == pytest.approx(
        alone["test"]["negative_elbo"]["mean"], rel=1e-4
    )
