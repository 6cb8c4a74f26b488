"""Strokes measured where their width and slant are known, and the program that finds
them among the latents.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import SMALL, npz, status_of

import vaejax
from experiments import digit_factors
from experiments.judges import strokes


def stroke(width: float, degrees: float) -> np.ndarray:
    """A stroke of that width, 20 pixels high, drawn with gray edges on 28 x 28 pixels;
    the angle is to the right.
    """
    finer = 8
    rows, columns = (np.mgrid[: 28 * finer, : 28 * finer] + 0.5) / finer - 14
    # Across the stroke: rows count downwards, so that it leans to the right where
    # columns fall as rows rise.
    distance = (columns + np.tan(np.radians(degrees)) * rows) * np.cos(
        np.radians(degrees)
    )
    ink = (np.abs(distance) < width / 2) & (np.abs(rows) < 10)
    return ink.reshape(28, finer, 28, finer).mean(axis=(1, 3))


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_thickness_of_a_stroke_is_its_width(width, degrees):
    # The ends of a stroke are nearer to an edge than its middle: the mean over it is
    # below its width.
    np.testing.assert_allclose(
        strokes.thickness(stroke(width, degrees)[None])[0], width, rtol=0.15
    )


@pytest.mark.parametrize("degrees", [-40, -10, 0, 25])
def test_slant_of_a_stroke_is_its_angle_to_the_right(degrees):
    np.testing.assert_allclose(
        strokes.slant(stroke(3, degrees)[None])[0], degrees, atol=2
    )


def test_without_ink_there_is_nothing_to_measure():
    nothing = np.zeros((1, 28, 28))
    assert np.isnan(strokes.thickness(nothing)) and np.isnan(strokes.slant(nothing))


def test_ink_in_one_row_has_no_slant_whatever_its_levels():
    images = np.zeros((2, 28, 28))
    images[0, 17, 3:20] = np.random.default_rng(0).random(17)
    images[1, 9, 4] = 0.3
    assert np.all(np.isnan(strokes.slant(images)))


def test_images_of_booleans_and_half_precision_are_measured_alike():
    image = stroke(3, 25)[None]
    for measure in (strokes.slant, strokes.thickness):
        half = measure(image.astype(np.float16))
        np.testing.assert_allclose(half, measure(image), atol=0.05)
        np.testing.assert_array_equal(
            measure(image > 0.5), measure((image > 0.5).astype(np.float64))
        )


def test_the_direction_of_a_factor_adds_one_unit_of_it():
    generator = np.random.default_rng(0)
    codes, weights = generator.normal(size=(500, 4)), np.array([1.0, -2.0, 0.0, 0.5])
    values = 3 + codes @ weights
    values[:20] = np.nan
    mean, direction, explained, quantiles = digit_factors.regress(codes, values)
    np.testing.assert_allclose(mean, codes[20:].mean(axis=0))
    np.testing.assert_allclose(direction @ weights, 1)
    np.testing.assert_allclose(direction, weights / (weights @ weights), atol=1e-9)
    np.testing.assert_allclose(explained, 1)
    known = values[20:] - values[20:].mean()
    np.testing.assert_allclose(quantiles, np.quantile(known, digit_factors.MASSES))


def wider_by_a_latent() -> vaejax.VAE:
    """Decodes strokes as wide as the second latent says, slanted by the first; encodes
    a stroke to both of them.
    """

    def decode(params, z):
        del params
        rows, columns = jnp.asarray(np.mgrid[:28, :28] - 13.5, jnp.float32)
        distance = columns + jnp.tan(jnp.radians(20 * z[0])) * rows
        logits = 4 * ((3 + z[1]) / 2 - jnp.abs(distance))
        return vaejax.Bernoulli(jnp.where(jnp.abs(rows) > 10, -1e3, logits))

    def encode(params, x):
        return vaejax.Normal(x[0, :2], jnp.full(2, -4.0))

    prior = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
    return vaejax.VAE(lambda key, x: {}, encode, lambda params: prior, decode)


def test_latents_that_are_the_factors_are_found():
    z = np.random.default_rng(1).normal(size=(400, 2))
    xs = np.zeros((400, 28, 28), np.float32)
    xs[:, 0, :2] = z
    state = vaejax.TrainState({}, (), jax.random.key(0), jnp.int32(0))
    factors = {"thickness": 3 + z[:, 1], "slant": 20 * z[:, 0]}
    found = digit_factors.look(wider_by_a_latent(), state, jnp.asarray(xs), factors)
    np.testing.assert_allclose(np.diag(found["correlations"][::-1]), 1, atol=1e-6)
    for name, scale in {"thickness": 1, "slant": 20}.items():
        numbers = found["numbers"][name]
        assert numbers["second largest |correlation|"] < 0.15
        np.testing.assert_allclose(numbers["R² of the whole code"], 1, atol=1e-5)
        # From the 2 % to the 98 % quantile of a standard Normal distribution.
        np.testing.assert_allclose(
            numbers["range over the data"], 4.1 * scale, rtol=0.1
        )
        for what in ("best latent", "direction"):
            np.testing.assert_allclose(
                numbers[f"range decoded, {what}"], 4.1 * scale, rtol=0.15
            )
        assert numbers["range decoded, median of the others"] < 0.4 * scale
        # Not its span alone: what is decoded has the factor that the quantile stands
        # for, to what thickness is told by.
        levels = np.quantile(factors[name], digit_factors.MASSES)
        np.testing.assert_allclose(
            found["measured"][name]["direction"].mean(axis=0),
            levels,
            rtol=0.15,
            atol=0.2 * scale,
        )


def written(num: int) -> np.ndarray:
    generator = np.random.default_rng(num)
    factors = zip(
        generator.uniform(2, 5, num), generator.uniform(-30, 30, num), strict=True
    )
    return np.uint8([255 * stroke(width, degrees) for width, degrees in factors])


@pytest.mark.slow
def test_the_program_writes_its_numbers_figures_and_animations(tmp_path):
    np.savez(tmp_path / "data.npz", train_images=written(100), test_images=written(30))
    data, out = str(tmp_path / "data.npz"), tmp_path / "run"
    assert (
        status_of(
            [*SMALL[:-2], "--data", data, "--out", str(out), "--num-seeds", "2"],
            digit_factors,
        )
        == 0
    )
    numbers = json.loads((out / "summary.json").read_text())["test"]
    assert set(numbers) >= {
        "thickness, R² of the whole code",
        "slant, range decoded, direction",
    }
    assert all(
        np.isfinite(number["mean"]) and number["num_seeds"] == 2
        for number in numbers.values()
    )
    names = {"correlations"} | {
        f"{f}_{w}"
        for f in digit_factors.FACTORS
        for w in ("traversal", "direction", "measured")
    }
    assert {path.stem for path in (out / "figures").glob("*.png")} >= names
    assert {path.name for path in (out / "animations").iterdir()} == {
        "thickness.gif",
        "slant.gif",
    }


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (npz(), "has no strokes whose thickness varies"),
        (
            npz(
                train_images=np.zeros((100, 4, 4, 3), np.uint8),
                test_images=np.zeros((20, 4, 4, 3), np.uint8),
            ),
            "strokes need gray ones",
        ),
    ],
)
def test_images_without_strokes_are_refused(write, message, tmp_path, capsys):
    write(tmp_path)
    assert (
        status_of(
            [
                *SMALL[:-2],
                "--data",
                str(tmp_path / "data.npz"),
                "--out",
                str(tmp_path / "run"),
            ],
            digit_factors,
        )
        == 2
    )
    assert message in capsys.readouterr().err
