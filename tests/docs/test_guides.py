"""The code of the guides and of the page on extending runs from top to bottom."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.documents import blocks, run_blocks
from support.programs import ENVIRONMENT, users_settings

import vaejax
from experiments.harness import programs, run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = sorted(
    path for path in (DOCS / "guide").glob("*.md") if blocks("python", path.read_text())
)
EXTENDING = (DOCS / "extending.md").read_text()


def _guide(path: Path):
    # Each of these compiles many models, or trains some.
    many = {"data", "estimators", "flax_example", "how_good", "latent_space", "models"}
    many |= {"coming_from_pytorch", "many_devices", "objectives", "recipes", "training"}
    marks = [pytest.mark.slow] if path.stem in many else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [_guide(path) for path in GUIDES])
def test_the_code_of_a_guide_runs(path):
    run_blocks(blocks("python", path.read_text()))


@pytest.mark.parametrize("path", [*GUIDES, DOCS / "extending.md"], ids=lambda p: p.stem)
def test_lines_of_code_are_short(path):
    for block in blocks("python", path.read_text()):
        assert max(map(len, block.splitlines())) <= 88


def test_recipes_are_short():
    _, *recipes = blocks("python", (DOCS / "guide" / "recipes.md").read_text())
    assert len(recipes) >= 13
    assert max(len(recipe.splitlines()) for recipe in recipes) <= 40


@pytest.mark.parametrize("path", sorted(DOCS.glob("*/*.md")), ids=lambda p: p.stem)
def test_every_path_that_is_named_exists(path):
    named = re.findall(
        r"`((?:vaejax|experiments|tests|docs)/[a-z_/]+\.(?:py|md|toml))`",
        path.read_text(),
    )
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.fixture(scope="module")
def extended() -> dict:
    """Return the namespace of the worked examples, after they have run."""
    return run_blocks(blocks("python", EXTENDING))


@pytest.mark.xdist_group("extending")
def test_every_way_to_extend_has_an_example(extended):
    ways = re.findall(r"\{ref}`[^`]*<(new-[a-z-]+)>`", EXTENDING)
    assert len(ways) == 7
    for way in ways:
        section = EXTENDING.partition(f"({way})=\n## ")[2].partition("\n## ")[0]
        assert blocks("python", section), way


@pytest.mark.xdist_group("extending")
def test_the_likelihood_integrates_to_one(extended):
    likelihood = extended["Exponential"](jnp.array([0.3]))
    xs = jnp.linspace(0, 40, 100_001)
    densities = jnp.exp(jax.vmap(lambda x: likelihood.log_prob(x[None]))(xs))
    assert jnp.trapezoid(densities, xs) == pytest.approx(1, abs=1e-3)


@pytest.mark.xdist_group("extending")
def test_the_likelihood_has_a_support(extended):
    support = vaejax.distributions.support_of(extended["Exponential"])
    found = support.contains(np.array([0.0, 2.5, -1.0, np.inf, np.nan]))
    assert found.tolist() == [True, True, False, False, False]


@pytest.mark.xdist_group("extending")
def test_the_prior_integrates_to_one(extended):
    prior = extended["NormalMixture"](
        jnp.array([0.0, 1.0]), jnp.array([[0.0], [2.0]]), jnp.array([[0.0], [-1.0]])
    )
    zs = jnp.linspace(-20, 20, 100_001)
    densities = jnp.exp(jax.vmap(lambda z: prior.log_prob(z[None]))(zs))
    assert jnp.trapezoid(densities, zs) == pytest.approx(1, abs=1e-3)


@pytest.mark.xdist_group("extending")
def test_the_flow_knows_its_density(extended):
    base = extended["vaejax"].Normal(jnp.zeros(1), jnp.zeros(1))
    flow = extended["BentNormal"](base, jnp.array(0.5))
    keys = jax.random.split(jax.random.key(0), 100_000)
    zs, log_probs = jax.vmap(flow.sample_and_log_prob)(keys)
    # E[1(a < z < b) / q(z)] is the length of the interval.
    inside = np.abs(np.asarray(zs)[:, 0]) < 2
    weights = np.where(inside, np.exp(-np.asarray(log_probs)), 0)
    error = weights.std() / np.sqrt(len(weights))
    assert weights.mean() == pytest.approx(4, abs=5 * error)


@pytest.mark.xdist_group("extending")
def test_the_data_set_is_read_by_its_entry(extended, tmp_path):
    path = tmp_path / "squares.npz"
    arrays = {
        split: np.zeros((num, *extended["squares"].shape), np.uint8)
        for split, num in extended["squares"].splits.items()
    }
    np.savez(path, **arrays)
    splits = extended["squares"].parse({path.name: path})
    assert splits["train"][0].shape == (3, 8, 8) and splits["test"][1] is None


@pytest.mark.xdist_group("extending")
@pytest.mark.slow
@pytest.mark.program
def test_the_experiment_trains(extended, tmp_path):
    program = programs.Program(
        "ring",
        extended["Config"],
        extended["make_experiment"],
        extended["analyze"],
        extended["ABOUT"],
        "A VAE of points on a ring.",
    )
    config = extended["Config"](out=tmp_path / "run", num_seeds=2)
    with users_settings():
        summary = run.run(program, config)
    assert summary["test"]["negative_elbo"]["num_seeds"] == 2
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.program
def test_the_experiment_runs_as_a_file_of_its_own(tmp_path):
    """As a reader copies it: nothing is imported by the blocks above it."""
    ring = next(code for code in blocks("python", EXTENDING) if "__main__" in code)
    path = tmp_path / "ring.py"
    path.write_text(ring)
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, path, "--epochs", "1", "--out", out],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "config.json").read_text())["data"] == "ring"
