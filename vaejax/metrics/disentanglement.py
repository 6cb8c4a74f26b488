"""Scores of codes against known factors of variation, from a table of both.

A table is `codes [num, dimensions]`, usually posterior means, and `factors [num,
num_factors]`, integer classes of any labels. The scores here compare single dimensions
with single factors. Scores from predictors of a factor are in `dci.py`, those that fix
a factor and let the others vary in `interventional.py`. All take and return NumPy
arrays on the host.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaejax._checks import check_count, check_in_range
from vaejax.metrics._tables import check_table, classes_of, column_of

#: `(code [num], factor [num]) -> float`: how well one dimension of a code predicts one
#: factor, 1 at best.
Score = Callable[[np.ndarray, np.ndarray], float]


class MutualInformationGap(NamedTuple):
    """Gap between the two dimensions with most information about each factor.

    Attributes:
      score: the mean of `gaps`, in [0, 1].
      gaps: gap of each factor, `[num_factors]`.
      normalized: I(z_j; v_k) / H(v_k), `[dimensions, num_factors]`, in [0, 1].

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import mutual_information_gap
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> gap = mutual_information_gap(factors.astype(float), factors)
      >>> gap.normalized.shape, gap.gaps.shape
      ((2, 2), (2,))
    """

    score: float
    gaps: np.ndarray
    normalized: np.ndarray


def mutual_information_gap(
    codes: ArrayLike, factors: ArrayLike, *, num_bins: int = 20
) -> MutualInformationGap:
    """Compute the mutual information gap (MIG) of codes.

    MIG = 1/K sum_k (I(z_j(k); v_k) - max_(j != j(k)) I(z_j; v_k)) / H(v_k), with j(k)
    the dimension that has most information about factor k. It is 1 where every factor
    is determined by one dimension and independent of all others, and 0 where two
    dimensions share their information. It does not show that one dimension encodes
    several factors: see `modularity`.

    The information is that of the histogram of each dimension, in bins of equal width
    from its smallest to its largest value. For independent dimensions it is therefore
    not 0 but about (bins - 1)(classes - 1) / (2 num) nats, and a factor of more classes
    than bins is never determined in full. A constant dimension has no information.

    Args:
      codes: `[num, dimensions]`, finite, two or more dimensions.
      factors: `[num, num_factors]`, integers, none constant.
      num_bins: bins of each dimension, at least 1.

    Returns:
      The score, with the gaps and the normalized information behind it.

    Raises:
      ValueError: codes and factors differ in number, there are fewer than two
        dimensions, a code is not finite, a factor is not of integers or is constant,
        or `num_bins` is not a positive integer.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import mutual_information_gap
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> codes = factors.astype(float)  # one dimension per factor
      >>> round(mutual_information_gap(codes, factors).score, 3)
      1.0
      >>> twice = np.hstack([codes, codes])  # two dimensions per factor
      >>> round(mutual_information_gap(twice, factors).score, 3)
      0.0

    Source: Chen et al. 2018, section 4.1 and equation 6. There the information is that
    of samples of q(z|x), with q(z_j) the mixture over the data set; the bins here are
    those of disentanglement_lib.
    """
    codes, factors = check_table(
        "mutual_information_gap", codes, factors, min_dimensions=2
    )
    information = _information_matrix(
        "mutual_information_gap", codes, factors, num_bins
    )
    entropies = [
        _mutual_information(classes_of(factor), classes_of(factor))
        for factor in factors.T
    ]
    normalized = information / np.array(entropies)
    gaps = _top_gaps(normalized)
    return MutualInformationGap(float(np.mean(gaps)), gaps, normalized)


class Modularity(NamedTuple):
    """Degree to which each dimension has information about one factor only.

    Attributes:
      score: the mean over the dimensions that have any information, in [0, 1]; 0 where
        none has.
      by_dimension: `[dimensions]`, NaN for a dimension without information.
      information: I(z_j; v_k) in nats, `[dimensions, num_factors]`.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import modularity
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> found = modularity(factors.astype(float), factors)
      >>> np.round(found.information.diagonal(), 3).tolist()  # log 2
      [0.693, 0.693]
    """

    score: float
    by_dimension: np.ndarray
    information: np.ndarray


def modularity(
    codes: ArrayLike, factors: ArrayLike, *, num_bins: int = 20
) -> Modularity:
    """Compute the modularity of codes: one factor per dimension scores 1.

    The score is the mean over dimensions of
    1 - sum_(k != k(j)) m_jk^2 / (m_jk(j)^2 (K - 1)), where m_jk is the information
    I(z_j; v_k), in bins as for `mutual_information_gap`, and k(j) the factor with the
    largest. It does not show whether several dimensions encode the same factor, nor how
    well.

    Args:
      codes: `[num, dimensions]`, finite.
      factors: `[num, num_factors]`, integers, none constant, two or more factors.
      num_bins: bins of each dimension, at least 1.

    Returns:
      The score, by dimension too, and the information behind it.

    Raises:
      ValueError: codes and factors differ in number, there are fewer than two
        factors, a code is not finite, a factor is not of integers or is constant,
        or `num_bins` is not a positive integer.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import modularity
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> modularity(factors.astype(float), factors).score
      1.0
      >>> both = factors @ [[2.0], [1.0]]  # one dimension encodes both factors
      >>> modularity(both, factors).score
      0.0

    Source: Ridgeway & Mozer 2018, section 3 and equation 2. The paper leaves a
    dimension without information undefined, 0/0; it is left out here, whereas
    disentanglement_lib counts it as 0, so that each unused dimension lowers the score.
    """
    codes, factors = check_table("modularity", codes, factors, min_factors=2)
    information = _information_matrix("modularity", codes, factors, num_bins)
    squares = information**2
    largest = np.max(squares, axis=1)
    informed = largest > 0
    others = (np.sum(squares, axis=1) - largest) / (factors.shape[1] - 1)
    by_dimension = np.where(
        informed, 1 - others / np.where(informed, largest, 1), np.nan
    )
    return Modularity(
        float(np.mean(by_dimension[informed])) if informed.any() else 0.0,
        by_dimension,
        information,
    )


class SeparatedAttributePredictability(NamedTuple):
    """Gap between the two dimensions that predict each factor best.

    Attributes:
      score: the mean of `gaps`.
      gaps: gap of each factor, `[num_factors]`.
      scores: score of each dimension for each factor, `[dimensions, num_factors]`.

    Example:
      >>> import numpy as np
      >>> from vaejax import metrics
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> found = metrics.separated_attribute_predictability(
      ...     factors.astype(float), factors
      ... )
      >>> found.scores.tolist()
      [[1.0, 0.5], [0.5, 1.0]]
    """

    score: float
    gaps: np.ndarray
    scores: np.ndarray


def balanced_threshold_accuracy(code: np.ndarray, factor: np.ndarray) -> float:
    """Compute the balanced accuracy of the best thresholds on one dimension.

    C - 1 thresholds cut the code into C intervals, each of which stands for one class;
    the score is the mean over the C classes of the share that is recognized, and at
    least 1 / C. The best thresholds are found exactly, on the examples that they are
    scored on, in O(num C^2).

    Args:
      code: `[num]`, one dimension of the codes.
      factor: `[num]`, integer classes.

    Returns:
      The accuracy, in [1 / C, 1].

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import balanced_threshold_accuracy
      >>> code = np.arange(6.0)
      >>> balanced_threshold_accuracy(code, np.array([0, 0, 1, 1, 0, 0]))
      0.75

    Source: Kumar et al. 2018, section 3, for discrete factors.
    """
    code, factor = column_of("balanced_threshold_accuracy", code, factor, 1)
    labels = classes_of(factor)
    values, positions = np.unique(code, return_inverse=True)
    counts = np.zeros((len(values), labels.max() + 1))
    np.add.at(counts, (positions, labels), 1)
    # best[k, c]: the most recognized up to a value whose interval, at most the k-th,
    # stands for class c.
    best = np.zeros((counts.shape[1], counts.shape[1]))
    for recalled in counts / counts.sum(axis=0):
        best[1:] = np.maximum(best[1:], np.max(best[:-1], axis=1, keepdims=True))
        best += recalled
    return float(np.max(best) / counts.shape[1])


def squared_correlation(code: np.ndarray, factor: np.ndarray) -> float:
    """Compute the squared correlation of one dimension with one factor.

    Cov(z, v)^2 / (Var(z) Var(v)) is the R^2 of the linear regression, for factors whose
    labels are quantities.

    Args:
      code: `[num]`, one dimension of the codes, not constant.
      factor: `[num]`, integers, not constant.

    Returns:
      R^2, in [0, 1].

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import squared_correlation
      >>> round(squared_correlation(np.array([0.0, 1.0, 2.0]), np.array([0, 1, 1])), 3)
      0.75

    Source: Kumar et al. 2018, section 3, for continuous factors.
    """
    code, factor = column_of("squared_correlation", code, factor, 1, is_continuous=True)
    code, factor = code - np.mean(code), factor - np.mean(factor)
    return float(np.sum(code * factor) ** 2 / (np.sum(code**2) * np.sum(factor**2)))


def separated_attribute_predictability(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    score: Score | Sequence[Score] = balanced_threshold_accuracy,
    min_variance: float = 1e-12,
) -> SeparatedAttributePredictability:
    """Compute the separated attribute predictability (SAP) of codes.

    SAP is the mean over factors of the difference between the best and the second best
    single dimension at predicting the factor. With `squared_correlation` it is at most
    1; with `balanced_threshold_accuracy`, whose chance level is 1 / C, at most 1 - 1/C
    for a factor of C classes and two or more active dimensions.

    Args:
      codes: `[num, dimensions]`, finite, two or more dimensions.
      factors: `[num, num_factors]`, integers, none constant.
      score: score of a dimension for a factor, one for all factors or one for each:
        `balanced_threshold_accuracy` or `squared_correlation`.
      min_variance: largest variance of a dimension that counts as inactive and
        scores 0.

    Returns:
      The score, with the gaps and the scores of all dimensions behind it.

    Raises:
      ValueError: codes and factors differ in number, there are fewer than two
        dimensions, a code is not finite, a factor is not of integers or is constant,
        scores and factors differ in number, or `min_variance` is negative.

    Example:
      >>> import numpy as np
      >>> from vaejax import metrics
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> metrics.separated_attribute_predictability(
      ...     factors.astype(float), factors, score=metrics.squared_correlation
      ... ).score
      1.0

    Source: Kumar et al. 2018, section 3. disentanglement_lib fits a linear support
    vector machine with balanced classes in place of thresholds and scores its plain
    accuracy on other examples; the paper is followed here.
    """
    codes, factors = check_table(
        "separated_attribute_predictability", codes, factors, min_dimensions=2
    )
    check_in_range("separated_attribute_predictability: min_variance", min_variance, 0)
    scores = [score] * factors.shape[1] if callable(score) else list(score)
    if len(scores) != factors.shape[1]:
        raise ValueError(
            f"separated_attribute_predictability: there are {len(scores)} scores for "
            f"{factors.shape[1]} factors; give one, or one for each."
        )
    # The mean of equal values may differ from them in the last digit.
    active = (np.var(codes, axis=0) > min_variance) & (np.ptp(codes, axis=0) > 0)
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for (j, k), _ in np.ndenumerate(matrix):
        if active[j]:
            matrix[j, k] = scores[k](codes[:, j], factors[:, k])
    gaps = _top_gaps(matrix)
    return SeparatedAttributePredictability(float(np.mean(gaps)), gaps, matrix)


def _top_gaps(matrix: np.ndarray) -> np.ndarray:
    """Return the largest value of each column less the second largest."""
    second, largest = np.sort(matrix, axis=0)[-2:]
    return largest - second


def _information_matrix(
    name: str, codes: np.ndarray, factors: np.ndarray, num_bins: int
) -> np.ndarray:
    """Return I(z_j; v_k) in nats, `[dimensions, num_factors]`.

    The codes are put in bins of equal width.
    """
    check_count(f"{name}: num_bins", num_bins)
    edges = np.linspace(codes.min(axis=0), codes.max(axis=0), num_bins + 1)[1:-1]
    bins = [
        np.searchsorted(edges[:, j], codes[:, j], side="right")
        for j in range(codes.shape[1])
    ]
    classes = [classes_of(factor) for factor in factors.T]
    return np.array(
        [[_mutual_information(code, labels) for labels in classes] for code in bins]
    )


def _mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return sum_ab n_ab / n log(n n_ab / (n_a n_b)) of two columns of classes.

    It is exactly 0 where they are independent.
    """
    width = second.max() + 1
    counts = np.bincount(
        first * width + second, minlength=(first.max() + 1) * width
    ).reshape(-1, width)
    product = np.outer(counts.sum(axis=1), counts.sum(axis=0))
    some = counts > 0
    return float(
        np.sum(counts[some] * np.log(counts[some] * len(first) / product[some]))
        / len(first)
    )
