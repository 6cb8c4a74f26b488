"""DCI of matrices and tables that are known, and its predictors."""

import itertools
import math
import sys

import jax
import numpy as np
import pytest
import scipy.stats
from support.factor_tables import CODES, FACTORS, PENALTY, UNIT

from vaejax.metrics import (
    dci_from_importances,
    dci_scores,
    gradient_boosted_importances,
    lasso_importances,
)


def test_dci_of_a_tiny_matrix():
    scores = dci_from_importances([[2, 1], [1, 0], [0, 3]])
    # H(1/3) is 0.918296 bits; the entropies of (2, 1, 0) / 3 and (1, 0, 3) / 4 are
    # 0.636514 and 0.562335 nats.
    np.testing.assert_allclose(scores.by_dimension, [0.081704, 1, 1], atol=1e-6)
    np.testing.assert_allclose(
        scores.disentanglement, 3 / 7 * 0.081704 + 4 / 7, atol=1e-6
    )
    np.testing.assert_allclose(scores.by_factor, [0.420620, 0.488140], atol=1e-6)
    np.testing.assert_allclose(
        scores.completeness, (0.420620 + 0.488140) / 2, atol=1e-6
    )


@pytest.mark.parametrize(
    ("importances", "disentanglement", "completeness"),
    [
        (np.eye(3), 1, 1),
        (np.ones((4, 3)), 0, 0),
        (np.zeros((2, 2)), 0, 0),
        ([[1, 0], [0, 0]], 1, 0.5),
        # Ten times the weight in one row weighs ten times as much in disentanglement
        # alone.
        (
            [[10, 10], [1, 0], [0, 1]],
            2 / 22,
            1 - scipy.stats.entropy([10, 1]) / math.log(3),
        ),
    ],
)
def test_dci_of_matrices_that_are_known(importances, disentanglement, completeness):
    scores = dci_from_importances(importances)
    np.testing.assert_allclose(
        [scores.disentanglement, scores.completeness],
        [disentanglement, completeness],
        atol=1e-12,
    )


def test_lasso_is_at_its_minimum():
    rng = np.random.default_rng(5)
    codes = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 3
    factor = np.int64(np.round(codes @ [1, 0, -2, 0, 0.3] + rng.normal(size=300)))
    importance, _ = lasso_importances(None, codes, factor, penalty=0.1)
    inputs, target = scipy.stats.zscore(codes), scipy.stats.zscore(factor)
    least_squares = np.linalg.lstsq(inputs, target)[0]
    # At the minimum |Z'(v - Z w)| / num is the penalty where w is not 0, and no more
    # where it is. The signs of w are not returned, so that one choice of them must do.
    candidates = [importance * signs for signs in itertools.product([-1, 1], repeat=5)]
    slopes = np.array([inputs.T @ (target - inputs @ w) / 300 for w in candidates])
    misses = np.where(
        importance > 0,
        slopes - 0.1 * np.sign(candidates),
        np.maximum(np.abs(slopes) - 0.1, 0),
    )
    assert np.min(np.max(np.abs(misses), axis=1)) < 1e-9
    assert np.any(importance == 0) and np.any(importance > 0)
    exact, informativeness = lasso_importances(None, codes, factor, penalty=0.0)
    np.testing.assert_allclose(exact, np.abs(least_squares), atol=1e-6)
    residual = 1 - np.sqrt(np.mean((target - inputs @ least_squares) ** 2))
    np.testing.assert_allclose(informativeness(codes, factor), residual, atol=1e-9)


def test_informativeness_is_that_of_the_other_table():
    codes, other = CODES["perfect"], CODES["noise"]
    scores = dci_scores(
        jax.random.key(0), codes, FACTORS, other, FACTORS, importances=lasso_importances
    )
    np.testing.assert_allclose(scores.train_informativeness, 1 - PENALTY, atol=1e-9)
    # Noise of variance 1 in place of a factor of variance 1: the errors add.
    np.testing.assert_allclose(
        scores.informativeness, 1 - math.sqrt(1 + (1 - PENALTY) ** 2), atol=0.05
    )


def test_trees_of_known_codes():
    factors = FACTORS[:, :2]
    known = {
        "perfect": (UNIT[:, :2], 1, 1),
        "duplicated": (np.hstack([UNIT[:, :2]] * 2), 1, 1 - math.log(2) / math.log(4)),
        # The one dimension is important for both factors.
        "two in one": (CODES["two in one"][:, [0, 3]], 0, 1),
    }
    for codes, disentanglement, completeness in known.values():
        scores = dci_scores(jax.random.key(0), codes, factors, codes, factors)
        assert scores.informativeness == 1
        # Trees that choose between equal dimensions at random share a weight only on
        # average.
        np.testing.assert_allclose(
            scores[:2], [disentanglement, completeness], atol=0.05
        )


def test_trees_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ImportError, match=r"pip install 'vaejax\[analysis\]'"):
        gradient_boosted_importances(jax.random.key(0), UNIT, FACTORS[:, 0])


def scores_of(codes, factors):
    return dci_scores(
        jax.random.key(0), codes, factors, UNIT, FACTORS, importances=lasso_importances
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: scores_of(UNIT[:, :1], FACTORS),
            "there are 1 dimensions; give 2 or more",
        ),
        (
            lambda: scores_of(UNIT, FACTORS[:, :1]),
            "there are 1 factors; give 2 or more",
        ),
        (
            lambda: scores_of(UNIT[:, :2], FACTORS),
            "have 2 and 4 columns, those to test on 4 and 4",
        ),
        (lambda: dci_from_importances(np.ones((3, 1))), r"shape \(3, 1\); give"),
        (lambda: dci_from_importances([[1, -1], [0, 1]]), r"lie in \[-1.0, 1.0\]"),
        (lambda: dci_from_importances([[1, np.nan], [0, 1]]), "give finite weights"),
        (
            lambda: lasso_importances(None, UNIT, FACTORS[:, 0], penalty=-1.0),
            "penalty is -1.0",
        ),
    ],
)
def test_options_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
