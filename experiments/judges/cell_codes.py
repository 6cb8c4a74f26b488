"""Codes of cells: how well they tell clusters, without labels, and batches, with them.

Beside the codes of a model stand principal components of log(1 + x).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.harness import averages, keys
from experiments.judges import probes

METHODS = {"k-means": probes.k_means, "mixture": probes.gaussian_mixture}
CLASSIFIERS = {"linear": probes.linear_accuracy, "neighbors": probes.neighbor_accuracy}
MEASURES = (
    *(f"{kind} {name}" for kind in METHODS for name in probes.Clustering._fields),
    *(f"batch, {kind}" for kind in CLASSIFIERS),
)


class Labels(NamedTuple):
    """Clusters and batches of cells, integers `[cells]`."""

    clusters: np.ndarray
    batches: np.ndarray


class Codes(NamedTuple):
    """Codes of training and test cells, `[cells, dimensions]`."""

    train: np.ndarray
    test: np.ndarray


def measure(codes: Codes, train: Labels, test: Labels) -> dict[str, float]:
    """Return the agreement of clusters with the true ones, and accuracies of the batch.

    Clusters and classifiers are fitted to the training cells and scored on the test
    cells. All are NaN where a code is not finite.
    """
    if not all(np.isfinite(part).all() for part in codes):
        return dict.fromkeys(MEASURES, np.nan)
    found = {}
    for kind, cluster in METHODS.items():
        agreement = cluster(keys.PROBES, *codes, test.clusters)
        found |= {f"{kind} {name}": x for name, x in agreement._asdict().items()}
    for kind, accuracy in CLASSIFIERS.items():
        found[f"batch, {kind}"] = accuracy(
            codes.train, train.batches, codes.test, test.batches
        )
    return found


def over_seeds(found: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Return mean and std of every measure over seeds."""
    return {
        name: averages.over_seeds(np.array([one[name] for one in found]))
        for name in MEASURES
    }


def components(
    counts: Sequence[np.ndarray], sizes: Sequence[np.ndarray], num: int
) -> dict[str, Codes]:
    """Return principal components of training and test cells, by name.

    They are those of log(1 + x), as it is and with the counts of each cell brought to
    the median library size of the training cells first.

    Args:
      counts: `[cells, genes]` of training and of test cells.
      sizes: library sizes, `[cells]` of both.
      num: number of components.
    """
    median = np.median(sizes[0])
    scaled = [
        x * (median / size)[:, None] for x, size in zip(counts, sizes, strict=True)
    ]
    inputs = {"PCA of log1p": counts, "PCA of log1p, scaled": scaled}
    return {
        name: Codes(*probes.principal_components(*map(np.log1p, parts), num))
        for name, parts in inputs.items()
    }
