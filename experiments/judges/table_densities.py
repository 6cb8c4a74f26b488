"""Densities of mixed tables beside a model: a full-covariance Gaussian and mixtures.

A Gaussian has a density on numbers only, and one on classes would lose mass between
them. So it describes Normal scores: y_j = Phi^-1(F_j), where F_j is the distribution
function of column j alone (`fit_independent_columns`), and a discrete value takes a
uniform place within its step of F_j. With independent scores this is exactly the
independent columns, in whose units the log-probability is:

log p(x) = sum_j log p_j(x_j) + log E[p(y) / prod_j N(y_j; 0, 1)],

over the uniform places of the discrete values. The mean over some draws makes it a
lower bound in expectation, as importance weights do.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from vaejax.distributions import Affine, Column, LogNormal, Mixed, RoundedNormal

# Draws of the places of discrete values: per row that is fitted, and that is scored.
FITTED_DRAWS, SCORED_DRAWS = 3, 100
COMPONENTS = (2, 5, 10, 20, 40, 80)
# Added to the variances of a mixture, whose scores have variance 1.
REGULARIZATION = 1e-3
_ROWS_AT_ONCE = 200


class Steps(NamedTuple):
    """Where rows lie in the distribution functions of their columns, `[rows, D]` each.

    Attributes:
      low: F_j just below the value, or 1 - F_j of it where that is smaller.
      mass: probability of the value; 0 for continuous columns.
      sign: 1, or -1 where `low` counts from above.
      score: Normal score of continuous columns, else NaN.
      log_probs: log p_j(x_j).
    """

    low: np.ndarray
    mass: np.ndarray
    sign: np.ndarray
    score: np.ndarray
    log_probs: np.ndarray

    def rows(self, index: Any) -> "Steps":
        """Return some of the rows."""
        return Steps(*(part[index] for part in self))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return Normal scores, `[rows, D]`, one draw of the discrete places."""
        places = self.low + rng.uniform(size=self.low.shape) * self.mass
        drawn = self.sign * scipy.special.ndtri(np.clip(places, 1e-300, 1 - 1e-16))
        return np.where(np.isnan(self.score), drawn, self.score)


def steps_of(columns: Sequence[Column], alone: Mixed, values: np.ndarray) -> Steps:
    """Return where complete rows lie in independent columns.

    Args:
      columns: the columns.
      alone: their independent distributions.
      values: `[rows, D]`.
    """
    values = np.asarray(values, np.float64)
    found = [np.full(values.shape, start) for start in (0.0, 0.0, 1.0, np.nan)]
    low, mass, sign, score = found
    for group, places in zip(alone.distributions, alone.positions, strict=True):
        for index, j in enumerate(places):
            one: Any = jax.tree.map(lambda leaf, i=index: np.float64(leaf[i]), group)
            if isinstance(one, RoundedNormal):
                low[:, j], mass[:, j], sign[:, j] = _normal_steps(one, values[:, j])
            elif isinstance(one, LogNormal):
                score[:, j] = _standardized(one, np.log(values[:, j]))
            elif isinstance(one, Affine):
                score[:, j] = _standardized(
                    one.distribution, (values[:, j] - one.shift) / one.scale
                )
    discrete = [
        j for j, each in enumerate(columns) if each.kind not in ("real", "positive")
    ]
    if discrete:
        below, own = _whole_steps(alone, values[:, discrete].astype(int), discrete)
        low[:, discrete], mass[:, discrete] = below, own
    log_probs = jax.jit(jax.vmap(alone.column_log_probs))(jnp.float32(values))
    return Steps(low, mass, sign, score, np.asarray(log_probs, np.float64))


def _standardized(normal: Any, cells: np.ndarray) -> np.ndarray:
    # A log-normal has a location, a Normal a mean.
    center = normal.location if isinstance(normal, LogNormal) else normal.mean
    return (cells - center) / np.exp(normal.log_variance / 2)


def _normal_steps(
    column: RoundedNormal, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `low`, `mass` and `sign` of values that lie in steps."""
    stddev = np.exp(column.log_variance / 2)
    middle = cells - column.origin - column.location
    low, high = ((middle + side * column.step / 2) / stddev for side in (-1, 1))
    half = column.step / 2
    low = np.where(cells < column.lower + half, -np.inf, low)
    high = np.where(cells > column.upper - half, np.inf, high)
    # From the nearer end, where a distribution function keeps its digits.
    sign = np.where(middle > 0, -1.0, 1.0)
    low, high = np.where(sign > 0, low, -high), np.where(sign > 0, high, -low)
    below = scipy.special.ndtr(low)
    return below, scipy.special.ndtr(high) - below, sign


def _whole_steps(
    alone: Mixed, values: np.ndarray, places: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return `low` and `mass` of values 0, 1, 2 and so on."""
    numbers = jnp.arange(values.max() + 1, dtype=jnp.float32)
    num_columns = sum(map(len, alone.positions))

    def log_probs(number: Any) -> Any:
        return alone.column_log_probs(jnp.full(num_columns, number))

    every = np.asarray(jax.jit(jax.vmap(log_probs))(numbers), np.float64)[:, places]
    masses = np.nan_to_num(np.exp(every))
    below = np.concatenate([np.zeros((1, len(places))), np.cumsum(masses, axis=0)])
    return (
        np.take_along_axis(below, values, axis=0),
        np.take_along_axis(masses, values, axis=0),
    )


LogDensity = Callable[[np.ndarray], np.ndarray]


def gaussian(train: Steps, rng: np.random.Generator) -> LogDensity:
    """Return the log-density of scores under one full-covariance Gaussian."""
    scores = np.concatenate([train.draw(rng) for _ in range(FITTED_DRAWS)])
    model = scipy.stats.multivariate_normal(
        scores.mean(axis=0), np.cov(scores, rowvar=False), allow_singular=True
    )
    return lambda y: np.atleast_1d(model.logpdf(y))


def gaussian_mixture(train: Steps, rng: np.random.Generator) -> tuple[LogDensity, int]:
    """Return the log-density of scores under a full-covariance mixture, and its size.

    The number of components, of `COMPONENTS`, is that with the largest log-density on a
    fifth of the training rows, which are then fitted too.
    """
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    def fit(rows: Steps, size: int) -> Any:
        scores = np.concatenate([rows.draw(rng) for _ in range(FITTED_DRAWS)])
        mixture = GaussianMixture(size, reg_covar=REGULARIZATION, random_state=0)
        # Products of few numbers are slower on many threads.
        with threadpool_limits(1):
            return mixture.fit(scores)

    order = rng.permutation(len(train.low))
    held_out = train.rows(order[: len(order) // 5])
    kept = train.rows(order[len(order) // 5 :])
    sizes = [size for size in COMPONENTS if size <= len(kept.low) // 10]
    scores = [
        log_probs(held_out, fit(kept, size).score_samples, rng).mean() for size in sizes
    ]
    best = sizes[int(np.argmax(scores))]
    return fit(train, best).score_samples, best


def log_probs(
    rows: Steps, log_density: LogDensity, rng: np.random.Generator
) -> np.ndarray:
    """Return a lower bound of log p(x) of each row in the units of the file, `[rows]`.

    Args:
      rows: the rows.
      log_density: log-density of scores, `[any, D] -> [any]`.
      rng: draws the places of discrete values, `SCORED_DRAWS` per row.
    """
    found = []
    for start in range(0, len(rows.low), _ROWS_AT_ONCE):
        part = rows.rows(slice(start, start + _ROWS_AT_ONCE))
        draws = np.stack([part.draw(rng) for _ in range(SCORED_DRAWS)])
        flat = draws.reshape(-1, draws.shape[-1])
        independent = scipy.stats.norm.logpdf(flat).sum(axis=1)
        ratios = (log_density(flat) - independent).reshape(draws.shape[:2])
        best = scipy.special.logsumexp(ratios, axis=0) - np.log(SCORED_DRAWS)
        found.append(part.log_probs.sum(axis=1) + best)
    return np.concatenate(found)
