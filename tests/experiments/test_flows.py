"""The program that compares posteriors by flows, on small data."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of

import vaejax
from experiments import flows
from vaejax.distributions import Flow, PlanarLayer, Reversal


@pytest.mark.slow
@pytest.mark.program
def test_the_program_compares_five_posteriors(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (120, 4, 4), np.uint8)
    npz(train_images=images[:100], test_images=images[100:])(tmp_path)
    out = tmp_path / "run"
    arguments = ["--data", str(tmp_path / "data.npz"), "--out", str(out)]
    arguments += ["--num-layers", "2", "--num-reflections", "1", "--flow-size", "3"]
    arguments += ["--num-seeds", "2", "--warm-up-epochs", "1"]
    arguments += ["--adamax", "--constant-learning-rate"]
    small = [*SMALL[:8], *SMALL[10:]]  # nothing is annealed
    assert status_of([*small, *arguments], flows) == 0
    summary = json.loads((out / "summary.json").read_text())
    names = [flows.DIAGONAL, "planar", "Sylvester", "RealNVP", "IAF"]
    assert list(summary["test"]) == names
    for numbers in summary["test"].values():
        gap, elbo, nll = (
            np.array(numbers[name]["values"])
            for name in ("gap", "negative_elbo", "nll")
        )
        np.testing.assert_allclose(gap, elbo - nll, atol=1e-5)
    assert list(summary["difference"]) == names[1:]
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert {"learning_curves", "gap", "posteriors"} <= drawn


def test_a_flow_moves_the_mean_of_its_base():
    base = vaejax.Normal(jnp.array([1.0, 2.0]), jnp.zeros(2))
    assert flows.moved_mean(None, base).tolist() == [1.0, 2.0]
    # tanh(0) leaves z where it is.
    still = PlanarLayer(jnp.ones(2), jnp.array([2.0, -1.0]), jnp.zeros(()))
    assert flows.moved_mean(None, Flow(base, (still, Reversal()))).tolist() == [2, 1]


def test_the_most_correlated_dimensions_are_found():
    noise = np.random.default_rng(0).normal(size=(2, 1000, 3))
    first, second, last = np.moveaxis(noise, -1, 0)
    draws = np.stack([first, second, last - first], axis=-1)
    *pair, correlation = flows.most_correlated(draws)
    assert pair == [0, 2]
    # 1 / sqrt(2), within four standard errors of 2,000 draws.
    np.testing.assert_allclose(correlation, np.sqrt(0.5), atol=4 * 0.5 / np.sqrt(2000))


def test_one_dimension_is_refused(tmp_path, capsys):
    where = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert status_of([*where, "--latent-size", "1"], flows) == 2
    assert "give at least 2" in capsys.readouterr().err
