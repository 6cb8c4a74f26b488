"""A run's folder read back, and the pictures of its latent space."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from support.programs import SMALL, images, status_of, users_settings

import vaejax
from experiments import gallery, mnist
from experiments.harness import Experiment, UsageError, load_run
from vaejax import checkpoints


def labeled(path):
    arrays = {}
    for part, num in (("train", 100), ("test", 20)):
        arrays |= {
            f"{part}_images": images(num, 4, 4),
            f"{part}_labels": np.arange(num) % 3,
        }
    np.savez(path / "data.npz", **arrays)


# The models are trained once, on one worker.
pytestmark = pytest.mark.xdist_group("gallery")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    labeled(path)
    arguments = [
        "--data",
        str(path / "data.npz"),
        "--out",
        str(path / "run"),
        "--num-seeds",
        "2",
    ]
    assert status_of([*SMALL, *arguments]) == 0
    return path


@pytest.mark.slow
def test_a_member_comes_back_as_it_was_saved(trained):
    with users_settings():
        members = [
            load_run.load_run(trained / "run", member=member) for member in (0, 1)
        ]
    both = jax.tree.map(
        lambda *leaves: np.stack(leaves), *[member.state.params for member in members]
    )
    manifest = json.loads((trained / "run/manifest.json").read_text())
    assert checkpoints.digest({"": both}) == manifest["params_sha256"]
    assert [member.description for member in members] == [
        "mnist, seed 0",
        "mnist, seed 1",
    ]
    np.testing.assert_array_equal(members[0].labels, np.arange(20) % 3)
    assert (
        members[0].experiment.test.shape == (20, 4, 4)
        and members[0].config.latent_size == 2
    )


@pytest.mark.slow
def test_numbers_and_pictures_are_those_of_the_model():
    vae = vaejax.gaussian_vae(
        latent_size=3, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
    )
    params = vae.init(jax.random.key(0), jnp.zeros((4, 4)))
    xs = jnp.asarray(images(40, 4, 4), jnp.float32)
    with users_settings():
        found = gallery.gallery(
            vae, params, jax.random.key(1), xs, xs[:30], np.arange(40) % 2
        )
        kl = jnp.mean(
            jax.vmap(lambda x: vaejax.kl_per_dimension(*_of(vae, params, x)))(xs),
            axis=0,
        )
    np.testing.assert_allclose(found.numbers["kl"], kl, rtol=1e-4)
    assert found.numbers["order"] == np.argsort(-kl).tolist()
    assert all(
        distance > 0
        for distance in found.numbers["distance_to_nearest_training_image"].values()
    )
    assert {*found.figures} == {
        "kl",
        "traversals",
        "temperatures",
        "neighbors",
        "ways",
        "plane",
        "attributes",
    }
    gif = Image.open(io.BytesIO(found.animations["traversals.gif"]))
    assert gif.n_frames == 2 * gallery.FRAMES - 2


def _of(vae, params, x):
    posterior = vae.encode(params, x)
    z, log_posterior = posterior.sample_and_log_prob(jax.random.key(0))
    return posterior, vae.prior(params), z, log_posterior


@pytest.mark.slow
def test_the_program_writes_beside_the_run(trained, capsys):
    with users_settings():
        numbers = gallery.write_gallery(gallery.Config(trained / "run", member=1))
    path = trained / "run/gallery"
    assert json.loads((path / "numbers.json").read_text()) == numbers
    assert (
        numbers["model"] == "mnist, seed 1"
        and (path / "traversals.gif").stat().st_size > 0
    )
    assert len(list((path / "figures").glob("*.png"))) == 7
    assert "traversals.gif" in capsys.readouterr().out


@pytest.mark.slow
def test_only_images_have_a_gallery(trained, monkeypatch):
    model = load_run.LoadedRun("mnist", mnist.Config(), None, None, "", None, None)
    tables = Experiment(*[None] * 9)._replace(test=np.zeros((10, 5)))
    monkeypatch.setattr(
        load_run, "load_run", lambda *_, **__: model._replace(experiment=tables)
    )
    with pytest.raises(
        UsageError, match=r"needs images, and the examples have shape \(5,\)"
    ):
        gallery.write_gallery(gallery.Config(trained / "run"))
