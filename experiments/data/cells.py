"""Simulated counts of cells, of which all is known: clusters, batches, and log p(x).

The counts of a cell are negative binomial. Their means are the cell's depth times the
shares of its cluster in its batch: Gamma-distributed expressions of the genes, changed
by log-Normal factors, in some genes for a cluster and in all for a batch. A count may
be missed and read as zero, whatever it is. The genes stand for a few of a cell's, whose
total over all genes tells the depth: the depth is known, and not a function of counts.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

from experiments.harness import keys

# Expressions of the genes: Gamma of this shape.
EXPRESSION_SHAPE = 0.3
# Clusters: share of the genes that change, and standard deviation of the log-factors.
CHANGED, CLUSTER_SPREAD = 0.3, 1.5
# Batches: standard deviation of the log-factors of all genes.
BATCH_SPREAD = 0.5
# Log-depth: mean and standard deviation of a Normal.
LOG_DEPTH, DEPTH_SPREAD = 6.0, 1.5
# Concentration of every count: the variance is mean + mean^2 / concentration.
CONCENTRATION = 1.0
# Depths of the quadrature of log p(x), and how many standard deviations they reach.
NODES, REACH = 201, 5.0


class World(NamedTuple):
    """The distribution that cells are drawn from.

    Attributes:
      log_shares: log-share of every gene, `[clusters, batches, genes]`.
      missed: share of counts that are read as zero.
    """

    log_shares: np.ndarray
    missed: float


class Cells(NamedTuple):
    """Cells and what is known of them.

    Attributes:
      counts: `[cells, genes]`, float32.
      clusters: `[cells]`, integers.
      batches: `[cells]`, integers.
      depths: expected sum of the counts that are not missed, `[cells]`.
    """

    counts: np.ndarray
    clusters: np.ndarray
    batches: np.ndarray
    depths: np.ndarray

    def where(self, chosen: np.ndarray | slice) -> "Cells":
        """Return some of the cells."""
        return Cells(*(array[chosen] for array in self))


def make_world(
    num_genes: int, num_clusters: int, num_batches: int, missed: float = 0.0
) -> World:
    """Return shares of genes, the same ones at every call."""
    random = np.random.default_rng([keys.CELLS, 0])
    expressions = np.log(random.gamma(EXPRESSION_SHAPE, size=num_genes))
    changes = random.normal(0, CLUSTER_SPREAD, (num_clusters, num_genes))
    changes *= random.random((num_clusters, num_genes)) < CHANGED
    of_batches = random.normal(0, BATCH_SPREAD, (num_batches, num_genes))
    log_shares = expressions + changes[:, None] + of_batches
    return World(
        log_shares - logsumexp(log_shares, axis=-1, keepdims=True), float(missed)
    )


def draw_cells(world: World, num: int) -> Cells:
    """Draw cells, the same ones at every call.

    A count that is not missed is the same in worlds that differ in missed counts alone.
    """
    random, misses = (np.random.default_rng([keys.CELLS, i]) for i in (1, 2))
    num_clusters, num_batches, num_genes = world.log_shares.shape
    clusters = random.integers(num_clusters, size=num)
    batches = random.integers(num_batches, size=num)
    depths = np.exp(random.normal(LOG_DEPTH, DEPTH_SPREAD, num))
    means = depths[:, None] * np.exp(world.log_shares[clusters, batches])
    rates = means * random.gamma(CONCENTRATION, 1 / CONCENTRATION, means.shape)
    counts = random.poisson(rates)
    is_missed = misses.random((num, num_genes)) < world.missed
    return Cells(np.float32(np.where(is_missed, 0, counts)), clusters, batches, depths)


class Truth(NamedTuple):
    """NLLs and clusters of cells by the distribution that they are drawn from.

    Attributes:
      nll: -log p(x | covariates), `[cells]`, by whether the depth and whether the batch
        is given.
      clusters: the likeliest cluster of each cell, given both, `[cells]`.
    """

    nll: dict[tuple[bool, bool], np.ndarray]
    clusters: np.ndarray


def truth(world: World, cells: Cells) -> Truth:
    """Return log p(x) of cells; by quadrature over their depths, where not given."""
    num_clusters, num_batches, num_genes = world.log_shares.shape
    nodes = np.linspace(-REACH, REACH, NODES)
    log_weights = -np.square(nodes) / 2
    log_weights -= logsumexp(log_weights)
    shares = world.log_shares.reshape(-1, 1, num_genes)
    log_means = shares + (LOG_DEPTH + DEPTH_SPREAD * nodes)[:, None]
    log_probs = _log_probs(log_means.reshape(-1, num_genes), world.missed, cells.counts)
    by_quadrature = logsumexp(
        log_probs.reshape(len(cells.counts), -1, NODES) + log_weights, axis=-1
    )
    given_depth = np.concatenate(
        [
            _log_probs(shares[:, 0] + np.log(depth), world.missed, x[None])
            for x, depth in zip(cells.counts, cells.depths, strict=True)
        ]
    )
    nll, clusters = {}, np.zeros(0, int)
    for has_depth, each in ((False, by_quadrature), (True, given_depth)):
        of_each = each.reshape(-1, num_clusters, num_batches)
        nll[has_depth, False] = -logsumexp(of_each, axis=(1, 2)) + np.log(
            num_clusters * num_batches
        )
        of_batch = of_each[np.arange(len(each)), :, cells.batches]
        nll[has_depth, True] = -logsumexp(of_batch, axis=1) + np.log(num_clusters)
        clusters = of_batch.argmax(axis=1)
    return Truth(nll, clusters)


def _log_probs(log_means: np.ndarray, missed: float, counts: np.ndarray) -> np.ndarray:
    """Return log p(x) of `[cells, genes]` for `[means, genes]`, `[cells, means]`."""
    r, x = CONCENTRATION, counts.astype(np.float64)
    log_total = np.logaddexp(log_means, np.log(r))
    at_zero = r * (np.log(r) - log_total)
    with np.errstate(divide="ignore"):
        log_missed, log_read = np.log(missed), np.log1p(-missed)
    constants = gammaln(x + r) - gammaln(r) - gammaln(x + 1)
    # The same sum over genes as products of matrices: counts times logarithms.
    return (
        constants.sum(axis=1)[:, None]
        + x @ (log_means - log_total).T
        + (x > 0) @ (log_read + at_zero).T
        + (x == 0) @ np.logaddexp(log_missed, log_read + at_zero).T
    )
