"""Simulated cells whose log p(x) is known, genes one by one, and the program that
compares VAEs of counts with them.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.programs import status_of

from experiments import counts
from experiments.data import cells
from experiments.harness import averages
from experiments.judges import cell_codes, cell_study, independent_counts
from vaejax.distributions import Column, mixed_head
from vaejax.estimators import fit_independent_columns

WORLD = cells.make_world(5, 2, 3, missed=0.2)
CELLS = cells.draw_cells(WORLD, 400)


def test_cells_are_the_same_at_every_call_and_missed_counts_are_zero():
    again = cells.draw_cells(cells.make_world(5, 2, 3, missed=0.2), 400)
    for one, other in zip(CELLS, again, strict=True):
        np.testing.assert_array_equal(one, other)
    whole = cells.draw_cells(WORLD._replace(missed=0.0), 400).counts
    is_same = CELLS.counts == whole
    assert np.all(is_same | (CELLS.counts == 0))
    share = np.mean(~is_same[whole > 0])
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / np.sum(whole > 0))
    np.testing.assert_allclose(np.exp(WORLD.log_shares).sum(axis=-1), 1)


def test_the_log_probability_of_a_cell_sums_to_one(monkeypatch):
    """Two genes at a small depth, so that nearly all of the mass is on few counts."""
    monkeypatch.setattr(cells, "LOG_DEPTH", 0.0)
    monkeypatch.setattr(cells, "DEPTH_SPREAD", 0.5)
    world = cells.World(np.log(np.array([[[0.3, 0.7]], [[0.8, 0.2]]])), 0.2)
    grid = np.stack(np.meshgrid(*[np.arange(60)] * 2), axis=-1).reshape(-1, 2)
    none, depths = np.zeros(len(grid), int), np.full(len(grid), 1.5)
    truth = cells.truth(world, cells.Cells(np.float32(grid), none, none, depths))
    for nll in truth.nll.values():
        np.testing.assert_allclose(np.exp(-nll).sum(), 1, atol=1e-5)
    # There is one batch.
    np.testing.assert_allclose(truth.nll[True, False], truth.nll[True, True])


@pytest.mark.parametrize("has_depth", [False, True])
def test_the_log_probability_is_a_mean_over_what_is_not_given(has_depth):
    few = CELLS.where(slice(4))
    random = np.random.default_rng(0)
    drawn_depths = np.exp(random.normal(cells.LOG_DEPTH, cells.DEPTH_SPREAD, 100_000))
    r, truth = cells.CONCENTRATION, cells.truth(WORLD, few)
    for place, x in enumerate(few.counts):
        depths = few.depths[[place]] if has_depth else drawn_depths
        means = depths[:, None] * np.exp(WORLD.log_shares[:, :, None])
        mass = 0.8 * scipy.stats.nbinom.pmf(x, r, r / (r + means)) + 0.2 * (x == 0)
        of_batches = np.prod(mass, axis=-1).mean(axis=0)
        for has_batch in (False, True):
            drawn = of_batches[few.batches[place]] if has_batch else of_batches.mean(0)
            error = drawn.std() / np.sqrt(len(drawn))
            found = np.exp(-truth.nll[has_depth, has_batch][place])
            assert abs(found - drawn.mean()) < 4 * error + 1e-6 * drawn.mean()
            assert error < 0.05 * drawn.mean()


@pytest.mark.slow
def test_genes_with_one_library_size_are_independent_columns():
    x = np.concatenate([CELLS.counts, np.zeros((400, 1), np.float32)], axis=1)
    found = independent_counts.fit(x, np.full(len(x), np.log(7.0)))
    columns = [Column("count")] * 6
    alone = mixed_head(columns).apply((), fit_independent_columns(columns, x))
    expected = np.asarray(jax.vmap(alone.log_prob)(jnp.asarray(x)))
    log_probs = found.log_prob(x, np.full(len(x), np.log(7.0)))
    # The optimum of both, to what is left of the iterations.
    np.testing.assert_allclose(log_probs.mean(), expected.mean(), atol=1e-3)


def test_genes_given_the_library_size_are_found():
    random = np.random.default_rng(0)
    library = np.exp(random.normal(5, 1, 4000))
    shares, r = np.array([0.2, 0.5, 0.3]), np.array([0.5, 2.0, 1.0])
    rates = library[:, None] * shares * random.gamma(r, 1 / r, (4000, 3))
    found = independent_counts.fit(random.poisson(rates), np.log(library))
    # Five standard errors: of a mean of Gamma variables, and of their concentration.
    np.testing.assert_allclose(
        np.exp(found.log_shares), shares, rtol=5 * np.sqrt(2 / 4000)
    )
    np.testing.assert_allclose(found.log_concentrations, np.log(r), atol=0.15)


def test_differences_are_paired_by_example():
    random = np.random.default_rng(0)
    of_examples = 100 * random.normal(size=50)
    noise = random.normal(size=(3, 50))
    found = averages.paired(of_examples + noise, of_examples)
    np.testing.assert_allclose(found["mean"], noise.mean())
    np.testing.assert_allclose(found["std"], noise.mean(axis=1).std(ddof=1))
    error = noise.mean(axis=0).std(ddof=1) / np.sqrt(50)
    np.testing.assert_allclose(found["standard_error"], error)
    noise[1] = np.nan
    found = averages.paired(noise, 0 * of_examples)
    assert found["num_diverged"] == 1 and np.isfinite(found["standard_error"])


def test_codes_that_are_the_cluster_know_it_and_not_the_batch():
    random = np.random.default_rng(0)
    labels = cell_codes.Labels(
        random.integers(3, size=300), random.integers(2, size=300)
    )
    codes = 5.0 * np.eye(3)[labels.clusters] + 0.1 * random.normal(size=(300, 3))
    found = cell_codes.measure(cell_codes.Codes(codes, codes), labels, labels)
    assert found["k-means ari"] == found["mixture nmi"] == 1
    assert found["batch, linear"] < 0.65
    lost = cell_codes.measure(cell_codes.Codes(codes, codes * np.nan), labels, labels)
    assert np.isnan(list(lost.values())).all() and list(lost) == list(found)


def test_the_truth_is_better_than_independent_genes():
    study = cell_study.make_study("", cells.make_world(12, 2, 2), 800)
    found = cell_study.reference(study).as_dict(study)
    for numbers in found["independent"].values():
        above = numbers["above_truth"]
        assert above["mean"] > 3 * above["standard_error"]
    truth = [found["truth"][name]["nll"] for name in found["independent"]]
    assert truth == sorted(truth, reverse=True)


SMALL = ["--num-cells", "240", "--num-genes", "8", "--num-clusters", "2"]
SMALL += ["--num-batches", "2", "--epochs", "2", "--latent-size", "2"]
SMALL += ["--hidden-size", "4", "--batch-size", "60", "--num-samples", "2"]


@pytest.mark.slow
def test_the_program_ends_with_numbers_figures_and_a_verdict(tmp_path, capsys):
    out = tmp_path / "run"
    assert status_of([*SMALL, "--num-seeds", "2", "--out", str(out)], counts) == 0
    assert "independent columns" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["test"]) == set(counts.ARMS)
    assert set(summary["differences"]) == set(counts.PAIRS)
    given = summary["test"][counts.BATCH]
    best = summary["beside"]["all counts"]["truth"]["library size, batch"]["nll"]
    np.testing.assert_allclose(
        given["above_truth"]["mean"], given["nll"]["mean"] - best, rtol=1e-4
    )
    assert given["nll"]["num_seeds"] == 2
    assert {path.stem for path in (out / "figures").glob("*.png")} >= {
        "above_truth",
        "clusters",
        "batches",
        "negative_elbo",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "--data is mnist; give simulated"),
        (["--missed", "1"], "--missed is 1.0"),
        (["--num-batches", "1"], "--num-batches is 1"),
        (["--num-cells", "100"], "give at least 160"),
        (["--latent-size", "9"], "at most the number of genes, 8"),
    ],
)
def test_options_that_make_no_cells_are_refused(arguments, message, tmp_path, capsys):
    assert status_of([*SMALL, *arguments, "--out", str(tmp_path)], counts) == 2
    assert message in capsys.readouterr().err
