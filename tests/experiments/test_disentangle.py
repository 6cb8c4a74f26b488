"""Rendered shapes and their factors, the paired comparison, and the program on a small
grid.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import status_of, users_settings

import vaejax
from experiments import disentangle
from experiments.data import factor_data, sprites
from experiments.judges import factor_scores
from vaejax.metrics import random_forest_importances

GRID = sprites.COARSE
RENDER = jax.jit(jax.vmap(partial(sprites.render, GRID)))


def image(shape, scale, turn, column, row):
    return np.asarray(RENDER(np.array([[shape, scale, turn, column, row]])))[0]


def test_the_grid_has_every_combination_once():
    factors = GRID.factors()
    assert (
        factors.shape == (51_840, 5)
        and GRID.num == 51_840
        and sprites.FULL.num == 737_280
    )
    assert len(np.unique(factors, axis=0)) == GRID.num
    np.testing.assert_array_equal(factors.max(axis=0) + 1, GRID.sizes)
    np.testing.assert_array_equal(factors[:3, -1], [0, 1, 2])
    drawn = GRID.draw(100, seed=3)
    np.testing.assert_array_equal(drawn, GRID.draw(100, seed=3))
    assert len(np.unique(drawn, axis=0)) == 100 and not np.array_equal(
        drawn, GRID.draw(100, seed=4)
    )


def test_areas_are_those_of_the_shapes():
    # On a fine raster; of the heart, the area that its equation encloses, 3.66 in its
    # own units.
    fine = sprites.Grid(GRID.sizes, 400)
    large = jax.vmap(partial(sprites.render, fine))(
        np.array([[shape, 5, 0, 6, 6] for shape in range(3)])
    )
    areas = np.asarray(large.mean(axis=(1, 2))) * 4 / sprites.LARGEST**2
    # The square is 123 pixels wide, to one pixel.
    np.testing.assert_allclose(areas, [1.4**2, np.pi * 0.55, 3.66 / 1.2**2], rtol=0.02)
    small = jax.vmap(partial(sprites.render, fine))(
        np.array([[shape, 0, 0, 6, 6] for shape in range(3)])
    )
    ratio = np.asarray(small.mean(axis=(1, 2)) / large.mean(axis=(1, 2)))
    np.testing.assert_allclose(
        ratio, (sprites.SMALLEST / sprites.LARGEST) ** 2, rtol=0.02
    )


def center(picture):
    """Of the white pixels: to the right and down, from -1 to 1."""
    axis = (np.arange(GRID.pixels) + 0.5) / GRID.pixels * 2 - 1
    mass = picture.sum()
    return (picture * axis).sum() / mass, (picture * axis[:, None]).sum() / mass


@pytest.mark.parametrize("column", [0, 5, 11])
@pytest.mark.parametrize("row", [0, 7, 11])
def test_the_places_are_where_the_factors_say(column, row):
    across, down = center(image(1, 5, 0, column, row))
    expected = sprites.FARTHEST * (2 * np.array([column, row]) / 11 - 1)
    np.testing.assert_allclose([across, down], expected, atol=0.03)


def test_nothing_is_cut_off_and_pixels_are_black_or_white():
    factors = np.array(
        [
            [shape, 5, turn, x, y]
            for shape in range(3)
            for turn in range(20)
            for x in (0, 11)
            for y in (0, 11)
        ]
    )
    # Finer than the grid's own raster, whose outermost pixels a large heart may touch.
    fine = sprites.Grid(GRID.sizes, 200)
    pictures = np.asarray(jax.jit(jax.vmap(partial(sprites.render, fine)))(factors))
    assert set(np.unique(pictures)) == {0.0, 1.0}
    for edge in (
        pictures[:, 0],
        pictures[:, -1],
        pictures[:, :, 0],
        pictures[:, :, -1],
    ):
        assert not edge.any()


def test_symmetries_are_those_that_are_told():
    # Of 20 orientations, by a place where the raster keeps the symmetry: the middle of
    # an even number of pixels.
    odd = sprites.Grid((3, 6, 20, 3, 3), 32)
    pictures = np.asarray(
        jax.vmap(partial(sprites.render, odd))(
            np.array([[s, 5, t, 1, 1] for s in range(3) for t in range(20)])
        )
    )
    pictures = pictures.reshape(3, 20, -1)
    distinct = [len(np.unique(pictures[shape], axis=0)) for shape in range(3)]
    assert distinct[2] == 20 and 5 <= distinct[0] <= 8 and 10 <= distinct[1] <= 14
    np.testing.assert_array_equal(pictures[1, 0], pictures[1, 10])
    # A quarter of a turn, counter-clockwise.
    np.testing.assert_array_equal(
        np.rot90(pictures[2, 0].reshape(32, 32)), pictures[2, 5].reshape(32, 32)
    )


def test_the_forest_finds_the_dimension_that_decides():
    generator = np.random.default_rng(0)
    codes, factor = generator.normal(size=(600, 4)), generator.integers(0, 4, 600)
    codes[:, 2] = factor + 0.1 * generator.normal(size=600)
    importances, informativeness = random_forest_importances(
        jax.random.key(0), codes[:400], factor[:400]
    )
    assert importances[2] > 0.98 and np.isclose(importances.sum(), 1)
    assert informativeness(codes[400:], factor[400:]) > 0.97
    again, _ = random_forest_importances(jax.random.key(0), codes[:400], factor[:400])
    np.testing.assert_array_equal(importances, again)


def test_a_code_that_is_its_factors_scores_best():
    factors = sprites.Grid((3, 4, 5, 4, 4)).draw(900, seed=0).astype(int)
    codes = np.concatenate(
        [factors, np.zeros((900, 1))], axis=1
    ) + 1e-3 * np.random.default_rng(0).normal(size=(900, 6))
    perfect = factor_scores.score(jax.random.key(0), codes, factors)
    noise = factor_scores.score(
        jax.random.key(0), np.random.default_rng(1).normal(size=(900, 6)), factors
    )
    assert set(perfect) == set(factor_scores.NAMES)
    for name in (
        "mig",
        "disentanglement",
        "completeness",
        "informativeness",
        "factor_vae",
        "beta_vae",
        "modularity",
    ):
        assert perfect[name] > 0.9, name
    for name in (
        "mig",
        "disentanglement",
        "completeness",
        "sap",
        "factor_vae",
        "beta_vae",
    ):
        assert noise[name] < 0.45 * perfect[name], name


def test_the_comparison_is_paired_and_corrected():
    reference = np.array([0.1, 0.5, 0.3, 0.2])
    found = factor_scores.compare(
        {"more": reference + [0.1, 0.12, 0.11, 0.09], "equal": reference}, reference
    )
    more = found["more"]
    np.testing.assert_allclose(
        [more["mean"], more["std"]], [0.105, np.std([0.1, 0.12, 0.11, 0.09], ddof=1)]
    )
    # Student's t with 3 degrees of freedom: t = mean / (std / 2).
    t = 0.105 / (more["std"] / 2)
    np.testing.assert_allclose(t, 16.27, rtol=1e-3)
    np.testing.assert_allclose(more["p"], 5.06e-4, rtol=2e-2)
    np.testing.assert_allclose(more["p_corrected"], 2 * more["p"])
    assert found["equal"]["p"] is None and found["equal"]["mean"] == 0
    assert "+0.105" in factor_scores.statement(
        found
    ) and "untested" in factor_scores.statement(found)
    lost = factor_scores.compare(
        {"one diverged": np.array([0.2, np.nan, 0.4, 0.3])}, reference
    )["one diverged"]
    assert lost["num_seeds"] == 3 and lost["p"] is None


@pytest.mark.slow
@pytest.mark.parametrize("method", disentangle.STRENGTHS)
def test_every_method_has_a_finite_loss_that_its_strength_changes(method):
    vae = vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.MLP((8,)),
        decoder=vaejax.MLP((8,), (4, 4)),
    )
    if method == "FactorVAE":
        vae = vaejax.objectives.with_discriminator(vae, disentangle.DISCRIMINATOR)
    xs = jax.random.bernoulli(jax.random.key(0), 0.3, (8, 4, 4)).astype(jnp.float32)
    params = jax.tree.map(lambda leaf: 3 * leaf, vae.init(jax.random.key(1), xs[0]))
    losses = []
    with users_settings():
        for strength in (1.0, 3.0):
            recipe = disentangle.recipe(
                method, strength, vae, lambda batch: batch, 1000, 10, 1e-3
            )
            schedules = {
                name: schedule(jnp.int32(9))
                for name, schedule in recipe.schedules.items()
            }
            losses.append(
                float(recipe.loss_fn(params, jax.random.key(2), xs, **schedules)[0])
            )
    assert np.isfinite(losses).all() and losses[0] != losses[1]


@pytest.mark.slow
def test_the_program_scores_every_arm_and_tests_the_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(sprites, "COARSE", sprites.Grid((3, 2, 4, 4, 4), 16))
    monkeypatch.setattr(factor_scores, "NUM_VOTES", 200)
    monkeypatch.setattr(factor_scores, "NUM_TEST_VOTES", 100)
    out = tmp_path / "run"
    arguments = [
        "--epochs",
        "1",
        "--hidden-size",
        "8",
        "--num-seeds",
        "2",
        "--methods",
        "beta-TCVAE",
        "--out",
        str(out),
    ]
    assert status_of(arguments, disentangle) == 0
    summary = json.loads((out / "summary.json").read_text())
    arms = {"plain", "beta-TCVAE 2", "beta-TCVAE 4", "beta-TCVAE 8"}
    assert set(summary["test"]) == arms and set(
        summary["mig_of_beta_tcvae_minus_plain"]
    ) == arms - {"plain"}
    assert all(set(row) == set(disentangle.DIGITS) for row in summary["test"].values())
    names = {"scores", "mig", "traversals_plain", "traversals_beta_tcvae"}
    assert {path.stem for path in (out / "figures").glob("*.png")} >= names


@pytest.mark.slow
def test_a_set_of_ones_own_with_factors_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(factor_scores, "NUM_VOTES", 200)
    monkeypatch.setattr(factor_scores, "NUM_TEST_VOTES", 100)
    grid = sprites.Grid((3, 2, 4, 4, 4), 16)
    pictures = np.asarray(jax.vmap(partial(sprites.render, grid))(grid.factors()))
    # A factor that never varies, as the color of dSprites, is left out.
    labels = np.concatenate([np.zeros((grid.num, 1), np.uint8), grid.factors()], axis=1)
    np.savez(
        tmp_path / "data.npz",
        train_images=(255 * pictures).astype(np.uint8),
        train_labels=labels,
    )
    data = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    assert (
        status_of(
            ["--epochs", "1", "--hidden-size", "8", "--methods", "plain", *data],
            disentangle,
        )
        == 0
    )
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["data"]["loaded"]["factors"] == 5 and set(summary["test"]) == {
        "plain"
    }


@pytest.mark.slow
def test_what_is_loaded_is_what_would_be_rendered(tmp_path):
    grid = sprites.Grid((3, 2, 4, 4, 4), 16)
    rendered = factor_data.rendered(grid)
    pictures = np.asarray(rendered.as_images(rendered.train))
    np.savez(
        tmp_path / "data.npz",
        train_images=(255 * pictures).astype(np.uint8),
        train_labels=grid.factors(),
    )
    with users_settings():
        loaded = factor_data.loaded(disentangle.Config(data=str(tmp_path / "data.npz")))
    np.testing.assert_array_equal(loaded.as_images(loaded.train), pictures)
    np.testing.assert_array_equal(loaded.test, rendered.test)
    np.testing.assert_array_equal(loaded.factors, rendered.factors)
    np.testing.assert_array_equal(loaded.scored, rendered.scored)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "has no factors"),
        (["--data", "none/such.npz"], "--data:"),
        (["--protocol", "paper"], "--batch-size 64 --epochs 27"),
        (["--protocol", "paper", "--hidden-size", "8"], "has its own networks"),
        (
            ["--num-validation", "10", "--patience", "2"],
            "--num-validation and --compute-dtype",
        ),
        (["--methods", "other"], "methods"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, message, tmp_path, capsys):
    assert status_of([*arguments, "--out", str(tmp_path / "run")], disentangle) == 2
    assert message in capsys.readouterr().err
