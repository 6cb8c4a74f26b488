"""Signal-to-noise ratios of known gradients, and the program that measures them."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import execute

from experiments import gradient_snr


def test_moments_are_those_of_the_gradient():
    """The gradient to b is N(3, 4) and that to mu N(-1, 1/4) in every dimension."""

    def objective(vae, params, key, x):
        first, second = (
            jax.random.normal(k, (gradient_snr.DIMENSIONS,))
            for k in jax.random.split(key)
        )
        return jnp.sum(
            params.offset * (3 + 2 * first) + params.mean * (-1 + second / 2)
        ), ()

    params, xs = (
        gradient_snr.make_params(jax.random.key(0)),
        jnp.zeros((16, gradient_snr.DIMENSIONS)),
    )
    found = jax.jit(partial(gradient_snr.moments, objective, 500))(
        params, jax.random.key(1), xs
    )
    squared_mean, variance = (np.asarray(part).mean(axis=(0, 2)) for part in found)
    # Standard errors of 160,000 draws: 2 * 3 * 2 / 400 of the first square, half as
    # much relative of the variances.
    np.testing.assert_allclose(squared_mean, [9, 1], atol=5 * 12 / 400)
    np.testing.assert_allclose(variance, [4, 0.25], rtol=5 * np.sqrt(2) / 400)


def test_ratios_take_the_mean_from_the_quiet_twin():
    shape = (2, 2, gradient_snr.DIMENSIONS)
    noisy = gradient_snr.GradientMoments(np.full(shape, -1.0), np.full(shape, 4.0))
    quiet = gradient_snr.GradientMoments(np.full(shape, 16.0), np.full(shape, 1.0))
    found = {"IWAE": noisy, "IWAE-DReG": quiet}
    np.testing.assert_allclose(gradient_snr.squared_ratios(found, "IWAE"), [4, -0.25])
    np.testing.assert_allclose(
        gradient_snr.squared_ratios(found, "IWAE-DReG"), [16, 16]
    )


def test_slopes_are_fitted_from_16_samples_on_with_their_error():
    counts = 2 ** np.arange(11)
    ratios = np.stack([3 * counts**-0.5 * np.exp(2 / counts), 0.1 * counts**0.5])
    ratios[:, :4] = 1e3
    found, errors = gradient_snr.slope(counts, ratios)
    np.testing.assert_allclose(found, [-0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(errors, 0, atol=1e-6)
    noise = np.random.default_rng(0).normal(0, 0.01, (2000, 11))
    found, errors = gradient_snr.slope(counts, counts**0.5 * np.exp(noise))
    np.testing.assert_allclose(
        np.sqrt(np.mean(np.square(errors))), found.std(), rtol=0.1
    )


@pytest.mark.program
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--max-samples", 128], "at least 256"),
        (["--max-samples", 300], "power of two"),
        (["--num-draws", 15], "multiple of 10"),
        (["--num-seeds", 0], "positive"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_told(tmp_path, option, message):
    done = execute(
        *option, "--out", tmp_path / "run", module="experiments.gradient_snr"
    )
    assert (
        done.returncode == 2
        and message in done.stderr
        and not (tmp_path / "run").exists()
    )


@pytest.mark.slow
def test_the_slopes_are_those_of_theory(tmp_path):
    options = [
        "--num-seeds",
        1,
        "--num-draws",
        100,
        "--max-samples",
        256,
        "--num-groups",
        2,
        "--num-examples",
        16,
    ]
    done = execute(
        *options, "--out", tmp_path / "run", module="experiments.gradient_snr"
    )
    assert done.returncode == 0, done.stderr
    slopes = json.loads((tmp_path / "run" / "summary.json").read_text())["slopes"]
    for part in ("encoder", "decoder"):
        for name, number in slopes[part].items():
            assert abs(number["mean"] - number["theory"]) < 0.05, (part, name)
    assert (tmp_path / "run" / "report.html").exists()
