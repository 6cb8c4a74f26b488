"""The program that compares priors, on small data."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of

from experiments import vampprior


@pytest.mark.slow
@pytest.mark.program
def test_the_program_compares_three_priors(tmp_path):
    npz()(tmp_path)
    out = tmp_path / "run"
    arguments = ["--data", str(tmp_path / "data.npz"), "--out", str(out)]
    arguments += ["--num-components", "3", "--num-seeds", "2"]
    arguments += ["--constant-learning-rate", "--normalize-gradients"]
    assert status_of([*SMALL, *arguments], vampprior) == 0
    summary = json.loads((out / "summary.json").read_text())
    names = {"N(0, I)", "mixture", "VampPrior"}
    assert summary["test"].keys() == names
    for name in names:
        assert summary["test"][name]["nll"]["num_seeds"] == 2
    for name, difference in summary["difference"].items():
        means = [summary["test"][each]["nll"]["mean"] for each in (name, "N(0, I)")]
        np.testing.assert_allclose(
            difference["nll"]["mean"], means[0] - means[1], rtol=1e-3, atol=1e-4
        )
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert {"learning_curves", "samples", "components"} <= drawn


def test_gradients_are_normalized_by_array():
    transformation = vampprior.normalize_gradients()
    gradients = {"a": jnp.array([3.0, -4.0]), "b": jnp.zeros(2)}
    updates, _ = transformation.update(gradients, transformation.init(gradients))
    np.testing.assert_allclose(updates["a"], [0.6, -0.8], rtol=1e-6)
    assert np.all(updates["b"] == 0)
    assert jax.tree.structure(updates) == jax.tree.structure(gradients)
