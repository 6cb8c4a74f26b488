"""VAEs of single-cell counts: library size and batch as conditions, zero inflation.

The cells are simulated, so that clusters, batches and log p(x) are known. One VAE is
trained on raw counts as the encoder's input and on log(1 + x); with the library size as
a covariate of the likelihood; with the batch as a condition of encoder and decoder too;
with a zero-inflated likelihood; and on cells some of whose counts were missed. Beside
them stand one negative binomial for each gene, without latents and with the same
covariates, and principal components of log(1 + x).

The library size is the depth of the cell, as its total over all genes tells it where
the modeled ones are few. The sum of the modeled counts would be a function of x, and an
NLL given it would not compare with an NLL without.

Papers: Lopez et al. 2018 (scVI); Sohn et al. 2015 (conditions).
Command: python -m experiments.counts
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.data import cells
from experiments.harness import (
    averages,
    cli,
    evaluation,
    keys,
    model_options,
    verdict,
)
from experiments.harness.figures import over_epochs
from experiments.judges import cell_codes, cell_study, probes
from vaejax import datasets, distributions, models, networks, plots
from vaejax.base import Array, HeadLike

ABOUT = harness.About(
    what="single-cell counts: library size and batch as conditions, zero inflation",
    paper="Lopez et al. 2018",
    cost="7 minutes of processor time, 3 seeds",
    expected=(
        "NLL 2.8 nats lower with the library size, 1.6 with the batch; the batch is "
        "told from 0.39 of the codes given it, from 0.85 without"
    ),
)

SIMULATED = "simulated"
# Log-odds of a replaced count where a zero-inflated model starts.
ZERO_LOGITS = -3.0
# Smallest standard deviation of log(1 + x) that an encoder's input is divided by.
SMALLEST_SCALE = 0.1


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: str = SIMULATED
    """Data set: simulated, the only one. For tables of counts of your own there is
    python -m experiments.own_data.
    """
    num_cells: int = 4000
    """Simulated cells; the last quarter of them is the test set."""
    num_genes: int = 100
    """Genes of a cell."""
    num_clusters: int = 6
    """Clusters of cells, equally frequent, independent of the batch."""
    num_batches: int = 3
    """Batches of cells, equally frequent."""
    missed: float = 0.2
    """Share of counts that are read as zero in the second data set."""
    num_seeds: int = 3
    """Number of seeds of every model; numbers are mean and std over them."""
    epochs: int = 40
    """Passes over the training cells; the learning rate decays to zero over them."""
    latent_size: int = 10
    """Dimensions of z, and number of principal components."""
    hidden_size: int = 128
    """Width of the hidden layer on either side."""
    batch_size: int = 100
    """Cells per step."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    num_samples: int = 100
    """Importance samples per cell of the test NLL."""


class Arm(NamedTuple):
    """The choices in which the models differ.

    Attributes:
      sees_log1p: whether the encoder sees log(1 + x), standardized, or raw counts.
      has_library: whether means are shares of the library size.
      has_batch: whether encoder and decoder are given the batch.
      likelihood: the likelihood, a class of counts.
      is_missed: whether the cells are those with missed counts.
    """

    sees_log1p: bool = True
    has_library: bool = True
    has_batch: bool = True
    likelihood: HeadLike = distributions.NegativeBinomial
    is_missed: bool = False

    @property
    def covariates(self) -> tuple[bool, bool]:
        return self.has_library, self.has_batch


INFLATED = distributions.ZeroInflatedNegativeBinomial
ARMS = {
    "raw counts": Arm(sees_log1p=False, has_library=False, has_batch=False),
    "log1p": Arm(has_library=False, has_batch=False),
    "library size": Arm(has_batch=False),
    "library size, batch": Arm(),
    "zero-inflated": Arm(likelihood=INFLATED),
    "missed counts": Arm(is_missed=True),
    "missed counts, zero-inflated": Arm(likelihood=INFLATED, is_missed=True),
}
RAW, LOG1P, LIBRARY, BATCH, ZERO_INFLATED, MISSED, MISSED_INFLATED = ARMS
# Models that differ in one thing: the first less the second.
PAIRS = {
    "log1p less raw counts": (LOG1P, RAW),
    "library size less none": (LIBRARY, LOG1P),
    "batch less none": (BATCH, LIBRARY),
    "zero-inflated less plain": (ZERO_INFLATED, BATCH),
    "zero-inflated less plain, missed counts": (MISSED_INFLATED, MISSED),
}
MAPPED = "PCA of log1p, scaled"


class Condition(NamedTuple):
    """The covariates of a cell.

    Attributes:
      batch: one-hot, `[batches]`.
      log_library: natural logarithm of the library size, scalar.
    """

    batch: Array
    log_library: Array


def make_study(config: Config, is_missed: bool) -> cell_study.Study:
    """Return cells, all of whose counts are read or some of them missed."""
    name = "missed counts" if is_missed else "all counts"
    sizes = config.num_genes, config.num_clusters, config.num_batches
    world = cells.make_world(*sizes, missed=config.missed * is_missed)
    return cell_study.make_study(name, world, config.num_cells)


def examples_of(part: cells.Cells, num_batches: int) -> models.Conditioned:
    """Return cells as a model takes them: counts with their condition."""
    batches = np.eye(num_batches, dtype=np.float32)[part.batches]
    return models.Conditioned(
        part.counts, Condition(batches, np.float32(cell_study.log_library(part)))
    )


def make_family(config: Config, arm: Arm, study: cell_study.Study) -> models.VAEFamily:
    """Return the conditional VAE of one arm, which starts at independent genes."""
    genes = study.genes.exposed if arm.has_library else study.genes.alone
    outputs = [
        *genes,
        *[np.full(len(genes[0]), ZERO_LOGITS)] * (arm.likelihood is INFLATED),
    ]
    start = jnp.asarray(np.stack(outputs, axis=1), jnp.float32)
    logs = np.log1p(study.train.counts.astype(np.float64))
    units = distributions.Log1pUnits(
        tuple(logs.mean(axis=0).tolist()),
        tuple(np.maximum(logs.std(axis=0), SMALLEST_SCALE).tolist()),
    )

    def family(condition: Condition) -> vaejax.VAE:
        hidden = (config.hidden_size,)
        encoder: Any = vaejax.MLP(hidden)
        decoder: Any = vaejax.MLP(hidden, start.shape)
        if arm.has_batch:
            encoder, decoder = (
                networks.with_condition(network, condition.batch)
                for network in (encoder, decoder)
            )
        likelihood = arm.likelihood
        if arm.has_library:
            likelihood = distributions.with_library_size(
                likelihood, condition.log_library
            )
        vae = vaejax.gaussian_vae(
            latent_size=config.latent_size,
            encoder=encoder,
            decoder=decoder,
            likelihood=distributions.with_initial_outputs(likelihood, start),
        )
        vae = model_options.in_compute_dtype(config, vae)
        return models.with_units(vae, units) if arm.sees_log1p else vae

    return family


def make_experiment(config: Config) -> harness.Comparison:
    probes.check_installed()
    _check(config)
    studies = {is_missed: make_study(config, is_missed) for is_missed in (False, True)}
    parts = [part for study in studies.values() for part in (study.train, study.test)]
    kept, held_out = harness.hold_out(
        datasets.Dataset(np.arange(len(parts[0].counts)), None), config.num_validation
    )
    num_steps = config.epochs * harness.steps_per_epoch(kept.images, config.batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))

    def experiment(arm: Arm) -> harness.Experiment:
        study = studies[arm.is_missed]
        family = make_family(config, arm, study)
        train, test = (
            examples_of(part, config.num_batches) for part in (study.train, study.test)
        )
        loss_fn = vaejax.mean_over_batch(
            models.conditional(vaejax.negative_elbo, family)
        )
        return harness.Experiment(
            vae=models.conditional_vae(family, condition=_at(train.condition, 0)),
            recipe=lambda hyperparameters: harness.Recipe(loss_fn, optimizer),
            hyperparameters={},
            batch_size=config.batch_size,
            train=_at(train, kept.images),
            test=test,
            data_checksum=datasets.checksum(
                *(datasets.Dataset(part.counts, part.clusters) for part in parts)
            ),
            binarization="none",
            num_samples=config.num_samples,
            validation=None if held_out is None else _at(train, held_out.images),
        )

    return harness.Comparison(
        {name: experiment(arm) for name, arm in ARMS.items()}, context=studies
    )


def _at(tree: Any, places: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[places], tree)


def _check(config: Config) -> None:
    """Raise UsageError where no cells can be made of the options."""
    if config.data != SIMULATED:
        raise harness.UsageError(
            f"--data is {harness.one_line(config.data)}; give {SIMULATED}, or train on "
            "a table of counts with python -m experiments.own_data."
        )
    if not 0 <= config.missed < 1:
        raise harness.UsageError(
            f"--missed is {config.missed}; give a share of at least 0 and below 1."
        )
    for flag in ("num-clusters", "num-batches"):
        if (value := getattr(config, flag.replace("-", "_"))) < 2:
            raise harness.UsageError(f"--{flag} is {value}; give at least 2.")
    needed = 40 * config.num_clusters * config.num_batches
    if config.num_cells < needed:
        raise harness.UsageError(
            f"--num-cells is {config.num_cells}; give at least {needed}: about 10 test "
            "cells of every cluster in every batch."
        )
    if config.latent_size > config.num_genes:
        raise harness.UsageError(
            f"--latent-size is {config.latent_size}; give at most the number of genes, "
            f"{config.num_genes}, beside as many principal components."
        )


def analyze(trained: harness.Trained) -> harness.Result:
    """Compare all models with independent genes, the truth and components."""
    studies: dict[bool, cell_study.Study] = trained.context
    references = {
        is_missed: cell_study.reference(study) for is_missed, study in studies.items()
    }
    summaries, bounds, shown = {}, {}, {}
    for name, arm in ARMS.items():
        study, beside = studies[arm.is_missed], references[arm.is_missed]
        numbers = evaluation.evaluate(trained, name)
        bounds[name] = numbers["nll_of_each"].astype(np.float64)
        codes, shown[name] = codes_of(trained, name, study)
        summaries[name] = evaluation.summarize(numbers, trained.experiments[name])
        summaries[name] |= codes | {
            "above_truth": averages.paired(bounds[name], beside.truth.nll[True, True]),
            "less_independent": averages.paired(
                bounds[name], beside.independent[arm.covariates]
            ),
        }
        trained.check_interrupts()
    study = studies[False]
    parts = study.train, study.test
    components = cell_codes.components(
        [part.counts for part in parts],
        [part.depths for part in parts],
        trained.config.latent_size,
    )
    shown[MAPPED] = components[MAPPED].test
    summary = {
        "binarization": "none",
        "units": "nats per cell, of a probability of counts",
        "num_train_cells": len(study.train.counts),
        "num_test_cells": len(study.test.counts),
        "chance": float(np.bincount(study.test.batches).max() / len(study.test.counts)),
        "beside": {
            studies[is_missed].name: beside.as_dict(studies[is_missed])
            for is_missed, beside in references.items()
        },
        "test": summaries,
        "components": {
            name: cell_codes.over_seeds([cell_codes.measure(codes, *study.labels)])
            for name, codes in components.items()
        },
        "differences": {
            name: averages.paired(bounds[first], bounds[second])
            for name, (first, second) in PAIRS.items()
        },
    }
    judged = verdict.judge(
        -references[False].independent[ARMS[BATCH].covariates],
        -np.nanmean(bounds[BATCH], axis=0),
    )
    return harness.Result(
        summary=summary | {"verdict": judged.as_dict()},
        headline=_headline(summary),
        about=f"{summary['num_test_cells']:,} simulated test cells; "
        f"{trained.members.describe()}; nats per cell; NLL bound: "
        f"{trained.config.num_samples} importance samples; truth: the distribution "
        "that the cells are drawn from, given library size and batch; less "
        "independent: relative to independent genes with the same covariates; ARI, "
        "NMI: clusters of codes by k-means and the simulated ones; batch: accuracy of "
        f"a linear classifier of the batch, by chance {summary['chance']:.2f}",
        header=("model", "NLL bound", "above truth", "less independent", "KL")
        + ("ARI", "NMI", "batch"),
        rows=_rows(summary),
        figures=partial(figures, summary, shown, trained.history, study.test),
        captions={
            "above_truth": "NLL above that of the distribution that the cells "
            "are drawn from: independent genes and VAEs; mean and std over seeds.",
            "clusters": "Test cells by their codes (t-SNE), colored by cluster.",
            "batches": "The same points, colored by batch.",
            "negative_elbo": "Negative ELBO of the test cells after every epoch; raw "
            "counts are left out.",
        },
        verdict=judged.lines(),
    )


def codes_of(
    trained: harness.Trained, name: str, study: cell_study.Study
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the measures of a model's codes over seeds, and the first seed's codes."""
    embed = jax.jit(partial(vaejax.embed, trained.experiments[name].vae))
    parts = [
        examples_of(part, trained.config.num_batches)
        for part in (study.train, study.test)
    ]
    codes = [
        cell_codes.Codes(
            *(np.asarray(embed(trained.state(name, i).params, part)) for part in parts)
        )
        for i in range(trained.members.num)
    ]
    found = [cell_codes.measure(each, *study.labels) for each in codes]
    return cell_codes.over_seeds(found), codes[0].test


def _headline(summary: dict[str, Any]) -> str:
    differences, test = summary["differences"], summary["test"]
    of_library, of_batch = (
        averages.with_error(differences[f"{what} less none"], 2, "+")
        for what in ("library size", "batch")
    )
    without, given = (
        averages.text(test[name]["batch, linear"], 2) for name in (LIBRARY, BATCH)
    )
    return (
        f"the library size changes the NLL by {of_library} nats a cell, the batch by "
        f"{of_batch}; the batch is told from {without} of the codes without it and "
        f"{given} with it, by chance {summary['chance']:.2f}"
    )


def _rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    def of_codes(numbers: Mapping[str, Any]) -> list[str]:
        names = "k-means ari", "k-means nmi", "batch, linear"
        return [averages.text(numbers[name], 2) for name in names]

    rows = [
        (
            name,
            *(averages.text(numbers[key], 2) for key in ("nll", "above_truth")),
            averages.text(numbers["less_independent"], 2, "+"),
            averages.text(numbers["kl"], 2),
            *of_codes(numbers),
        )
        for name, numbers in summary["test"].items()
    ]
    for name, beside in summary["beside"].items():
        for given, numbers in beside["independent"].items():
            above = f"{numbers['above_truth']['mean']:.2f}"
            cost = f"{numbers['nll']:.2f}", above
            rows.append((f"genes, {given}: {name}", *cost, *[""] * 5))
        for given, numbers in beside["truth"].items():
            cost = f"{numbers['nll']:.2f}"
            rows.append((f"truth, {given}: {name}", cost, *[""] * 6))
        agreed = [f"{beside['clusters_of_truth'][key]:.2f}" for key in ("ari", "nmi")]
        rows.append((f"likeliest cluster: {name}", *[""] * 4, *agreed, ""))
    components = summary["components"].items()
    return rows + [(name, *[""] * 4, *of_codes(found)) for name, found in components]


def figures(
    summary: dict[str, Any],
    shown: Mapping[str, np.ndarray],
    history: Mapping[str, list[dict]],
    test: cells.Cells,
) -> Mapping[str, Any]:
    """Draw distances from the truth, maps of codes, and learning curves."""
    vaes = {
        f"VAE, {name}": summary["test"][name]["above_truth"]["values"]
        for name in (LOG1P, LIBRARY, BATCH, ZERO_INFLATED)
    }
    genes = {
        f"genes, {given}": numbers["above_truth"]["values"] * len(vaes[f"VAE, {BATCH}"])
        for given, numbers in summary["beside"]["all counts"]["independent"].items()
    }
    heights = genes | vaes
    maps = {
        title: probes.planar(keys.PROBES, shown[name])["t-SNE"]
        for title, name in {
            MAPPED: MAPPED,
            f"VAE, {LIBRARY}": LIBRARY,
            f"VAE, {BATCH}": BATCH,
        }.items()
    }
    return {
        "above_truth": plots.bars(
            np.array(list(heights.values()), float),
            labels=list(heights),
            xlabel="model",
            ylabel="NLL above the truth (nats)",
        ),
        "clusters": plots.scatter(maps, test.clusters),
        "batches": plots.scatter(maps, test.batches),
        "negative_elbo": over_epochs(
            {name: rows for name, rows in history.items() if name != RAW},
            "negative_elbo",
            ylabel="negative ELBO (nats per cell)",
        ),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
