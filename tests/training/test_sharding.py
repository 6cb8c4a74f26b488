"""One device and eight: the same noise, the same losses, and checkpoints that move
between them.
"""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support.programs import EIGHT_DEVICES, ROOT

import vaejax
from experiments import mnist
from vaejax import checkpoints


def test_a_mesh_has_the_devices_asked_for():
    mesh = vaejax.training.make_mesh()
    assert mesh.size == jax.device_count() and mesh.axis_names == ("batch",)
    with pytest.raises(
        ValueError, match=r"num_devices is 99 and there are \d+; give fewer"
    ):
        vaejax.training.make_mesh(num_devices=99)
    with pytest.raises(ValueError, match="num_devices is 0"):
        vaejax.training.make_mesh(num_devices=0)


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory) -> Path:
    """Checkpoints written on eight devices, after the script's own checks."""
    path = tmp_path_factory.mktemp("eight")
    script = [
        sys.executable,
        str(ROOT / "tests" / "support" / "eight_devices.py"),
        str(path),
    ]
    result = subprocess.run(
        script, env=EIGHT_DEVICES, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0 and "the same" in result.stdout, result.stderr[-3000:]
    return path


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.xdist_group("eight devices")
@pytest.mark.parametrize("name", ["eight", "sharded"])
def test_a_checkpoint_of_eight_devices_restores_on_one(checkpoint_folder, name):
    experiment = mnist.make_experiment(
        mnist.Config(epochs=1, hidden_size=32, latent_size=8)
    )
    recipe = experiment.recipe(experiment.hyperparameters)
    like = vaejax.init_train_state(
        experiment.vae, recipe.optimizer, jax.random.key(9), experiment.example
    )
    restored = checkpoints.restore(checkpoint_folder / name, like)
    one = checkpoints.restore(checkpoint_folder / "one", like)
    assert restored.step == 100
    for a, b in zip(*map(jax.tree.leaves, (restored.params, one.params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
