"""Convolutions and calibrated decoders: what they measure, and the programs from end to
end.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import execute

import vaejax
from experiments import calibrated_decoders
from experiments.data import shapes

IMAGES = np.random.default_rng(0).integers(0, 256, (120, 6, 5), np.uint8)


def test_shapes_follow_from_the_seed_and_show_what_they_say():
    made, again = shapes.render(40, size=32), shapes.render(40, size=32)
    np.testing.assert_array_equal(made.images, again.images)
    assert made.images.shape == (40, 32, 32, 3) and made.images.dtype == np.uint8
    assert not np.array_equal(made.images, shapes.render(40, size=32, seed=1).images)
    x, y, radius = made.factors[:, 0], made.factors[:, 1], made.factors[:, 2]
    # The place of a disc is the mean place of the pixels that are not of the ground.
    axis = (np.arange(32) + 0.5) / 16 - 1
    for index in np.flatnonzero(made.kinds == shapes.KINDS.index("disc")):
        image = made.images[index].astype(int)
        differs = np.abs(image - image[0, 0]).sum(axis=-1) > 100
        rows, columns = np.nonzero(differs)
        assert (
            abs(axis[columns].mean() - x[index]) < 0.06
            and abs(axis[rows].mean() - y[index]) < 0.06
        )
        assert abs(differs.sum() / 256 - np.pi * radius[index] ** 2) < 0.15


def test_heads_squash_the_mean_alone():
    outputs = jnp.array([[2.0, -1.0], [-3.0, 0.5]])
    normal = calibrated_decoders.with_sigmoid_mean(vaejax.normal_head()).apply(
        (), outputs
    )
    np.testing.assert_allclose(normal.mean, jax.nn.sigmoid(outputs[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(normal.log_variance, outputs[:, 1], atol=1e-5)
    fixed = calibrated_decoders.with_sigmoid_mean(
        vaejax.distributions.fixed_variance_normal_head()
    ).apply((), outputs)
    np.testing.assert_allclose(fixed.mean, jax.nn.sigmoid(outputs), rtol=1e-6)


@pytest.mark.slow
def test_every_decoder_is_discretized_to_probabilities():
    config = calibrated_decoders.Config(hidden_size=4, latent_size=2)
    levels = jnp.arange(256) / 255
    for name, head in calibrated_decoders.decoders(IMAGES).items():
        vae = calibrated_decoders.make_vae(config, (1, 1), head)
        params = vae.init(jax.random.key(0), jnp.zeros((1, 1)))
        if name == calibrated_decoders.BERNOULLI:
            continue
        likelihood = calibrated_decoders.discretized(vae).decode(params, jnp.ones(2))
        total = jnp.sum(jnp.exp(jax.vmap(likelihood.log_prob)(levels[:, None, None])))
        np.testing.assert_allclose(total, 1, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_detail_is_what_reconstructions_explain():
    # A decoder that returns x has all the detail, one that returns a flat image none.
    xs = jnp.asarray(IMAGES[:20] / 255, jnp.float32)
    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (6, 5)),
        likelihood=vaejax.distributions.fixed_variance_normal_head(),
    )
    state = vaejax.TrainState(
        vae.init(jax.random.key(0), xs[0]),
        (),
        jax.random.key(1),
        jnp.zeros((), jnp.int32),
    )
    for image, detail, rmse in [
        (xs[0], 1, 0),
        (jnp.zeros((6, 5)), 0, jnp.sqrt(jnp.mean(jnp.square(xs[0])))),
    ]:
        fixed = vae._replace(
            decode=lambda params, z, image=image: vaejax.Normal(
                image + 0 * z[0], jnp.zeros(())
            )
        )
        found = jax.jit(partial(calibrated_decoders.measure, fixed, True))(
            state, jnp.stack([xs[0]] * 3)
        )
        np.testing.assert_allclose(found["detail"], detail, atol=1e-5)
        np.testing.assert_allclose(found["rmse"], rmse, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutional", "calibrated_decoders"])
def test_the_programs_end_with_a_table_and_figures(tmp_path, name):
    np.savez(tmp_path / "data.npz", train_images=IMAGES[:100], test_images=IMAGES[100:])
    options = [
        "--data",
        tmp_path / "data.npz",
        "--epochs",
        4,
        "--num-seeds",
        2,
        "--batch-size",
        20,
        "--num-samples",
        3,
    ]
    options += [
        "--hidden-size",
        8,
        "--latent-size",
        2,
        "--num-validation",
        20,
        "--patience",
        1,
    ]
    done = execute(*options, "--out", tmp_path / "run", module=f"experiments.{name}")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert all(
        np.isfinite(numbers["negative_elbo"]["mean"])
        for numbers in summary["test"].values()
    )
    for figure in ("reconstructions", "samples"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").exists()


@pytest.mark.program
def test_bits_need_eight_of_them(tmp_path):
    images = IMAGES.astype(np.float32) / 255
    np.savez(tmp_path / "data.npz", train_images=images[:100], test_images=images[100:])
    options = [
        "--data",
        tmp_path / "data.npz",
        "--batch-size",
        20,
        "--out",
        tmp_path / "run",
    ]
    done = execute(*options, module="experiments.calibrated_decoders")
    assert (
        done.returncode == 2
        and "give uint8" in done.stderr
        and not (tmp_path / "run").exists()
    )
