"""How collapse is trained against, and the programs on collapse and on bounds."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import SMALL, execute, npz, status_of, users_settings

import vaejax
from experiments import bounds, collapse
from experiments.harness.members import Members

NUM_STEPS = 40
VAE = vaejax.gaussian_vae(
    latent_size=3, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
)
XS = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8))


def recipe_of(name):
    return collapse.recipe(VAE, 1e-2, NUM_STEPS, collapse.CURES[name]._asdict())


def test_beta_and_target_follow_their_cure():
    steps = np.array([0, 4, 10, 19, 20, 39])
    expected = {
        "plain": [1, 1, 1, 1, 1, 1],
        "warm-up": [0, 0.2, 0.5, 0.95, 1, 1],
        "cyclical": [0, 0.8, 0, 1, 0, 1],
        "capacity": [0, 0, 0, 0, 0, 0],
    }
    for name, values in expected.items():
        schedules = recipe_of(name).schedules
        np.testing.assert_allclose(
            [schedules["beta"](step) for step in steps], values, atol=1e-6, err_msg=name
        )
        target = [schedules["target"](step) for step in steps]
        final = collapse.CURES[name].target
        np.testing.assert_allclose(target, final * np.minimum(steps / 20, 1), atol=1e-5)


@pytest.mark.slow
def test_the_losses_are_those_of_the_papers():
    params = VAE.init(jax.random.key(0), jnp.zeros((4, 4)))
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    losses = {}
    for name in ("plain", "free bits", "capacity"):
        schedules = {
            "beta": collapse.CURES[name].beta,
            "target": collapse.CURES[name].target,
        }
        losses[name], terms = recipe_of(name).loss_fn(
            params, jax.random.key(1), XS, **schedules
        )
    reconstruction = -terms.log_likelihood
    np.testing.assert_allclose(losses["plain"], reconstruction + terms.kl, rtol=1e-5)
    np.testing.assert_allclose(
        losses["capacity"], reconstruction + 10 * abs(terms.kl - 25), rtol=1e-5
    )
    np.testing.assert_allclose(
        losses["free bits"],
        reconstruction + np.maximum(terms.kl_terms, 0.1).sum(),
        rtol=1e-5,
    )


def changes(name, num_steps):
    """Return, for each step, whether encoder and decoder change."""
    recipe = recipe_of(name)
    params = VAE.init(jax.random.key(0), jnp.zeros((4, 4)))
    found, opt_state = [], recipe.optimizer.init(params)
    gradient = jax.tree.map(jnp.ones_like, params)
    update = jax.jit(recipe.optimizer.update)
    for _ in range(num_steps):
        updates, opt_state = update(gradient, opt_state)
        moved = {
            part: any(np.any(leaf != 0) for leaf in jax.tree.leaves(updates[part]))
            for part in updates
        }
        found.append((moved["encoder"], moved["decoder"]))
    return np.array(found)


def test_the_decoder_waits_for_an_aggressive_encoder_in_the_first_half():
    with users_settings():
        found, plain = changes("aggressive encoder", 30), changes("plain", 10)
    assert found[:, 0].all() and plain.all()
    np.testing.assert_array_equal(
        found[:, 1], [step % 5 == 0 or step >= 20 for step in range(30)]
    )


def test_what_counts_as_carrying_is_well_above_every_floor():
    assert all(
        1.5 * cure.minimum < collapse.CARRIES for cure in collapse.CURES.values()
    )


def test_members_of_named_settings():
    members = Members(
        3, 2, named={name: cure._asdict() for name, cure in collapse.CURES.items()}
    )
    assert members.num == 12 and members.name(3) == "warm-up, seed 4"
    np.testing.assert_allclose(members.hyperparameters["period"], [1] * 10 + [5] * 2)
    assert members.describe().startswith("6 settings")


def test_latent_sizes_must_differ(tmp_path, capsys):
    npz()(tmp_path)
    options = [
        "--data",
        str(tmp_path / "data.npz"),
        "--out",
        str(tmp_path / "run"),
        "--latent-sizes",
        "2",
        "2",
    ]
    assert status_of(options, collapse) == 2
    assert "different positive integers" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_ends_with_a_table_and_figures_and_resumes(tmp_path):
    npz()(tmp_path)
    options = [
        "--data",
        tmp_path / "data.npz",
        "--out",
        tmp_path / "run",
        "--epochs",
        2,
        "--hidden-size",
        8,
    ]
    options += [
        "--batch-size",
        50,
        "--num-samples",
        2,
        "--num-seeds",
        2,
        "--latent-sizes",
        2,
        3,
    ]
    done = execute(*options, module="experiments.collapse")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["test"]) == ["2 latents", "3 latents"]
    assert all(
        list(cures) == list(collapse.CURES) for cures in summary["test"].values()
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "3 latents" / "metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    assert np.shape(rows[0]["train"]["kl_terms"]) == (12, 3)
    for figure in ("active_units", "nll", "kl_per_dimension"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").exists()
    again = execute(
        "--resume", "--out", tmp_path / "run", module="experiments.collapse"
    )
    assert again.returncode == 0, again.stderr
    assert (
        json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
        == summary["test"]
    )


@pytest.mark.slow
def test_the_bounds_of_a_trained_model_are_in_order(tmp_path):
    npz()(tmp_path)
    options = [*SMALL, "--data", tmp_path / "data.npz", "--out", tmp_path / "run"]
    options += ["--num-examples", 10, "--num-chains", 4, "--num-temperatures", 50]
    done = execute(*options, module="experiments.bounds")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    test = summary["test"]
    for number in list(summary["aggregate"].values())[:4]:
        assert number["lower"]["mean"] < number["upper"]["mean"] + 0.01
    parts = summary["aggregate"]
    np.testing.assert_allclose(
        parts["kl"]["mean"],
        parts["mutual_information"]["mean"] + parts["marginal_kl"]["mean"],
        rtol=1e-4,
    )
    missing = parts["mutual_information"]["upper"]["mean"]
    missing -= parts["mutual_information"]["lower"]["mean"]
    assert summary["aggregate_is_saturated"] == [missing > 0.1]
    below, middle, above = (
        test[name]["mean"]
        for name in ("ELBO", "IWAE, 10 samples", "IWAE, 5,000 samples")
    )
    assert below < middle < above + 0.01
    np.testing.assert_allclose(
        test["ELBO"]["mean"]
        + test["approximation gap"]["mean"]
        + test["amortization gap"]["mean"],
        test["annealed importance sampling"]["mean"],
        atol=0.2,
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(row["diagnostics"]["kl_to_posterior"][0] > -0.1 for row in rows)


def test_bounds_need_as_many_test_examples(tmp_path, capsys):
    npz()(tmp_path)
    options = [
        "--data",
        str(tmp_path / "data.npz"),
        "--out",
        str(tmp_path / "run"),
        "--num-examples",
        "21",
    ]
    assert status_of([*options, *SMALL], bounds) == 2
    assert "no more than the 20 test ones" in capsys.readouterr().err
