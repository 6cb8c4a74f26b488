"""Counts whose columns are independent given the library size of their row.

One negative binomial for each column, whose mean is a share of the library size: what a
model with latents is worth is its difference from that one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import digamma, polygamma

from vaejax.base import Array
from vaejax.distributions import NegativeBinomial

# Bounds of log-concentrations, as of `estimators.fit_independent_columns`.
LOG_CONCENTRATION = (-9.0, 19.0)
# Of the iteration: steps at most, the gain of a column over all rows that ends it, in
# nats, and what curvatures are kept away from zero by.
NUM_STEPS, SMALLEST_GAIN, TINY = 100, 1e-3, 1e-12


class Exposed(NamedTuple):
    """Negative binomials whose means are library size times a share.

    Attributes:
      log_shares: `[columns]`.
      log_concentrations: `[columns]`.
    """

    log_shares: np.ndarray
    log_concentrations: np.ndarray

    def log_prob(self, counts: np.ndarray, log_library: np.ndarray) -> np.ndarray:
        """Return log p(x | library size) of `[rows, columns]`, `[rows]`."""
        with jax.enable_x64(True):
            return np.asarray(_log_probs(*map(_double, (*self, counts, log_library))))


def fit(counts: np.ndarray, log_library: np.ndarray) -> Exposed:
    """Fit each column by maximum likelihood: Newton steps in each parameter in turn.

    A column of zeros has the share of half a count in all rows, and concentration 1.

    Args:
      counts: `[rows, columns]`.
      log_library: natural logarithm of the library size of every row, `[rows]`.
    """
    x, log_library = (np.asarray(each, np.float64) for each in (counts, log_library))
    totals, library = x.sum(axis=0), np.exp(log_library)[:, None]
    log_shares = np.log(np.maximum(totals, 0.5) / library.sum())
    log_r, is_zero = np.zeros_like(log_shares), totals == 0
    for _ in range(NUM_STEPS):
        mean, r = library * np.exp(log_shares), np.exp(log_r)
        slope = (r * (x - mean) / (r + mean)).sum(axis=0)
        curvature = ((x + r) * mean * r / np.square(r + mean)).sum(axis=0)
        first = np.where(is_zero, 0, np.clip(slope / curvature, -2, 2))
        log_shares, gain = log_shares + first, first * slope
        slope, curvature = _of_concentration(x, library * np.exp(log_shares), r)
        new = log_r + np.clip(slope / np.abs(curvature), -1, 1)
        second = np.clip(np.where(is_zero, 0, new), *LOG_CONCENTRATION) - log_r
        log_r, gain = log_r + second, gain + second * slope
        if np.all(np.abs(gain) < SMALLEST_GAIN):
            break
    return Exposed(log_shares, log_r)


def _of_concentration(
    x: np.ndarray, mean: np.ndarray, r: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return two derivatives of log-likelihoods by log-concentration, `[columns]`."""
    total = r + mean
    slope = (digamma(x + r) - digamma(r) + np.log(r / total) + 1 - (x + r) / total).sum(
        axis=0
    )
    curvature = (
        polygamma(1, x + r)
        - polygamma(1, r)
        + 1 / r
        - 2 / total
        + (x + r) / np.square(total)
    ).sum(axis=0)
    return r * slope, r * slope + np.square(r) * curvature - TINY


class Genes(NamedTuple):
    """Independent columns by their covariates.

    Attributes:
      alone: without covariates, as given a library size of 1.
      exposed: given the library size.
      of_batches: given the library size, for every batch.
    """

    alone: Exposed
    exposed: Exposed
    of_batches: list[Exposed]

    def nll(
        self, counts: np.ndarray, log_library: np.ndarray, batches: np.ndarray
    ) -> dict[tuple[bool, bool], np.ndarray]:
        """Return the NLL of rows, `[rows]`, by covariates: library size, batch."""
        each = np.stack([one.log_prob(counts, log_library) for one in self.of_batches])
        return {
            (False, False): -self.alone.log_prob(counts, np.zeros(len(counts))),
            (True, False): -self.exposed.log_prob(counts, log_library),
            (True, True): -each[batches, np.arange(len(counts))],
        }


def fit_genes(
    counts: np.ndarray, log_library: np.ndarray, batches: np.ndarray
) -> Genes:
    """Fit the columns with every choice of covariates.

    Args:
      counts: `[rows, columns]`.
      log_library: natural logarithm of the library size of every row, `[rows]`.
      batches: the batch of every row, integers `[rows]`, each of which has some.
    """
    of_batches = [batches == batch for batch in range(batches.max() + 1)]
    return Genes(
        fit(counts, np.zeros(len(counts))),
        fit(counts, log_library),
        [fit(counts[of], log_library[of]) for of in of_batches],
    )


def _double(array: np.ndarray) -> Array:
    return jnp.asarray(np.asarray(array, np.float64))


@jax.jit
def _log_probs(
    log_shares: Array, log_concentrations: Array, counts: Array, log_library: Array
) -> Array:
    def one(row: Array, log_size: Array) -> Array:
        return NegativeBinomial(log_shares + log_size, log_concentrations).log_prob(row)

    return jax.vmap(one)(counts, log_library)
