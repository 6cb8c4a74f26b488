"""A VAE of a real table with columns of different kinds and missing cells.

Cells are hidden completely at random, 10, 30 and 50 % of them in training and test rows
alike, and a VAE is trained at each share and on all cells. Two questions:

- Does it impute? The hidden cells of test rows, from those that are left, beside column
  means and modes, nearest neighbors, and scikit-learn's IterativeImputer.
- Does it describe the table? The NLL of complete test rows, beside independent columns,
  and a full-covariance Gaussian and a Gaussian mixture of the columns' Normal scores
  (`judges/table_densities.py`). All are in the units of the file and of the same kinds:
  a probability where a column is discrete or lies in steps, else a density.

The tables come with statsmodels and scikit-learn (`data/real_tables.py`, where their
licenses are): randhie, anes96, wine, breast_cancer.

Papers: Mattei & Frellsen 2019 (MIWAE); Nazabal et al. 2020 (HI-VAE). Command:
python -m experiments.mixed_tables --num-seeds 5
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.data import real_tables
from experiments.harness import (
    averages,
    cli,
    evaluation,
    keys,
    model_options,
)
from experiments.judges import imputers, table_densities, table_scores
from vaejax import estimators, latent, plots
from vaejax.base import Array
from vaejax.distributions import Column, MaskedEvent, Mixed, mixed_head

ABOUT = harness.About(
    what=(
        "a VAE of a mixed table with missing cells: imputation and NLL, beside usual "
        "methods"
    ),
    paper="Mattei & Frellsen 2019; Nazabal et al. 2020",
    cost="10 minutes on 2 cores, 5 seeds",
    expected=(
        "NLL 3.3 nats below independent columns, 0.6 above a Gaussian mixture (randhie)"
    ),
)

ALL_CELLS = "all cells"
# Rows that are imputed together, and draws of each.
ROWS_AT_ONCE, DRAWS = 8, 100
GAUSSIAN, MIXTURE = "full-covariance Gaussian", "Gaussian mixture"
INDEPENDENT = "independent columns"


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: Literal["randhie", "anes96", "wine", "breast_cancer"] = "randhie"
    """Table: randhie and anes96 come with statsmodels, wine and breast_cancer with
    scikit-learn.
    """
    missing: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Shares of cells that are hidden; a model of all cells is trained too."""
    epochs: int = 25
    """Passes over the training rows; the learning rate decays to zero over them."""
    hidden_size: int = 64
    """Width of the hidden layer of encoder and decoder."""
    latent_size: int = 8
    """Dimensions of z."""
    batch_size: int = 32
    """Rows per step."""
    learning_rate: float = 3e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    num_train_samples: int = 5
    """Samples of z per row in training: 1 is the ELBO, more are the importance-weighted
    bound.
    """
    num_samples: int = 200
    """Importance samples per row of the test NLL, and of the imputation."""


class Context(NamedTuple):
    """The data that the analysis needs beside the models.

    Attributes:
      train: complete training rows.
      test: complete test rows.
      masks: by name of the model, which cells of the test rows are left.
      columns: by name of the model, the columns with their scaling.
      outputs: by name of the model, the outputs of independent columns.
      names: names of the columns.
      observed: by name of the model, its training rows.
    """

    train: np.ndarray
    test: np.ndarray
    masks: Mapping[str, np.ndarray]
    columns: Mapping[str, tuple[Column, ...]]
    outputs: Mapping[str, Array]
    names: tuple[str, ...]
    observed: Mapping[str, MaskedEvent]

    def alone(self, arm: str) -> Mixed:
        """Return the independent columns that were fitted to a model's rows."""
        return mixed_head(self.columns[arm]).apply((), self.outputs[arm])


def arms_of(config: Config) -> dict[str, float]:
    """Return the share of hidden cells of each model, by its name.

    Raises:
      UsageError: a share is not below 1, or is given twice.
    """
    if max(config.missing) >= 1 or len(set(config.missing)) < len(config.missing):
        raise harness.UsageError(
            f"--missing is {' '.join(map(str, config.missing))}; give different shares "
            "below 1."
        )
    shares = {f"{share:.0%} missing": share for share in config.missing}
    return {ALL_CELLS: 0.0} | shares


def make_experiment(config: Config) -> harness.Comparison:
    arms = arms_of(config)
    imputers.check_installed()
    real = real_tables.load(config.data)
    table = real.read()
    train, test = real_tables.split(real.groups)
    kept, validation = train, train[:0]
    if config.num_validation:
        if config.num_validation >= len(train):
            raise harness.UsageError(
                f"--num-validation is {config.num_validation} and there are "
                f"{len(train)} training rows; give fewer."
            )
        kept, validation = np.split(train, [len(train) - config.num_validation])
    sha = hashlib.sha256(np.ascontiguousarray(table.values).tobytes()).hexdigest()
    experiments, masks, columns, outputs, observed = {}, {}, {}, {}, {}
    for name, share in arms.items():
        mask = ~real_tables.hidden(table.values.shape, share)
        observed[name] = MaskedEvent(table.values[kept], mask[kept])
        masks[name] = mask[test]
        columns[name] = table.schema.fitted(*observed[name]).modeled()
        outputs[name] = estimators.fit_independent_columns(
            columns[name], *observed[name]
        )
        experiments[name] = experiment_of(
            config, columns[name], outputs[name], observed[name]
        )._replace(
            test=complete(table.values[test]),
            data_checksum=sha,
            validation=MaskedEvent(table.values[validation], mask[validation])
            if len(validation)
            else None,
            notes=description(config, table.schema, len(kept), len(test))
            if name == ALL_CELLS
            else (),
        )
    context = Context(
        *(table.values[kept], table.values[test]),
        *(masks, columns, outputs, table.schema.names(), observed),
    )
    return harness.Comparison(experiments, context=context)


def complete(values: np.ndarray) -> MaskedEvent:
    """Return rows without missing cells."""
    return MaskedEvent(values, np.ones(values.shape, bool))


def description(config: Config, schema: Any, num: int, num_test: int) -> list[str]:
    return [
        f"{config.data}: {num:,} training and {num_test:,} test rows",
        *schema.text().splitlines()[:-1],
    ]


def experiment_of(
    config: Config, columns: Sequence[Column], outputs: Array, train: MaskedEvent
) -> harness.Experiment:
    """Return the model of a table, which starts at the independent columns."""
    vae = model_options.make_table_vae(config, columns, outputs)
    objective = partial(vaejax.negative_elbo, vae)
    if config.num_train_samples > 1:
        objective = partial(
            vaejax.negative_iwae, vae, num_samples=config.num_train_samples
        )
    loss_fn = vaejax.mean_over_batch(objective)
    num_steps = config.epochs * harness.steps_per_epoch(train, config.batch_size)

    def recipe(hyperparameters: Mapping[str, Any]) -> harness.Recipe:
        del hyperparameters
        schedule = optax.cosine_decay_schedule(config.learning_rate, num_steps)
        return harness.Recipe(loss_fn, optax.adam(schedule))

    return harness.Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={},
        batch_size=config.batch_size,
        train=train,
        test=train,
        data_checksum="",
        binarization="none",
        num_samples=config.num_samples,
    )


def analyze(trained: harness.Trained) -> harness.Result:
    """Compare likelihoods and imputations with the usual methods, over seeds."""
    context: Context = trained.context
    tested, differences = {}, {}
    baselines = nll_of_baselines(context)
    trained.check_interrupts()
    for arm, experiment in trained.experiments.items():
        numbers = evaluation.evaluate(trained, arm)
        tested[arm] = evaluation.summarize(numbers, experiment)
        differences[arm] = {
            name: averages.paired(numbers["nll_of_each"].astype(np.float64), nll)
            for name, nll in baselines["of each"][arm].items()
        }
        trained.check_interrupts()
    imputation = {
        arm: imputation_of(trained, arm) for arm in context.masks if arm != ALL_CELLS
    }
    summary = {
        "binarization": "none",
        "units": "nats per row, in the units of the file",
        "data": trained.config.data,
        "num_training_rows": len(context.train),
        "num_test_rows": len(context.test),
        "columns": {
            name: column.kind
            for name, column in zip(
                context.names, context.columns[ALL_CELLS], strict=True
            )
        },
        "test": tested,
        "baselines": {
            arm: {name: float(nll.mean()) for name, nll in found.items()}
            for arm, found in baselines["of each"].items()
        },
        "mixture_components": baselines["components"],
        "nll_minus": differences,
        "imputation": imputation,
    }
    return harness.Result(
        summary=summary,
        headline=_headline(summary),
        about=f"{trained.config.data}: {len(context.train):,} training and "
        f"{len(context.test):,} test rows; {trained.members.describe()}; NLL in nats "
        f"per complete test row, of a VAE a bound with {trained.config.num_samples} "
        "samples; RMSE of standardized numeric cells and accuracy of the others, of "
        "hidden test cells; coverage of central 90 % intervals of numeric cells",
        header=("model", "NLL", "RMSE", "accuracy", "coverage"),
        rows=list(_rows(summary)),
        figures=partial(figures, summary, trained.history),
        captions=CAPTIONS,
    )


def nll_of_baselines(context: Context) -> dict[str, Any]:
    """Return the NLL of each test row by model and method, and the mixture's size."""
    of_each: dict[str, dict[str, np.ndarray]] = {}
    for arm in context.masks:
        steps = table_densities.steps_of(
            context.columns[arm], context.alone(arm), context.test
        )
        of_each[arm] = {INDEPENDENT: -steps.log_probs.sum(axis=1)}
    columns, alone = context.columns[ALL_CELLS], context.alone(ALL_CELLS)
    train, test = (
        table_densities.steps_of(columns, alone, rows)
        for rows in (context.train, context.test)
    )
    rng = np.random.default_rng(keys.TABLE_DENSITIES)
    mixture, components = table_densities.gaussian_mixture(train, rng)
    densities = {GAUSSIAN: table_densities.gaussian(train, rng), MIXTURE: mixture}
    of_each[ALL_CELLS] |= {
        name: -table_densities.log_probs(test, density, rng)
        for name, density in densities.items()
    }
    return {"of each": of_each, "components": components}


def imputed(
    vae: vaejax.VAE, num_samples: int, state: vaejax.TrainState, rows: MaskedEvent
) -> latent.Imputation:
    """Return the imputation of test rows by one member, with leading axis `[rows]`."""
    key = jax.random.fold_in(state.key, keys.IMPUTATION)

    def one(numbered: tuple[Array, MaskedEvent]) -> latent.Imputation:
        number, row = numbered
        return latent.impute(
            *(vae, state.params, jax.random.fold_in(key, number), row),
            num_samples=num_samples,
            num_draws=DRAWS,
        )

    numbers = jnp.arange(len(rows.values), dtype=jnp.uint32)
    return jax.lax.map(one, (numbers, rows), batch_size=ROWS_AT_ONCE)


def imputation_of(trained: harness.Trained, arm: str) -> dict[str, Any]:
    """Return the scores of every method on the hidden cells of the test rows."""
    context: Context = trained.context
    columns, mask, truth = context.columns[arm], context.masks[arm], context.test
    hidden_rows = MaskedEvent(np.where(mask, truth, 0).astype(np.float32), mask)
    scale = context.train.std(axis=0, dtype=np.float64)
    scored = partial(table_scores.score, columns, truth=truth, mask=mask, scale=scale)
    members = trained.members
    of_vae, coverages, ks = [], [], []
    compiled = jax.jit(
        partial(imputed, trained.experiments[arm].vae, trained.config.num_samples)
    )
    for index in range(members.num):
        found = jax.device_get(compiled(trained.state(arm, index), hidden_rows))
        of_vae.append(scored(found.mean))
        coverages.append(table_scores.coverage(columns, found.draws, truth, mask))
        ks.append(found.pareto_k)
        trained.check_interrupts()
    others = {
        name: scored(
            imputers.impute(imputer, columns, context.observed[arm], hidden_rows)
        )
        for name, imputer in imputers.imputers().items()
    }
    threshold = estimators.pareto_k_threshold(trained.config.num_samples)
    kept = [i for i in range(members.num) if i not in trained.diverged.get(arm, ())]
    return {
        "num_numeric_cells": int(of_vae[0].num_numeric.sum()),
        "num_other_cells": int(of_vae[0].num_classes.sum()),
        "methods": {
            "VAE": _summary([of_vae[i] for i in kept])
            | {
                "coverage": averages.over_seeds(np.array(coverages)[kept]),
                "share_above_pareto_k_threshold": averages.number_or_none(
                    np.mean(np.array(ks)[kept] > threshold)
                ),
            }
        }
        | {name: _summary([one]) for name, one in others.items()},
        "vae_minus": {
            name: {
                what: table_scores.paired(
                    np.mean([getattr(of_vae[i], what) for i in kept], axis=0),
                    getattr(one, what),
                    getattr(one, counts),
                )
                for what, counts in (
                    ("squared_error", "num_numeric"),
                    ("correct", "num_classes"),
                )
            }
            for name, one in others.items()
        },
    }


def _summary(scores: Sequence[table_scores.Scores]) -> dict[str, Any]:
    return {
        name: averages.over_seeds(np.array([getattr(one, name) for one in scores]))
        for name in ("rmse", "accuracy")
    }


def _headline(summary: dict[str, Any]) -> str:
    against = summary["nll_minus"][ALL_CELLS]
    differences = ", ".join(
        f"{averages.text(number, 2, '+')} relative to {name}"
        for name, number in against.items()
    )
    return f"NLL {differences} (nats per row)"


def _rows(summary: dict[str, Any]) -> Sequence[Sequence[str]]:
    rows = []
    for arm, numbers in summary["test"].items():
        methods = summary["imputation"].get(arm, {}).get("methods", {})
        others = summary["baselines"][arm]
        rows.append((f"{arm}: VAE", averages.text(numbers["nll"], 2), *_cells(methods)))
        rows += [
            (f"{arm}: {name}", f"{nll:.2f}", "", "", "") for name, nll in others.items()
        ]
        rows += [
            (f"{arm}: {name}", "", *_cells(methods, name))
            for name in methods
            if name != "VAE"
        ]
    return rows


def _cells(methods: Mapping[str, Any], name: str = "VAE") -> list[str]:
    numbers = methods.get(name, {})
    return [
        averages.text(numbers[what], 3)
        if what in numbers and numbers[what]["mean"] is not None
        else ""
        for what in ("rmse", "accuracy", "coverage")
    ]


CAPTIONS = {
    "rmse": "Root mean squared error of hidden numeric cells of test rows, in standard "
    "deviations of their columns, against the share of hidden cells.",
    "accuracy": "Share of hidden binary, class and ordinal cells of test rows that are "
    "imputed right.",
    "coverage": "Share of hidden numeric cells within the VAE's central 90 % interval.",
    "training_loss": "Negative bound of the observed training cells over epochs; fewer "
    "cells have a smaller one.",
}


def figures(
    summary: dict[str, Any], history: Mapping[str, list[dict]]
) -> Mapping[str, Any]:
    """Draw scores against the share of hidden cells, and the loss over training."""
    found = summary["imputation"]
    shares = [float(arm.partition("%")[0]) for arm in found]

    def curves(what: str, names: Sequence[str], ylabel: str) -> Any:
        series = {
            name: [found[arm]["methods"][name][what]["values"] for arm in found]
            for name in names
        }
        return plots.curves(shares, series, xlabel="cells hidden (%)", ylabel=ylabel)

    losses = {
        arm: [row["train"]["loss"] for row in rows] for arm, rows in history.items()
    }
    names = list(next(iter(found.values()))["methods"])
    return {
        "training_loss": plots.curves(
            *plots.pad_series(losses), xlabel="epoch", ylabel="loss (nats per row)"
        ),
        "rmse": curves("rmse", names, "RMSE (standard deviations)"),
        "accuracy": curves("accuracy", names, "accuracy"),
        "coverage": curves("coverage", ["VAE"], "coverage of 90 % intervals"),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
