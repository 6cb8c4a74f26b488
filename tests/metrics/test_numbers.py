"""Metrics on every dtype and at any offset, against themselves in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.dtypes import DTYPES, functions_of, table

from vaejax import metrics

FACTORS = np.array([(a, b) for a in range(3) for b in range(3)] * 4)
KEY = jax.random.key(0)
VOTES = {"num_train": 10, "num_eval": 10, "batch_size": 4}


def of_codes(codes):
    """Return codes of two dimensions, one per factor with noise."""
    return codes, FACTORS


def predictor(importances):
    def function(codes):
        importance, informativeness = importances(KEY, codes, FACTORS[:, 0])
        return importance, informativeness(codes, FACTORS[:, 0])

    return function


def interventions(codes):
    found = metrics.interventions_of_table(codes, FACTORS)
    return found.stddev, found.draw_batch(np.random.default_rng(0), 1, 3)


def centered(codes):
    stddev, batch = interventions(codes)
    return stddev, np.diff(batch, axis=0)


#: name -> function of codes `[36, 3]`; all are the same at any offset of the codes.
CASES = {
    "frechet_distance": lambda codes: metrics.frechet_distance(codes[:20], codes[20:]),
    "precision_recall": lambda codes: metrics.precision_recall(codes[:20], codes[20:]),
    "density_coverage": lambda codes: metrics.density_coverage(codes[:20], codes[20:]),
    "mutual_information_gap": lambda codes: metrics.mutual_information_gap(
        codes, FACTORS, num_bins=4
    ),
    "modularity": lambda codes: metrics.modularity(codes, FACTORS, num_bins=4),
    "separated_attribute_predictability": lambda codes: (
        metrics.separated_attribute_predictability(codes, FACTORS)
    ),
    "balanced_threshold_accuracy": lambda codes: metrics.balanced_threshold_accuracy(
        codes[:, 0], FACTORS[:, 0]
    ),
    "squared_correlation": lambda codes: metrics.squared_correlation(
        codes[:, 0], codes[:, 1]
    ),
    "dci_scores": lambda codes: metrics.dci_scores(
        KEY,
        *(codes, FACTORS, codes, FACTORS),
        importances=metrics.lasso_importances,
    ),
    "lasso_importances": predictor(metrics.lasso_importances),
    "interventions_of_table": centered,
    "factor_vae_score": lambda codes: metrics.factor_vae_score(
        KEY, metrics.interventions_of_table(codes, FACTORS), **VOTES
    ),
    "beta_vae_score": lambda codes: metrics.beta_vae_score(
        KEY, metrics.interventions_of_table(codes, FACTORS), **VOTES
    ),
    "interventional_robustness": lambda codes: metrics.interventional_robustness(
        codes, FACTORS
    ),
}
TREES = {
    "gradient_boosted_importances": predictor(metrics.gradient_boosted_importances),
    "random_forest_importances": predictor(metrics.random_forest_importances),
}
#: Functions of counts, or of importances that a predictor gave.
OTHERS = {"expected_coverage", "dci_from_importances"}
OFFSETS = {"float32": 2.0**12, "float64": 2.0**20, "int32": 2**20, "uint16": 3000}


def test_every_function_is_in_the_table():
    assert functions_of(metrics) == CASES.keys() | TREES.keys() | OTHERS


def assert_same(function, codes, plain):
    expected = function(plain)
    for given in (codes, jnp.asarray(codes)):
        jax.tree.map(
            lambda found, right: np.testing.assert_allclose(
                found, right, rtol=1e-9, atol=1e-9
            ),
            function(given),
            expected,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_double_precision(name, dtype):
    codes = table((36, 3), DTYPES[dtype], seed=1)
    if dtype == "bool":
        codes[:2] = [[False] * 3, [True] * 3]
    assert_same(CASES[name], codes, codes.astype(np.float64))


@pytest.mark.parametrize("dtype", OFFSETS)
@pytest.mark.parametrize("name", CASES)
def test_an_offset_changes_nothing(name, dtype):
    codes = table((36, 3), DTYPES[dtype], seed=1, offset=OFFSETS[dtype])
    assert_same(CASES[name], codes, codes.astype(np.float64) - OFFSETS[dtype])


@pytest.mark.parametrize("name", TREES)
def test_trees_do_not_see_an_offset(name):
    pytest.importorskip("sklearn")
    codes = table((36, 3), np.float64, seed=1) / 1024
    jax.tree.map(
        lambda found, right: np.testing.assert_allclose(found, right, atol=1e-6),
        TREES[name](codes + 2.0**20),
        TREES[name](codes),
    )


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_copies_of_real_points_lie_in_every_ball(scale):
    """With as many duplicates as neighbors, balls have no radius at all."""
    real = scale * table((30, 4), np.float64, seed=2, offset=3000)
    real = np.repeat(real, 4, axis=0)
    assert metrics.precision_recall(real, real[::-1]) == (1, 1)
    assert metrics.density_coverage(real, real, num_neighbors=3).coverage == 1
    assert metrics.precision_recall(real, real + 0.5 * scale) == (0, 0)


def test_a_constant_dimension_has_no_weight_though_its_mean_is_rounded():
    codes = np.stack([np.full(36, 0.1), FACTORS[:, 0]], axis=1)
    importance, informativeness = metrics.lasso_importances(KEY, codes, FACTORS[:, 0])
    assert importance[0] == 0
    moved = codes + [1.0, 0.0]
    assert informativeness(moved, FACTORS[:, 0]) == informativeness(
        codes, FACTORS[:, 0]
    )
