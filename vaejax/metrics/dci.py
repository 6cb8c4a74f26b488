"""Disentanglement, completeness and informativeness (DCI): which dimensions predict a
factor, and how well all do.

Tables of codes and factors as in `disentanglement.py`; what predicts is a function
argument.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from vaejax.base import Key
from vaejax.metrics.disentanglement import _check_table, _generator_of

Informativeness = Callable[[np.ndarray, np.ndarray], float]
"""`(codes [num, dimensions], factor [num]) -> float`, how well a predictor does on
them; 1 at best.
"""

Importances = Callable[
    [Key, np.ndarray, np.ndarray], tuple[np.ndarray, Informativeness]
]
"""`(key, codes [num, dimensions], factor [num]) -> (importance, informativeness)` of a
predictor fitted to them.

`importance [dimensions]` is the weight that it gives to each dimension, not negative.
"""


class ImportanceScores(NamedTuple):
    """How far a dimension is important for one factor alone, and the reverse.

    Attributes:
      disentanglement: the mean of `by_dimension`, weighted by the importance of each,
        in [0, 1].
      completeness: the mean of `by_factor`, in [0, 1].
      by_dimension: 1 - H(P_j.) / log K of each dimension, `[dimensions]`; 0 where it
        has no importance.
      by_factor: 1 - H(P_.k) / log D of each factor, `[num_factors]`; 0 where nothing is
        important for it.
    """

    disentanglement: float
    completeness: float
    by_dimension: np.ndarray
    by_factor: np.ndarray


def dci_from_importances(importances: ArrayLike) -> ImportanceScores:
    """Disentanglement and completeness of R, `[dimensions, num_factors]`, the
    importance of dimension j for factor k.

    Disentanglement is sum_j rho_j (1 - H(P_j.) / log K) with P_jk = R_jk / sum_k R_jk
    and rho_j the share of row j in the sum of all; completeness is 1/K sum_k (1 -
    H(P_.k) / log D) with columns normalized instead.

    Raises:
      ValueError: there are not two dimensions and two factors at least, or a weight is
        negative or not finite.

    Source: Eastwood & Williams 2018, section 2. Factors weigh the same in completeness,
    as in the code of its authors; disentanglement_lib weighs them by their importance,
    which is the same wherever the columns have equal sums.
    """
    weights = np.asarray(importances, np.float64)
    if weights.ndim != 2 or min(weights.shape) < 2:
        raise ValueError(
            f"dci_from_importances: importances have shape {weights.shape}; give "
            "[dimensions, num_factors], two or "
            "more of each."
        )
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0)):
        raise ValueError(
            f"dci_from_importances: importances lie in [{weights.min()}, "
            f"{weights.max()}]; give finite weights of 0 or "
            "more."
        )
    by_dimension, by_factor = _concentration(weights), _concentration(weights.T)
    total = weights.sum()
    shares = weights.sum(axis=1) / (total if total > 0 else 1)
    return ImportanceScores(
        float(shares @ by_dimension), float(np.mean(by_factor)), by_dimension, by_factor
    )


def gradient_boosted_importances(
    key: Key, codes: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, Informativeness]:
    """Importances by impurity, of sum 1, of scikit-learn's gradient boosted trees, and
    the accuracy of the trees.

    The key breaks ties between equally good splits.

    Raises:
      ImportError: scikit-learn is not installed.

    Source: disentanglement_lib, where they stand for the random forest of Eastwood &
    Williams 2018.
    """
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise ImportError(
            "gradient_boosted_importances needs scikit-learn: pip install "
            "'vaejax[analysis]', or use lasso_importances."
        ) from error
    seed = int(_generator_of("gradient_boosted_importances", key).integers(2**31))
    trees = GradientBoostingClassifier(random_state=seed).fit(codes, factor)
    return trees.feature_importances_, lambda codes, factor: float(
        np.mean(trees.predict(codes) == factor)
    )


def random_forest_importances(
    key: Key,
    codes: np.ndarray,
    factor: np.ndarray,
    *,
    num_trees: int = 20,
    min_leaf: int = 5,
) -> tuple[np.ndarray, Informativeness]:
    """Importances by impurity, of sum 1, of scikit-learn's random forest of
    classifiers, and its accuracy.

    The leaves of a tree hold `min_leaf` examples or more. The paper grows such forests;
    they are quicker than boosting. Every split looks at all dimensions: among a few
    drawn at random, those that know nothing would be split too, and count as important.
    The key decides the trees.

    Raises:
      ImportError: scikit-learn is not installed.

    Source: Eastwood & Williams 2018, section 4, where the depth is chosen on held-out
    examples.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise ImportError(
            "random_forest_importances needs scikit-learn: pip install "
            "'vaejax[analysis]', or use lasso_importances."
        ) from error
    seed = int(_generator_of("random_forest_importances", key).integers(2**31))
    trees = RandomForestClassifier(
        num_trees, min_samples_leaf=min_leaf, max_features=None, random_state=seed
    )
    trees = trees.fit(codes, factor)
    return trees.feature_importances_, lambda codes, factor: float(
        np.mean(trees.predict(codes) == factor)
    )


def lasso_importances(
    key: Key,
    codes: np.ndarray,
    factor: np.ndarray,
    *,
    penalty: float = 0.02,
    max_iterations: int = 100_000,
) -> tuple[np.ndarray, Informativeness]:
    """|w| of the w that minimizes 1/(2 num) ||v - Z w||^2 + penalty ||w||_1, Z and v of mean 0 and variance 1.

    For factors whose labels are quantities. Informativeness is 1 - RMSE / stddev(v), so
    that guessing the mean scores 0. By proximal gradient steps from w = 0, which share
    a weight evenly among equal dimensions. The key is not used.

    Raises:
      ValueError: the penalty is negative.

    Source: Eastwood & Williams 2018, section 4, where the penalty is chosen on held-out
    examples.
    """
    del key
    if not penalty >= 0:
        raise ValueError(f"lasso_importances: penalty is {penalty}; give 0 or more.")
    code_mean, code_scale = np.mean(codes, axis=0), _scale(codes)
    mean, scale = np.mean(factor), np.std(factor)
    inputs, targets = (codes - code_mean) / code_scale, (factor - mean) / scale
    gram, correlation = (
        inputs.T @ inputs / len(inputs),
        inputs.T @ targets / len(inputs),
    )
    step = 1 / max(np.linalg.eigvalsh(gram)[-1], np.finfo(np.float64).tiny)
    weights = np.zeros(inputs.shape[1])
    for _ in range(max_iterations):
        moved = weights - step * (gram @ weights - correlation)
        previous, weights = (
            weights,
            np.sign(moved) * np.maximum(np.abs(moved) - step * penalty, 0),
        )
        if np.max(np.abs(weights - previous)) < 1e-12:
            break

    def informativeness(codes: np.ndarray, factor: np.ndarray) -> float:
        predictions = mean + scale * ((codes - code_mean) / code_scale @ weights)
        return float(1 - np.sqrt(np.mean((predictions - factor) ** 2)) / np.std(factor))

    return np.abs(weights), informativeness


class DCI(NamedTuple):
    """Scores of the predictors of all factors.

    Attributes:
      disentanglement, completeness: see `dci_from_importances`.
      informativeness: the mean over factors of how well each is predicted on the test
        examples; 1 is best.
      train_informativeness: the same of the training examples.
      importances: `[dimensions, num_factors]`.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    train_informativeness: float
    importances: np.ndarray


def dci_scores(
    key: Key,
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    importances: Importances = gradient_boosted_importances,
) -> DCI:
    """Disentanglement, completeness and informativeness of the predictors of each
    factor from the whole code.

    Args:
      key: what `importances` draws at random.
      codes, factors: `[num, dimensions]` and `[num, num_factors]`, to fit on; two or
        more of both.
      test_codes, test_factors: others, to score on.
      importances: `gradient_boosted_importances` or `lasso_importances`, or another
        such function.

    Raises:
      ValueError: a table is not as above, they do not match, a code is not finite, or a
        factor is constant in one.
      ImportError: the trees are asked for without scikit-learn.

    Source: Eastwood & Williams 2018, section 2. Informativeness is there the prediction
    error, smallest at best; disentanglement_lib reports the accuracy of the trees, as
    here.
    """
    codes, factors = _check_table(
        "dci", codes, factors, min_dimensions=2, min_factors=2
    )
    test_codes, test_factors = _check_table("dci (test)", test_codes, test_factors)
    if (codes.shape[1], factors.shape[1]) != (
        test_codes.shape[1],
        test_factors.shape[1],
    ):
        raise ValueError(
            f"dci: codes and factors have {codes.shape[1]} and {factors.shape[1]} "
            "columns, those to test on "
            f"{test_codes.shape[1]} and {test_factors.shape[1]}; give the same "
            "dimensions and factors."
        )
    columns, scores = [], []
    for k in range(factors.shape[1]):
        importance, informativeness = importances(
            jax.random.fold_in(key, k), codes, factors[:, k]
        )
        columns.append(importance)
        scores.append(
            (
                informativeness(test_codes, test_factors[:, k]),
                informativeness(codes, factors[:, k]),
            )
        )
    matrix = np.stack(columns, axis=1)
    of_importances = dci_from_importances(matrix)
    test, train = np.mean(scores, axis=0)
    return DCI(
        of_importances.disentanglement,
        of_importances.completeness,
        float(test),
        float(train),
        matrix,
    )


def _concentration(weights: np.ndarray) -> np.ndarray:
    """1 - H / log(columns) of each row as probabilities, 0 for a row of zeros."""
    totals = weights.sum(axis=1, keepdims=True)
    shares = np.where(
        totals > 0, weights / np.where(totals > 0, totals, 1), 1 / weights.shape[1]
    )
    return np.clip(1 - entr(shares).sum(axis=1) / np.log(weights.shape[1]), 0, 1)


def _scale(values: np.ndarray) -> np.ndarray:
    """The standard deviation of each column, 1 where it is constant."""
    stddev = np.std(values, axis=0)
    return np.where(stddev > 0, stddev, 1)
