"""The program of mixed tables: its data, the methods beside the VAE, and a run."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.programs import status_of

from experiments import harness, mixed_tables as program
from experiments.data import real_tables
from experiments.judges import imputers, table_densities, table_scores
from vaejax.distributions import Column, MaskedEvent, mixed_head
from vaejax.estimators import fit_independent_columns

pytest.importorskip("sklearn", reason="the methods beside the VAE need scikit-learn")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("name", real_tables.TABLES)
def test_tables_are_read_and_families_stay_together(name):
    pytest.importorskip(real_tables.TABLES[name][0], reason=f"{name} is part of it")
    real = real_tables.load(name)
    table = real.read()
    assert table.mask.all() and table.values.shape == real.values.shape
    train, test = real_tables.split(real.groups)
    assert sorted([*train, *test]) == list(range(len(real.values)))
    assert not set(real.groups[train]) & set(real.groups[test])
    assert 0.2 <= len(test) / len(real.values) < 0.22


def test_randhie_has_one_row_for_each_run_of_equal_covariates():
    pytest.importorskip("statsmodels", reason="randhie is part of it")
    table = real_tables.load("randhie").read()
    kinds = {column.name: column.kind for column in table.schema.columns}
    assert kinds["visits"] == "count" and kinds["health"] == "ordinal"
    incentive = table.schema.columns[list(kinds).index("log_incentive")]
    assert (incentive.step, incentive.lower) == (0.1, 0)
    others = table.values[:, [j for j, name in enumerate(kinds) if name != "visits"]]
    assert len(table.values) == 5294
    # Rounding makes a few of them equal again.
    assert np.mean((others[1:] == others[:-1]).all(axis=1)) < 0.01


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for load in (lambda: real_tables.load("randhie"), imputers.check_installed):
        with pytest.raises(harness.UsageError, match=r"install the extra.*studies"):
            load()


def test_hidden_cells_of_a_smaller_share_are_among_those_of_a_larger():
    few, many = (real_tables.hidden((4000, 5), share) for share in (0.1, 0.5))
    assert not np.any(few & ~many)
    for cells, share in ((few, 0.1), (many, 0.5)):
        error = np.sqrt(share * (1 - share) / cells.size)
        assert abs(cells.mean() - share) < 4 * error


@pytest.mark.parametrize("missing", [("1.0",), ("0.1", "0.1")])
def test_shares_that_cannot_be_are_refused(missing, capsys, tmp_path):
    options = ["--missing", *missing, "--out", str(tmp_path / "run")]
    assert status_of(options, program) == 2
    assert "give different shares below 1" in capsys.readouterr().err


COLUMNS = [Column("real"), Column("binary"), Column("class", 3)]


def test_means_modes_and_neighbors_are_those_of_the_training_rows():
    values = np.array([[1.0, 1, 2], [2, 1, 2], [6, 0, 0]])
    train = MaskedEvent(values, np.ones((3, 3), bool))
    test = MaskedEvent(
        np.array([[0.0, 0, 0], [6, 0, 0]]),
        np.array([[False, False, False], [True, False, False]]),
    )
    made = imputers.imputers()
    found = imputers.impute(made[imputers.MEANS], COLUMNS, train, test)
    np.testing.assert_allclose(found, [[3, 1, 2], [6, 1, 2]])
    nearest = made["5 nearest neighbors"].set_params(n_neighbors=1)
    np.testing.assert_allclose(
        imputers.impute(nearest, COLUMNS, train, test)[1], [6, 0, 0]
    )


def test_the_iterative_imputer_finds_a_line():
    x = RANDOM.normal(size=300)
    values = np.stack([x, 3 * x - 1], axis=1)
    mask = np.ones((300, 2), bool)
    mask[:50, 1] = False
    columns = [Column("real"), Column("real")]
    rows = MaskedEvent(values, mask)
    imputer = imputers.imputers()[imputers.ITERATIVE]
    np.testing.assert_allclose(
        imputers.impute(imputer, columns, rows, rows), values, atol=0.05
    )


def steps_of(columns, values):
    alone = mixed_head(columns).apply((), fit_independent_columns(columns, values))
    return table_densities.steps_of(columns, alone, values)


def every_kind(num):
    kinds = [
        Column("real", shift=5.0, scale=2.0),
        Column("real", step=0.5, lower=-1.0),
        Column("positive"),
        Column("binary"),
        Column("class", 3),
        Column("ordinal", 4),
        Column("count", shift=0.7),
    ]
    cells = [
        RANDOM.normal(5, 2, num),
        np.maximum(np.rint(2 * RANDOM.normal(size=num)) / 2, -1),
        RANDOM.lognormal(size=num),
        RANDOM.integers(0, 2, num),
        RANDOM.integers(0, 3, num),
        RANDOM.integers(0, 4, num),
        RANDOM.poisson(1.5, num),
    ]
    return kinds, np.stack(cells, axis=1).astype(np.float32)


@pytest.mark.slow
def test_independent_normal_scores_are_the_independent_columns():
    columns, values = every_kind(400)
    steps = steps_of(columns, values)
    alone = mixed_head(columns).apply((), fit_independent_columns(columns, values))
    found = table_densities.log_probs(
        steps, lambda y: scipy.stats.norm.logpdf(y).sum(axis=1), RANDOM
    )
    expected = jax.jit(jax.vmap(alone.log_prob))(jnp.asarray(values))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Scores of what the columns were fitted to are standard Normal.
    scores = np.concatenate([steps.draw(RANDOM) for _ in range(20)])
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=0.15)


def test_of_continuous_columns_the_gaussian_is_scipys():
    values = RANDOM.multivariate_normal([1, 2], [[2, 1.2], [1.2, 1]], 500)
    columns = [Column("real"), Column("real")]
    steps = steps_of(columns, values.astype(np.float32))
    found = table_densities.log_probs(
        steps, table_densities.gaussian(steps, RANDOM), RANDOM
    )
    expected = scipy.stats.multivariate_normal(
        values.mean(axis=0), np.cov(values, rowvar=False)
    ).logpdf(values)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_of_binary_columns_the_probabilities_add_up_to_one(correlation):
    """P(1, 1) = 1/4 + asin(r) / (2 pi), Sheppard 1899, where both have P(1) = 1/2."""
    every = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    steps = steps_of([Column("binary"), Column("binary")], every)
    density = scipy.stats.multivariate_normal(
        [0, 0], [[1, correlation], [correlation, 1]]
    ).logpdf
    many = table_densities.Steps(*(np.repeat(part, 100, axis=0) for part in steps))
    rng = np.random.default_rng(1)
    found = np.exp(table_densities.log_probs(many, density, rng)).reshape(4, 100)
    errors = found.std(axis=1) / 10
    assert abs(found.mean(axis=1).sum() - 1) < 4 * np.sqrt(np.sum(errors**2)) + 0.003
    both = 0.25 + np.arcsin(correlation) / (2 * np.pi)
    assert abs(found[3].mean() - both) < 4 * errors[3] + 0.003


def test_a_mixture_finds_two_clusters():
    centers = np.where(RANDOM.uniform(size=400) < 0.5, -3, 3)
    values = (centers[:, None] + RANDOM.normal(size=(400, 2))).astype(np.float32)
    steps = steps_of([Column("real"), Column("real")], values)
    density, components = table_densities.gaussian_mixture(steps, RANDOM)
    mixture = table_densities.log_probs(steps, density, RANDOM).mean()
    one = table_densities.gaussian(steps, RANDOM)
    assert components >= 2
    assert mixture > table_densities.log_probs(steps, one, RANDOM).mean() + 0.3


def test_errors_are_those_of_hidden_cells_alone():
    truth = np.array([[1.0, 1, 2], [3, 0, 1]])
    found = np.array([[9.0, 0.4, 2], [7, 0.9, 1]])
    mask = np.array([[True, False, False], [False, True, False]])
    scores = table_scores.score(COLUMNS, found, truth, mask, np.array([2.0, 1, 1]))
    assert (scores.rmse, scores.accuracy) == (2.0, 2 / 3)
    nothing = table_scores.score(COLUMNS, found, truth, np.ones_like(mask), np.ones(3))
    assert np.isnan(nothing.rmse) and np.isnan(nothing.accuracy)


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_intervals_of_draws_of_the_truth_cover_nine_tenths(step):
    columns = [Column("real", step=step)]
    cells = RANDOM.normal(size=(4000, 101, 1))
    cells = np.rint(cells) if step else cells
    mask = np.zeros((4000, 1), bool)
    found = table_scores.coverage(columns, cells[:, 1:], cells[:, 0], mask)
    assert abs(found - 0.9) < 4 * np.sqrt(0.09 / 4000)
    far = table_scores.coverage(columns, cells[:, 1:], cells[:, 0] + 9, mask)
    assert far < 0.01


def test_a_paired_difference_has_the_error_of_its_rows():
    sums, counts = RANDOM.normal(1, 1, 10_000), np.ones(10_000)
    found = table_scores.paired(sums, np.zeros(10_000), counts)
    np.testing.assert_allclose(found["mean"], sums.mean())
    np.testing.assert_allclose(found["standard_error"], sums.std() / 100, rtol=1e-6)
    assert table_scores.paired(sums, sums, np.zeros(10_000)) is None


@pytest.mark.slow
def test_the_program_compares_every_method(tmp_path):
    options = ["--data", "wine", "--epochs", "30", "--batch-size", "20"]
    options += ["--missing", "0.3", "--num-samples", "20", "--hidden-size", "16"]
    assert status_of([*options, "--out", str(tmp_path / "run")], program) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    found = summary["imputation"]["30% missing"]
    assert set(found["methods"]) == {"VAE", *imputers.imputers()}
    assert all(0.1 < each["rmse"]["mean"] < 3 for each in found["methods"].values())
    assert 0.5 < found["methods"]["VAE"]["coverage"]["mean"] < 1
    against = summary["nll_minus"]["all cells"]
    assert against["independent columns"]["mean"] < 0
    assert set(against) == {*summary["baselines"]["all cells"]}
    figures = tmp_path / "run" / "figures"
    assert {path.stem for path in figures.iterdir()} == set(program.CAPTIONS)
