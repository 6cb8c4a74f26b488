"""Scores of codes against known factors of variation, from a table of both: how far one
dimension is one factor.

A table is `codes [num, dimensions]`, posterior means as a rule, and `factors [num,
num_factors]`, integer classes of any labels. Scores by predictors of a factor are in
`informativeness.py`, those that fix a factor and let the others vary in
`interventions.py`. NumPy in and out, on the host.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaejax._checks import check_count, is_key
from vaejax.base import Key

Score = Callable[[np.ndarray, np.ndarray], float]
"""`(code [num], factor [num]) -> float`, how well one dimension of a code tells one
factor; 1 is best.
"""


class MutualInformationGap(NamedTuple):
    """The gap between the two dimensions that know a factor best.

    Attributes:
      score: the mean of `gaps`, in [0, 1].
      gaps: of each factor, `[num_factors]`.
      normalized: I(z_j; v_k) / H(v_k), `[dimensions, num_factors]`, in [0, 1].
    """

    score: float
    gaps: np.ndarray
    normalized: np.ndarray


def mutual_information_gap(
    codes: ArrayLike, factors: ArrayLike, *, num_bins: int = 20
) -> MutualInformationGap:
    """MIG = 1/K sum_k (I(z_j(k); v_k) - max_(j != j(k)) I(z_j; v_k)) / H(v_k), j(k) the
    dimension that knows v_k best.

    1 where every factor is known to one dimension in full and to no other at all; 0
    where two share what they know. It does not see that a dimension knows several
    factors: see `modularity`. The information is that of the histogram of each
    dimension in bins of equal width from its least to its largest value, so of
    independent dimensions it is not 0 but about (bins - 1)(classes - 1) / (2 num) nats,
    and a factor of more classes than bins is not known in full. A constant dimension
    knows nothing.

    Args:
      codes: `[num, dimensions]`, two or more dimensions.
      factors: `[num, num_factors]`, integers.
      num_bins: of each dimension.

    Raises:
      ValueError: the table is not as above, a code is not finite, or a factor is
        constant.

    Source: Chen et al. 2018, section 4.1 and equation 6. There the information is that
    of samples of q(z|x), with q(z_j) the mixture over the data set. The bins are those
    of disentanglement_lib, which is followed here.
    """
    codes, factors = _check_table(
        "mutual_information_gap", codes, factors, min_dimensions=2
    )
    information = _information_matrix(
        "mutual_information_gap", codes, factors, num_bins
    )
    entropies = [
        _mutual_information(_classes(factor), _classes(factor)) for factor in factors.T
    ]
    normalized = information / np.array(entropies)
    gaps = _top_gaps(normalized)
    return MutualInformationGap(float(np.mean(gaps)), gaps, normalized)


class Modularity(NamedTuple):
    """How far each dimension knows one factor alone.

    Attributes:
      score: the mean over the dimensions that know something, in [0, 1]; 0 where none
        does.
      by_dimension: `[dimensions]`, not a number where a dimension knows nothing.
      information: I(z_j; v_k) in nats, `[dimensions, num_factors]`.
    """

    score: float
    by_dimension: np.ndarray
    information: np.ndarray


def modularity(
    codes: ArrayLike, factors: ArrayLike, *, num_bins: int = 20
) -> Modularity:
    """The mean over dimensions of 1 - sum_(k != k(j)) m_jk^2 / (m_jk(j)^2 (K - 1)),
    k(j) the factor known best.

    m_jk is the information I(z_j; v_k), in bins as for `mutual_information_gap`. 1
    where each dimension knows one factor only. Whether several know the same one, and
    how well, is not seen.

    Args:
      codes: `[num, dimensions]`.
      factors: `[num, num_factors]`, integers, two or more factors.
      num_bins: of each dimension.

    Raises:
      ValueError: the table is not as above, a code is not finite, or a factor is
        constant.

    Source: Ridgeway & Mozer 2018, section 3 and equation 2. The paper leaves a
    dimension without information undefined, 0/0; here it is left out, where
    disentanglement_lib counts it as 0, so that each unused one lowers the score.
    """
    codes, factors = _check_table("modularity", codes, factors, min_factors=2)
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
    """The gap between the two dimensions that tell a factor best.

    Attributes:
      score: the mean of `gaps`.
      gaps: of each factor, `[num_factors]`.
      scores: of each dimension for each factor, `[dimensions, num_factors]`.
    """

    score: float
    gaps: np.ndarray
    scores: np.ndarray


def balanced_threshold_accuracy(code: np.ndarray, factor: np.ndarray) -> float:
    """The mean over C classes of the share recognized, by the C - 1 thresholds on the
    code for which it is largest.

    Each interval between thresholds stands for one class. The best thresholds are found
    exactly, on the examples that they are scored on, in O(num C^2). At least 1 / C.

    Source: Kumar et al. 2018, section 3, for discrete factors.
    """
    labels = _classes(factor)
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
    """Cov(z, v)^2 / (Var(z) Var(v)), the R^2 of the linear regression; for factors
    whose labels are quantities.

    Source: Kumar et al. 2018, section 3, for continuous factors.
    """
    code, factor = code - np.mean(code), factor - np.mean(factor)
    return float(np.sum(code * factor) ** 2 / (np.sum(code**2) * np.sum(factor**2)))


def sap(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    score: Score | Sequence[Score] = balanced_threshold_accuracy,
    min_variance: float = 1e-12,
) -> SeparatedAttributePredictability:
    """SAP: how much better the best single dimension tells a factor than the second
    best, averaged over factors.

    With `squared_correlation` at most 1; with `balanced_threshold_accuracy` at most 1 -
    1/C for a factor of C classes, where two dimensions or more are active, since chance
    is 1/C.

    Args:
      codes: `[num, dimensions]`, two or more dimensions.
      factors: `[num, num_factors]`, integers.
      score: for every factor, or one for each: `balanced_threshold_accuracy` or
        `squared_correlation`.
      min_variance: a dimension that varies less is inactive and scores 0.

    Raises:
      ValueError: the table is not as above, a code is not finite, a factor is constant,
        or scores and factors differ in number.

    Source: Kumar et al. 2018, section 3. disentanglement_lib fits a linear support
    vector machine with balanced classes in place of thresholds, and scores its plain
    accuracy on other examples; the paper is followed here.
    """
    codes, factors = _check_table("sap", codes, factors, min_dimensions=2)
    scores = [score] * factors.shape[1] if callable(score) else list(score)
    if len(scores) != factors.shape[1]:
        raise ValueError(
            f"sap: there are {len(scores)} scores for {factors.shape[1]} factors; give "
            "one, or one for each."
        )
    active = np.var(codes, axis=0) > min_variance
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for (j, k), _ in np.ndenumerate(matrix):
        if active[j]:
            matrix[j, k] = scores[k](codes[:, j], factors[:, k])
    gaps = _top_gaps(matrix)
    return SeparatedAttributePredictability(float(np.mean(gaps)), gaps, matrix)


def _check_table(
    name: str,
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    min_dimensions: int = 1,
    min_factors: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes in double precision and factors, or a ValueError that says what is wrong
    with them.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    if (
        codes.ndim != 2
        or factors.ndim != 2
        or len(codes) != len(factors)
        or len(codes) == 0
    ):
        raise ValueError(
            f"{name}: codes have shape {codes.shape} and factors {factors.shape}; give "
            "[num, dimensions] and "
            "[num, num_factors], one row for each example."
        )
    for what, found, least in (
        ("dimension", codes, min_dimensions),
        ("factor", factors, min_factors),
    ):
        if found.shape[1] < least:
            raise ValueError(
                f"{name}: there are {found.shape[1]} {what}s; give {least} or more."
            )
    if not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(
            f"{name}: factors are {factors.dtype}; give integers, the classes of each "
            "factor."
        )
    codes = codes.astype(np.float64)
    if not np.all(np.isfinite(codes)):
        num_bad = np.sum(~np.isfinite(codes))
        raise ValueError(
            f"{name}: {num_bad} of {codes.size} codes are not finite; leave out the "
            "rows that hold them."
        )
    constant = np.flatnonzero(np.all(factors == factors[0], axis=0))
    if constant.size:
        raise ValueError(
            f"{name}: factor {constant[0]} is {factors[0, constant[0]]} in all "
            f"{len(factors)} rows; leave out the "
            "column, or give rows that differ in it."
        )
    return codes, factors


def _generator_of(name: str, key: Key) -> np.random.Generator:
    """NumPy's generator seeded with the data of a typed key; a TypeError for anything
    else.
    """
    if not is_key(key):
        raise TypeError(f"{name}: key is {key!r}; give one of jax.random.key(seed).")
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _classes(factor: np.ndarray) -> np.ndarray:
    return np.unique(factor, return_inverse=True)[1]


def _top_gaps(matrix: np.ndarray) -> np.ndarray:
    """The largest of each column less the second largest."""
    second, largest = np.sort(matrix, axis=0)[-2:]
    return largest - second


def _information_matrix(
    name: str, codes: np.ndarray, factors: np.ndarray, num_bins: int
) -> np.ndarray:
    """I(z_j; v_k) in nats, `[dimensions, num_factors]`, with codes in bins of equal
    width.
    """
    check_count(f"{name}: num_bins", num_bins)
    edges = np.linspace(codes.min(axis=0), codes.max(axis=0), num_bins + 1)[1:-1]
    bins = [
        np.searchsorted(edges[:, j], codes[:, j], side="right")
        for j in range(codes.shape[1])
    ]
    classes = [_classes(factor) for factor in factors.T]
    return np.array(
        [[_mutual_information(code, labels) for labels in classes] for code in bins]
    )


def _mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """sum_ab n_ab / n log(n n_ab / (n_a n_b)) of two columns of classes, exactly 0
    where they are independent.
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
