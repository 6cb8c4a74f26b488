"""Simulated cells with what they are judged by: independent genes, and the truth."""

from typing import Any, NamedTuple

import numpy as np

from experiments.data import cells
from experiments.harness import averages
from experiments.judges import cell_codes, independent_counts, probes


class Study(NamedTuple):
    """One set of cells, with what is fitted to its training part.

    Attributes:
      name: the set in a word.
      world: the distribution of the cells.
      train: training cells.
      test: test cells.
      genes: independent genes.
    """

    name: str
    world: cells.World
    train: cells.Cells
    test: cells.Cells
    genes: independent_counts.Genes

    @property
    def labels(self) -> list[cell_codes.Labels]:
        """Labels of training and test cells."""
        parts = self.train, self.test
        return [cell_codes.Labels(part.clusters, part.batches) for part in parts]


def make_study(name: str, world: cells.World, num_cells: int) -> Study:
    """Draw cells, of which the last quarter is the test set, and fit the genes."""
    drawn = cells.draw_cells(world, num_cells)
    num_train = num_cells - num_cells // 4
    train, test = drawn.where(slice(num_train)), drawn.where(slice(num_train, None))
    return Study(
        name,
        world,
        train,
        test,
        independent_counts.fit_genes(train.counts, log_library(train), train.batches),
    )


def log_library(part: cells.Cells) -> np.ndarray:
    """Return natural logarithms of the library sizes, `[cells]`: the depths."""
    return np.log(part.depths)


class Reference(NamedTuple):
    """NLLs of the test cells without latents, and under their own distribution.

    Attributes:
      truth: the distribution that the cells are drawn from.
      independent: NLL of independent genes, `[cells]`, by covariates: whether the
        library size and whether the batch is given.
    """

    truth: cells.Truth
    independent: dict[tuple[bool, bool], np.ndarray]

    def as_dict(self, study: Study) -> dict[str, Any]:
        """Return means for summary.json."""
        best = self.truth.nll[True, True]
        agreement = probes.agreement(self.truth.clusters, study.test.clusters)
        return {
            "truth": {
                named(given): {"nll": float(nll.mean())}
                for given, nll in self.truth.nll.items()
            },
            "clusters_of_truth": agreement._asdict(),
            "independent": {
                named(given): {
                    "nll": float(nll.mean()),
                    "above_truth": averages.paired(nll[None], best),
                }
                for given, nll in self.independent.items()
            },
            "zeros": float(np.mean(study.test.counts == 0)),
        }


def named(covariates: tuple[bool, bool]) -> str:
    """Return the covariates in words."""
    has_library, has_batch = covariates
    given = ["library size"] * has_library + ["batch"] * has_batch
    return ", ".join(given) or "no covariates"


def reference(study: Study) -> Reference:
    """Return what the test cells cost without latents, and at best."""
    counts, batches = study.test.counts, study.test.batches
    return Reference(
        cells.truth(study.world, study.test),
        study.genes.nll(counts, log_library(study.test), batches),
    )
