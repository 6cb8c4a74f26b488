"""How near generated examples are to real ones, as sets of points in a space of
features; on the host, in float64.

A likelihood says how probable real data are; these say whether what a model draws looks
like data (fidelity), and whether all of the data is drawn (diversity). Each depends on
the features and on the number of points of either set: say both beside it, and give the
value of real data that were held out, which is what a perfect model would have.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaejax._checks import check_count

_ROWS_AT_ONCE = 1000


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1].

    Attributes:
      precision: of generated points within the real manifold: fidelity.
      recall: of real points within the generated manifold: diversity.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density and coverage.

    Attributes:
      density: balls about real points that a generated point lies in, on average, over
        the number of neighbors; expected to be 1 of a perfect model, and larger of
        points amid the data, where the balls of many dimensions overlap.
      coverage: share of balls about real points with a generated point in them; see
        `expected_coverage`.
    """

    density: float
    coverage: float


def frechet_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), the squared 2-Wasserstein distance of Gaussians fitted to the features.

    Zero where mean and covariance agree, in the units of the features squared. With few
    points it is too large by what the covariances miss: compare equal numbers only. It
    is the FID only of the features of one published classifier of photographs; of other
    features it is not comparable to any published figure.

    Args:
      real, generated: `[num, features]`, two points or more each.

    Raises:
      ValueError: the sets are not as above, or a feature is not finite.

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
    """Points of one set within the manifold of the other: the union of balls that reach
    to each point's k-th neighbor.

    One outlier's ball is large, and whatever falls into it counts as precise;
    `density_coverage` is steadier.

    Args:
      real, generated: `[num, features]`, of about equal number, more than
        `num_neighbors` each.
      num_neighbors: k, within the point's own set, itself left out; 3 as published.

    Raises:
      ValueError: the sets are not as above, or a feature is not finite.

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
    """In how many balls about real points generated ones lie, and how many balls they
    reach.

    Args:
      real, generated: `[num, features]`; more than `num_neighbors` real points.
      num_neighbors: k: a ball reaches to its real point's k-th real neighbor; 5 as
        published.

    Raises:
      ValueError: the sets are not as above, or a feature is not finite.

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
    """Coverage where both sets come from one distribution, whatever it is: what a
    perfect model is to be held against.

    1 - prod_i (N - i) / (M + N - i) over i = 1, ..., k, of N real and M generated
    points.

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
    per_point: np.ndarray  # [points], how many balls each lies in
    is_reached: np.ndarray  # [balls], whether any point lies in it


def _balls_with(points: np.ndarray, centers: np.ndarray, radii: np.ndarray) -> _Found:
    per_point, is_reached = [], np.zeros(len(centers), bool)
    for first in range(0, len(points), _ROWS_AT_ONCE):
        within = (
            _squared_distances(points[first : first + _ROWS_AT_ONCE], centers) <= radii
        )
        per_point.append(np.sum(within, axis=1))
        is_reached |= np.any(within, axis=0)
    return _Found(np.concatenate(per_point), is_reached)


def _radii(points: np.ndarray, num_neighbors: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other one."""
    found = []
    for first in range(0, len(points), _ROWS_AT_ONCE):
        distances = _squared_distances(points[first : first + _ROWS_AT_ONCE], points)
        rows = np.arange(len(distances))
        distances[
            rows, first + rows
        ] = -1.0  # itself: the nearest, however many duplicates there are
        found.append(np.partition(distances, num_neighbors, axis=1)[:, num_neighbors])
    return np.concatenate(found)


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`[points, others]`, by the matrix product, whose rounding float64 keeps far below
    any distance of features.
    """
    squares = np.sum(points**2, axis=1)[:, None] + np.sum(others**2, axis=1)
    return np.maximum(squares - 2 * points @ others.T, 0.0)


def _check_sets(
    name: str,
    real: ArrayLike,
    generated: ArrayLike,
    num_real_needed: int,
    num_generated_needed: int,
) -> tuple[np.ndarray, np.ndarray]:
    arrays = {
        "real": np.asarray(real, np.float64),
        "generated": np.asarray(generated, np.float64),
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
                f"{name}: there are {len(points)} {what} points; give {needed[what]} "
                "or more."
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
            "generated ones "
            f"{arrays['generated'].shape[1]}; take both from one network."
        )
    # The origin amid the points, so that no digits are lost where features are far from
    # zero.
    middle = np.mean(arrays["real"], axis=0)
    return arrays["real"] - middle, arrays["generated"] - middle
