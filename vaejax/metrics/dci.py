"""Disentanglement, completeness and informativeness (DCI) of codes.

Predictors of each factor from the whole code say which dimensions are important for it
and how well it is predicted. Tables of codes and factors are as in
`disentanglement.py`; the predictor is a function argument.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from vaejax._checks import as_numbers, check_count, check_in_range, check_key
from vaejax.base import Key
from vaejax.metrics._tables import check_table, column_of, generator_of

#: `(codes [num, dimensions], factor [num]) -> float`: how well a predictor does on
#: them, 1 at best.
Informativeness = Callable[[np.ndarray, np.ndarray], float]
#: `(key, codes [num, dimensions], factor [num]) -> (importance, informativeness)` of a
#: predictor fitted to them; `importance [dimensions]` is the weight that it gives to
#: each dimension, not negative.
Importances = Callable[
    [Key, np.ndarray, np.ndarray], tuple[np.ndarray, Informativeness]
]


class ImportanceScores(NamedTuple):
    """Disentanglement and completeness of a matrix of importances.

    Attributes:
      disentanglement: the mean of `by_dimension`, weighted by the importance of each,
        in [0, 1].
      completeness: the mean of `by_factor`, in [0, 1].
      by_dimension: 1 - H(P_j.) / log K of each dimension, `[dimensions]`; 0 for a
        dimension without importance.
      by_factor: 1 - H(P_.k) / log D of each factor, `[num_factors]`; 0 for a factor for
        which no dimension is important.

    Example:
      >>> from vaejax.metrics import dci_from_importances
      >>> dci_from_importances([[1, 0], [0, 1], [0, 0]]).by_dimension.tolist()
      [1.0, 1.0, 0.0]
    """

    disentanglement: float
    completeness: float
    by_dimension: np.ndarray
    by_factor: np.ndarray


def dci_from_importances(importances: ArrayLike) -> ImportanceScores:
    """Compute disentanglement and completeness from a matrix of importances.

    R_jk is the importance of dimension j of D for factor k of K. Disentanglement is
    sum_j rho_j (1 - H(P_j.) / log K) with P_jk = R_jk / sum_k R_jk and rho_j the share
    of row j in the sum of all; completeness is 1/K sum_k (1 - H(P_.k) / log D) with
    the columns normalized instead.

    Args:
      importances: R, `[dimensions, num_factors]`, finite and not negative, two or more
        of each.

    Returns:
      Both scores, by dimension and by factor too.

    Raises:
      ValueError: `importances` is not a matrix of two or more rows and columns, or
        has an entry that is negative or not finite.

    Example:
      >>> from vaejax.metrics import dci_from_importances
      >>> scores = dci_from_importances([[1, 0], [0, 1], [0, 1]])
      >>> scores.disentanglement
      1.0
      >>> round(scores.completeness, 3)  # (1 + 1 - log 2 / log 3) / 2
      0.685

    Source: Eastwood & Williams 2018, section 2. Factors have equal weights in
    completeness, as in the code of its authors; disentanglement_lib weighs them by
    their importance, which is the same wherever the columns have equal sums.
    """
    weights = as_numbers("dci_from_importances: importances", importances)
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 2 or min(weights.shape) < 2:
        raise ValueError(
            f"dci_from_importances: importances have shape {weights.shape}; give "
            "[dimensions, num_factors], two or more of each."
        )
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0)):
        raise ValueError(
            f"dci_from_importances: importances lie in [{weights.min()}, "
            f"{weights.max()}]; give finite weights of 0 or more."
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
    """Fit scikit-learn's gradient boosted trees to a factor.

    The importances are those by impurity, of sum 1; the informativeness is the
    accuracy of the trees.

    Args:
      key: key that breaks ties between equally good splits.
      codes: `[num, dimensions]`.
      factor: `[num]`, integer classes.

    Returns:
      The importances `[dimensions]`, and the informativeness as a function.

    Raises:
      ImportError: scikit-learn is not installed.

    Example:
      >>> import jax, numpy as np
      >>> from vaejax.metrics import gradient_boosted_importances
      >>> codes = np.array([[0.0, 7.0], [1.0, 7.0]] * 4)
      >>> importance, informativeness = gradient_boosted_importances(
      ...     jax.random.key(0), codes, np.array([0, 1] * 4)
      ... )
      >>> importance.tolist(), informativeness(codes, np.array([0, 1] * 4))
      ([1.0, 0.0], 1.0)

    Source: disentanglement_lib, where these trees replace the random forest of
    Eastwood & Williams 2018.
    """
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise ImportError(
            "gradient_boosted_importances needs scikit-learn: pip install "
            "'vaejax[analysis]', or use lasso_importances."
        ) from error
    codes, factor = column_of("gradient_boosted_importances", codes, factor)
    seed = int(generator_of(key).integers(2**31))
    centered = _centering(codes)
    trees = GradientBoostingClassifier(random_state=seed).fit(centered(codes), factor)
    return np.asarray(trees.feature_importances_), lambda codes, factor: float(
        np.mean(trees.predict(centered(codes)) == factor)
    )


def random_forest_importances(
    key: Key,
    codes: np.ndarray,
    factor: np.ndarray,
    *,
    num_trees: int = 20,
    min_leaf: int = 5,
) -> tuple[np.ndarray, Informativeness]:
    """Fit scikit-learn's random forest to a factor.

    The importances are those by impurity, of sum 1; the informativeness is the accuracy
    of the forest. Forests are the paper's choice and quicker than boosting. Every split
    considers all dimensions: among a few drawn at random, dimensions without
    information would be split too and count as important.

    Args:
      key: key of the trees.
      codes: `[num, dimensions]`.
      factor: `[num]`, integer classes.
      num_trees: trees, at least 1.
      min_leaf: examples in a leaf, at least 1.

    Returns:
      The importances `[dimensions]`, and the informativeness as a function.

    Raises:
      ValueError: a count is not a positive integer.
      ImportError: scikit-learn is not installed.

    Example:
      >>> import jax, numpy as np
      >>> from vaejax.metrics import random_forest_importances
      >>> codes = np.array([[0.0, 7.0], [1.0, 7.0]] * 20)
      >>> importance, informativeness = random_forest_importances(
      ...     jax.random.key(0), codes, np.array([0, 1] * 20), num_trees=2
      ... )
      >>> importance.tolist(), informativeness(codes, np.array([0, 1] * 20))
      ([1.0, 0.0], 1.0)

    Source: Eastwood & Williams 2018, section 4, where the depth is chosen on held-out
    examples.
    """
    check_count("random_forest_importances: num_trees", num_trees)
    check_count("random_forest_importances: min_leaf", min_leaf)
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise ImportError(
            "random_forest_importances needs scikit-learn: pip install "
            "'vaejax[analysis]', or use lasso_importances."
        ) from error
    codes, factor = column_of("random_forest_importances", codes, factor)
    seed = int(generator_of(key).integers(2**31))
    trees = RandomForestClassifier(
        num_trees, min_samples_leaf=min_leaf, random_state=seed
    )
    # Every dimension at every split; the stubs of scikit-learn take strings only.
    trees = trees.set_params(max_features=None)
    centered = _centering(codes)
    trees = trees.fit(centered(codes), factor)
    return np.asarray(trees.feature_importances_), lambda codes, factor: float(
        np.mean(trees.predict(centered(codes)) == factor)
    )


def lasso_importances(
    key: Key,
    codes: np.ndarray,
    factor: np.ndarray,
    *,
    penalty: float = 0.02,
    max_iterations: int = 100_000,
) -> tuple[np.ndarray, Informativeness]:
    """Fit a lasso regression to a factor whose labels are quantities.

    The importances are |w| of the w that minimizes 1/(2 num) ||v - Z w||^2 + penalty
    ||w||_1, with Z and v brought to mean 0 and variance 1. Informativeness is
    1 - RMSE / stddev(v), so that guessing the mean scores 0. The proximal gradient
    steps start from w = 0 and share a weight evenly among equal dimensions.

    Args:
      key: not used.
      codes: `[num, dimensions]`.
      factor: `[num]`, integers, not constant.
      penalty: weight of the L1 norm, not negative.
      max_iterations: largest number of gradient steps.

    Returns:
      The importances `[dimensions]`, and the informativeness as a function.

    Raises:
      ValueError: the penalty is negative or not finite, or `max_iterations` is not a
        positive integer.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import lasso_importances
      >>> codes = np.array([[0.0, 7.0], [1.0, 7.0]])
      >>> importance, informativeness = lasso_importances(
      ...     None, codes, np.array([0, 1]), penalty=0.1
      ... )
      >>> np.round(importance, 3).tolist()
      [0.9, 0.0]
      >>> round(informativeness(codes, np.array([0, 1])), 3)
      0.9

    Source: Eastwood & Williams 2018, section 4, where the penalty is chosen on held-out
    examples.
    """
    del key
    check_in_range("lasso_importances: penalty", penalty, 0)
    check_count("lasso_importances: max_iterations", max_iterations)
    codes, factor = column_of("lasso_importances", codes, factor)
    factor = factor.astype(np.float64)
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
        codes, factor = np.asarray(codes, np.float64), np.asarray(factor, np.float64)
        predictions = mean + scale * ((codes - code_mean) / code_scale @ weights)
        return float(1 - np.sqrt(np.mean((predictions - factor) ** 2)) / np.std(factor))

    return np.abs(weights), informativeness


class DCI(NamedTuple):
    """Scores of the predictors of all factors.

    Attributes:
      disentanglement, completeness: scores of `importances`, see
        `dci_from_importances`.
      informativeness: the mean over factors of how well each is predicted on the test
        examples; 1 is best.
      train_informativeness: the same mean on the training examples.
      importances: importance of each dimension for each factor, `[dimensions,
        num_factors]`.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import DCI
      >>> DCI(0.9, 0.8, 0.95, 0.97, importances=np.eye(3)).completeness
      0.8
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
    """Score codes by predictors of each factor from the whole code.

    Disentanglement and completeness are those of the predictors' importances,
    informativeness is how well they predict.

    Args:
      key: key of what `importances` draws at random.
      codes, factors: `[num, dimensions]` and `[num, num_factors]`, to fit on; two or
        more of both, integer factors, none constant.
      test_codes, test_factors: other examples, to score on.
      importances: predictor: `gradient_boosted_importances`,
        `random_forest_importances`, `lasso_importances` or another such function.

    Returns:
      The three scores, and the importances behind them.

    Raises:
      ValueError: codes and factors differ in number, there are fewer than two of
        dimensions or factors, a code is not finite, a factor is not of integers or is
        constant, or the tables differ in their columns.
      ImportError: the predictor needs scikit-learn, which is not installed.

    Example:
      >>> import jax, numpy as np
      >>> from vaejax.metrics import dci_scores, lasso_importances
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> table = factors.astype(float), factors
      >>> scores = dci_scores(
      ...     jax.random.key(0), *table, *table, importances=lasso_importances
      ... )
      >>> scores.disentanglement, scores.completeness
      (1.0, 1.0)

    Source: Eastwood & Williams 2018, section 2. Informativeness is the prediction error
    there, smallest at best; disentanglement_lib reports the accuracy of the trees, as
    here.
    """
    check_key(key)
    codes, factors = check_table(
        "dci_scores", codes, factors, min_dimensions=2, min_factors=2
    )
    test_codes, test_factors = check_table(
        "dci_scores (test)", test_codes, test_factors
    )
    if (codes.shape[1], factors.shape[1]) != (
        test_codes.shape[1],
        test_factors.shape[1],
    ):
        raise ValueError(
            f"dci_scores: codes and factors have {codes.shape[1]} and "
            f"{factors.shape[1]} columns, those to test on {test_codes.shape[1]} and "
            f"{test_factors.shape[1]}; give the same dimensions and factors."
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
    """Return 1 - H / log(columns) of each row, normalized; 0 for a row of zeros."""
    totals = weights.sum(axis=1, keepdims=True)
    shares = np.where(
        totals > 0, weights / np.where(totals > 0, totals, 1), 1 / weights.shape[1]
    )
    return np.clip(1 - entr(shares).sum(axis=1) / np.log(weights.shape[1]), 0, 1)


def _scale(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each column, 1 where it is constant."""
    # The mean of equal values may differ from them in the last digit.
    return np.where(np.ptp(values, axis=0) > 0, np.std(values, axis=0), 1)


def _centering(codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that moves codes by the mean of these, in float64.

    Trees take float32, in which an offset would cost the digits of the codes.
    """
    mean = np.mean(np.asarray(codes, np.float64), axis=0)
    return lambda codes: np.asarray(codes, np.float64) - mean
