"""Distances of generated examples from real ones, as sets of points of features.

A likelihood says how probable real data are; these numbers say whether generated
examples look like data (fidelity) and whether they cover all of the data (diversity).
Each depends on the features and on the number of points of either set: report both
beside it, with the value of real data that were held out, which is that of a perfect
model. All computation is in float64 on the host.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaejax._checks import as_numbers, check_count

_ROWS_AT_ONCE = 1000
_NUMBERS_AT_ONCE = 1 << 22


class PrecisionRecall(NamedTuple):
    """Precision and recall of generated points, in [0, 1].

    Attributes:
      precision: share of generated points within the real manifold: fidelity.
      recall: share of real points within the generated manifold: diversity.

    Example:
      >>> from vaejax.metrics import PrecisionRecall
      >>> PrecisionRecall(precision=0.8, recall=0.3).recall
      0.3
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density and coverage of generated points.

    Attributes:
      density: mean number of balls about real points that a generated point lies in,
        divided by the number of neighbors; about 1 for a perfect model, and larger for
        points in the midst of the data, where the balls of many dimensions overlap.
      coverage: share of balls about real points with a generated point in them, in
        [0, 1]; see `expected_coverage`.

    Example:
      >>> from vaejax.metrics import DensityCoverage
      >>> DensityCoverage(density=1.1, coverage=0.7).coverage
      0.7
    """

    density: float
    coverage: float


def frechet_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """Compute the Frechet distance of Gaussians fitted to two sets of features.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), the squared 2-Wasserstein distance, is
    zero where mean and covariance agree, in the units of the features squared. With few
    points the fitted covariances make it too large: compare equal numbers of points
    only. It is the FID only for the features of one published classifier of
    photographs; for other features it is not comparable to any published figure.

    Args:
      real, generated: `[num, features]`, finite, two or more points each.

    Returns:
      The distance, at least 0.

    Raises:
      ValueError: a set is not two-dimensional, has fewer than two points or holds NaN
        or infinity, or the sets differ in the number of features.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import frechet_distance
      >>> real = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 0.0]])
      >>> round(frechet_distance(real, real + [3.0, 4.0]), 3)
      25.0

    Source: Frechet 1957; of features, Heusel et al. 2017, equation 6.
    """
    real, generated = _check_sets("frechet_distance", real, generated, 2, 2)
    means = [np.mean(points, axis=0) for points in (real, generated)]
    one, other = (
        np.atleast_2d(np.cov(points, rowvar=False)) for points in (real, generated)
    )
    # (C C')^(1/2) has the eigenvalues of (C^(1/2) C' C^(1/2))^(1/2), which is
    # symmetric: no complex roots.
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sum(np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)))
    distance = (
        np.sum((means[0] - means[1]) ** 2) + np.trace(one) + np.trace(other) - 2 * cross
    )
    return float(max(distance, 0.0))


def precision_recall(
    real: ArrayLike, generated: ArrayLike, *, num_neighbors: int = 3
) -> PrecisionRecall:
    """Compute the shares of points of one set within the manifold of the other.

    The manifold of a set is the union of balls that reach from each of its points to
    the k-th neighbor. The ball of one outlier is large, and whatever falls into it
    counts as precise; `density_coverage` is more robust.

    Args:
      real, generated: `[num, features]`, finite, of about equal number, more than
        `num_neighbors` each.
      num_neighbors: k, counted within the point's own set without itself, at least 1; 3
        as published.

    Returns:
      Precision and recall.

    Raises:
      ValueError: a set is not two-dimensional, is empty or holds NaN or infinity, the
        sets differ in the number of features, a set has at most `num_neighbors`
        points, or `num_neighbors` is not a positive integer.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import precision_recall
      >>> real = np.array([[0.0], [1.0], [3.0], [7.0]])
      >>> generated = np.array([[0.5], [3.5], [20.0], [21.0]])
      >>> precision_recall(real, generated, num_neighbors=1)
      PrecisionRecall(precision=0.5, recall=0.75)

    Source: Kynkaanniemi et al. 2019, equations 1 and 2.
    """
    check_count("num_neighbors", num_neighbors)
    real, generated = _check_sets(
        "precision_recall", real, generated, num_neighbors + 1, num_neighbors + 1
    )
    return PrecisionRecall(
        float(
            np.mean(
                _balls_with(generated, real, _radii(real, num_neighbors)).per_point > 0
            )
        ),
        float(
            np.mean(
                _balls_with(real, generated, _radii(generated, num_neighbors)).per_point
                > 0
            )
        ),
    )


def density_coverage(
    real: ArrayLike, generated: ArrayLike, *, num_neighbors: int = 5
) -> DensityCoverage:
    """Compute how densely generated points fill, and cover, balls about real points.

    A ball reaches from its real point to the k-th real neighbor. Density counts the
    balls that a generated point lies in, coverage the balls that are reached.

    Args:
      real, generated: `[num, features]`, finite; more than `num_neighbors` real points.
      num_neighbors: k, at least 1; 5 as published.

    Returns:
      Density and coverage.

    Raises:
      ValueError: a set is not two-dimensional, is empty or holds NaN or infinity, the
        sets differ in the number of features, the real set has at most `num_neighbors`
        points, or `num_neighbors` is not a positive integer.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import density_coverage
      >>> real = np.array([[0.0], [1.0], [3.0], [7.0]])
      >>> generated = np.array([[0.5], [3.5], [20.0], [21.0]])
      >>> density_coverage(real, generated, num_neighbors=1)
      DensityCoverage(density=1.0, coverage=1.0)

    Source: Naeem et al. 2020, equations 3 and 4.
    """
    check_count("num_neighbors", num_neighbors)
    real, generated = _check_sets(
        "density_coverage", real, generated, num_neighbors + 1, 1
    )
    found = _balls_with(generated, real, _radii(real, num_neighbors))
    return DensityCoverage(
        float(np.sum(found.per_point) / (num_neighbors * len(generated))),
        float(np.mean(found.is_reached)),
    )


def expected_coverage(
    num_real: int, num_generated: int, *, num_neighbors: int = 5
) -> float:
    """Return the expected coverage where both sets come from one distribution.

    It is the value for a perfect model, whatever the distribution:
    1 - prod_i (N - i) / (M + N - i) over i = 1, ..., k, for N real and M generated
    points.

    Args:
      num_real: N, more than `num_neighbors`.
      num_generated: M, at least 1.
      num_neighbors: k, at least 1.

    Returns:
      The expectation of `DensityCoverage.coverage`, in (0, 1).

    Raises:
      ValueError: a count is not a positive integer, or there are not more real points
        than neighbors.

    Example:
      >>> from vaejax.metrics import expected_coverage
      >>> round(expected_coverage(5000, 5000), 3)
      0.969

    Source: Naeem et al. 2020, lemma 2.
    """
    for name, value in {
        "num_real": num_real,
        "num_generated": num_generated,
        "num_neighbors": num_neighbors,
    }.items():
        check_count(name, value)
    if num_neighbors >= num_real:
        raise ValueError(
            f"expected_coverage: num_neighbors is {num_neighbors} of {num_real} real "
            "points; give fewer."
        )
    i = np.arange(1, num_neighbors + 1)
    return float(1 - np.prod((num_real - i) / (num_real + num_generated - i)))


class _Found(NamedTuple):
    per_point: np.ndarray  # [points], the number of balls that each lies in
    is_reached: np.ndarray  # [balls], True where a point lies in it


def _balls_with(points: np.ndarray, centers: np.ndarray, radii: np.ndarray) -> _Found:
    per_point, is_reached = [], np.zeros(len(centers), bool)
    for first in range(0, len(points), _ROWS_AT_ONCE):
        rows = points[first : first + _ROWS_AT_ONCE]
        distances = _squared_distances(rows, centers)
        _refine(distances, rows, centers, radii[None])
        within = distances <= radii
        per_point.append(np.sum(within, axis=1))
        is_reached |= np.any(within, axis=0)
    return _Found(np.concatenate(per_point), is_reached)


def _radii(points: np.ndarray, num_neighbors: int) -> np.ndarray:
    """Return the squared distance of each point to its k-th nearest other point."""
    found = []
    for first in range(0, len(points), _ROWS_AT_ONCE):
        rows = points[first : first + _ROWS_AT_ONCE]
        distances = _squared_distances(rows, points)
        # Itself: the nearest, however many duplicates there are.
        own = np.arange(len(rows)), first + np.arange(len(rows))
        distances[own] = -1.0
        nearly = np.partition(distances, num_neighbors, axis=1)[:, num_neighbors]
        _refine(distances, rows, points, nearly[:, None])
        distances[own] = -1.0
        found.append(np.partition(distances, num_neighbors, axis=1)[:, num_neighbors])
    return np.concatenate(found)


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return `[points, others]`, by the matrix product."""
    return np.maximum(_squares(points, others) - 2 * points @ others.T, 0.0)


def _refine(
    distances: np.ndarray,
    points: np.ndarray,
    others: np.ndarray,
    thresholds: np.ndarray,
) -> None:
    """Recompute squared distances that rounding may bring across their threshold.

    They are those of the differences then, so that a copy lies at distance 0 and equal
    distances are equal.
    """
    # Twice a bound of the sums' and the product's: the threshold may be off as well.
    share = 4 * (points.shape[1] + 6) * np.finfo(np.float64).eps
    near = np.abs(distances - thresholds) <= share * _squares(points, others)
    rows, columns = np.nonzero(near)
    step = max(1, _NUMBERS_AT_ONCE // points.shape[1])
    for first in range(0, len(rows), step):
        pairs = rows[first : first + step], columns[first : first + step]
        distances[pairs] = np.sum((points[pairs[0]] - others[pairs[1]]) ** 2, axis=1)


def _squares(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.sum(points**2, axis=1)[:, None] + np.sum(others**2, axis=1)


def _check_sets(
    name: str,
    real: ArrayLike,
    generated: ArrayLike,
    num_real_needed: int,
    num_generated_needed: int,
) -> tuple[np.ndarray, np.ndarray]:
    arrays = {
        what: np.asarray(as_numbers(f"{name}: {what}", points), np.float64)
        for what, points in (("real", real), ("generated", generated))
    }
    needed = {"real": num_real_needed, "generated": num_generated_needed}
    for what, points in arrays.items():
        if points.ndim != 2 or points.shape[1] < 1:
            raise ValueError(
                f"{name}: the {what} points have shape {points.shape}; give [num, "
                "features]."
            )
        if len(points) < needed[what]:
            raise ValueError(
                f"{name}: there are {len(points)} {what} points, of shape "
                f"{points.shape}; give {needed[what]} or more."
            )
        if not np.isfinite(points).all():
            row = int(np.argmin(np.isfinite(points).all(axis=1)))
            raise ValueError(
                f"{name}: {what} point {row} has a feature that is not finite; leave "
                "such points out."
            )
    if arrays["real"].shape[1] != arrays["generated"].shape[1]:
        raise ValueError(
            f"{name}: real points have {arrays['real'].shape[1]} features and "
            f"generated ones {arrays['generated'].shape[1]}; take both from one "
            "network."
        )
    # With the origin amid the points, features far from zero lose no digits.
    middle = np.mean(arrays["real"], axis=0)
    if all(np.array_equal(points, np.rint(points)) for points in arrays.values()):
        # Of whole numbers, sums and products stay exact.
        middle = np.rint(middle)
    return arrays["real"] - middle, arrays["generated"] - middle
