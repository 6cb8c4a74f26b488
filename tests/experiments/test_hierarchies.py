"""The program on levels of latents: its models, its schedule and its numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import execute, npz, status_of

from experiments import hierarchies
from experiments.harness import averages

CONFIG = hierarchies.Config(latent_sizes=(4, 3, 2), hidden_sizes=(8, 6, 5))
SHAPE = (4, 4)


def test_climbing_levels_and_the_ladder_have_one_generative_model():
    vaes = hierarchies.make_models(CONFIG, SHAPE)
    assert list(vaes) == [
        "1 level",
        "2 levels, climbing",
        "3 levels, climbing",
        "3 levels, ladder",
    ]
    x = jnp.zeros(SHAPE)
    shapes = {
        name: jax.tree.map(
            jnp.shape, jax.eval_shape(vae.init, jax.random.key(0), x)["decoder"]
        )
        for name, vae in vaes.items()
    }
    assert shapes["3 levels, climbing"] == shapes["3 levels, ladder"]
    assert shapes["2 levels, climbing"] == shapes["3 levels, ladder"][:2]
    assert shapes["1 level"] == shapes["3 levels, ladder"][:1]


def test_beta_rises_only_in_the_warm_up():
    vae = hierarchies.make_models(CONFIG, SHAPE)["1 level"]
    steps = np.array([0, 5, 10, 30])
    for name, expected in {"plain": [1, 1, 1, 1], "warm-up": [0, 0.5, 1, 1]}.items():
        setting = hierarchies.SETTINGS[name]
        recipe = hierarchies.recipe(vae, 1e-3, 40, 10, setting)
        beta = [recipe.schedules["beta"](step) for step in steps]
        np.testing.assert_allclose(beta, expected, atol=1e-6, err_msg=name)


def test_levels_count_from_the_mean_of_their_kl():
    kl = np.array([[3.0, 0.2, 0.05], [3.0, 0.01, 0.0], [np.nan, 1.0, 1.0]])
    in_use = averages.count_above(kl, hierarchies.USED)
    np.testing.assert_array_equal(in_use, [2, 1, np.nan])
    first, *_ = hierarchies.over_levels(kl)
    assert first["mean"] == 3.0 and first["num_diverged"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latent-sizes", "4"], "give two positive integers or more"),
        (["--hidden-sizes", "8", "6"], "there are 3 latent sizes; give as many"),
    ],
)
def test_wrong_sizes_are_refused(tmp_path, capsys, options, message):
    npz()(tmp_path)
    where = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*where, *options], hierarchies) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_ends_with_the_kl_of_each_level(tmp_path):
    npz()(tmp_path)
    options = ["--data", tmp_path / "data.npz", "--out", tmp_path / "run"]
    options += ["--epochs", 2, "--warm-up-epochs", 1, "--batch-size", 50]
    options += ["--latent-sizes", 3, 2, "--hidden-sizes", 8, 6, "--num-seeds", 2]
    options += ["--num-samples", 2]
    done = execute(*options, module="experiments.hierarchies")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["test"]) == [
        f"{model}, {setting}"
        for model in ("1 level", "2 levels, climbing", "2 levels, ladder")
        for setting in ("plain", "warm-up")
    ]
    for name, numbers in summary["test"].items():
        per_level = [level["mean"] for level in numbers["kl_per_level"]]
        assert len(per_level) == len(numbers["active_per_level"]) == int(name[0])
        # Estimates of a climbing posterior from few draws have heavy tails.
        if "climbing" not in name:
            np.testing.assert_allclose(sum(per_level), numbers["kl"]["mean"], atol=0.1)
    assert summary["test"]["1 level, plain"]["minus_one_level"]["nll"]["mean"] == 0
    for figure in ("kl_per_level", "kl_over_training"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").stat().st_size > 1000
