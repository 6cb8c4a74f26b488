"""The programs on discrete latents: small runs, and the noise of gradients."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import npz, status_of

import vaejax
from experiments import discrete_latents, vq

IMAGES = np.random.default_rng(0).integers(0, 256, (120, 4, 4), np.uint8)
DATA = npz(train_images=IMAGES[:100], test_images=IMAGES[100:])


def summary_of(tmp_path, program, *options):
    DATA(tmp_path)
    small = ["--data", tmp_path / "data.npz", "--out", tmp_path / "run"]
    small += ["--epochs", 2, "--batch-size", 50, "--hidden-size", 8, "--num-seeds", 2]
    assert status_of([str(each) for each in (*small, *options)], program) == 0
    return json.loads((tmp_path / "run" / "summary.json").read_text())


@pytest.mark.slow
def test_the_ratio_is_that_of_known_gradients():
    """A gradient of N(3, 4) in each of five logits has the ratio 3 / 2."""

    def objective(vae, params, key, x):
        noise = jax.random.normal(key, (5,))
        return jnp.sum(vae.encode(params, x).logits * (3 + 2 * noise)), ()

    vae = vaejax.models.bernoulli_vae(
        latent_size=5, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (3,))
    )
    xs = jnp.ones((8, 3))
    params = vae.init(jax.random.key(0), xs[0])
    found = jax.jit(partial(discrete_latents.squared_ratio, objective, vae, 1000))(
        params, jax.random.key(1), xs
    )
    # The standard error is 1 % for 40,000 draws.
    np.testing.assert_allclose(found, 9 / 4, rtol=0.05)


@pytest.mark.program
@pytest.mark.slow
def test_every_way_of_training_has_its_bounds_and_noise(tmp_path):
    summary = summary_of(
        tmp_path, discrete_latents, "--latent-size", 3, "--num-samples", 2,
        "--num-draws", 50, "--num-examples", 2,
    )  # fmt: skip
    ways = {*discrete_latents.UNBIASED, *discrete_latents.RELAXED}
    assert set(summary["test"]) == ways
    for numbers in summary["test"].values():
        assert np.all(np.isfinite(numbers["negative_elbo"]["values"]))
        assert numbers["kl"]["mean"] <= 3 * np.log(2) + 1e-4
    assert set(summary["signal_to_noise"]) == set(discrete_latents.UNBIASED)
    assert (tmp_path / "run" / "figures" / "signal_to_noise.png").exists()


@pytest.mark.program
@pytest.mark.slow
def test_every_quantizer_has_its_code_lengths(tmp_path):
    summary = summary_of(
        tmp_path, vq, "--num-positions", 3, "--num-codes", 5, "--levels", 3, 2,
        "--prior-epochs", 2, "--prior-size", 4,
    )  # fmt: skip
    for name, num_codes in ((vq.REVIVED, 5), (vq.PLAIN, 5), (vq.FSQ, 6)):
        numbers = {key: value["mean"] for key, value in summary["test"][name].items()}
        uniform = 3 * np.log(num_codes)  # a mean in float32
        np.testing.assert_allclose(numbers["code_uniform"], uniform, rtol=1e-6)
        bound = numbers["reconstruction"] + numbers["code_fitted"]
        np.testing.assert_allclose(numbers["bound"], bound, rtol=1e-5)
        bits = numbers["bound"] / 16 / np.log(2)
        np.testing.assert_allclose(numbers["bits_per_dimension"], bits, rtol=1e-5)
        assert 1 <= numbers["perplexity"] <= num_codes


@pytest.mark.program
@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        (discrete_latents, ["--num-train-samples", 3], "even number"),
        (discrete_latents, ["--num-draws", 30], "multiple of 50"),
        (discrete_latents, ["--last-temperature", 1.5], "up to 1"),
        (vq, ["--decay", 1], "below 1"),
        (vq, ["--levels", 1], "2 levels"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, program, options, message):
    DATA(tmp_path)
    given = ["--data", tmp_path / "data.npz", "--out", tmp_path / "run", *options]
    assert status_of([str(each) for each in given], program) == 2
    assert message in capsys.readouterr().err
