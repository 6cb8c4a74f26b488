"""A VAE of your own data: images, tables, spectrograms, any array of numbers.

The program prints what the file holds: shape, dtype, range and the likelihood that
suits the values, which is used unless another is asked for. Real values are
standardized for the networks (a table column by column), and nats are those of the
values in the file's units. Pixels of 8 and 16 bits, known by their values in any type
of number, are scaled to [0, 1] in the step.

Paper: Kingma & Welling 2014.
Command: python -m experiments.own_data --data table.csv
"""

import dataclasses
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import cli, evaluation, keys, model_options
from experiments.own import array_figures, array_runs, arrays, tables, verdicts
from vaejax import datasets
from vaejax.base import Array, Head

ABOUT = harness.About(
    what="a VAE of your own images or tables, with the likelihood that suits them",
    paper="Kingma & Welling 2014",
    cost="depends on the data",
    expected="",
)

Likelihood = Literal[
    "auto",
    "bernoulli",
    "continuous_bernoulli",
    "normal",
    "shared_variance_normal",
    "fixed_variance_normal",
    "laplace",
    "student_t",
    "discretized_logistic",
    "discretized_logistic_mixture",
    "discretized_normal",
    "poisson",
    "negative_binomial",
]


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: str = ""
    """Data set, which must be given: a table (.csv, .csv.gz, .tsv, .parquet), or a .npy
    or .npz with one array, of which one example in ten is held out for test; or
    whatever the other experiments take: a folder of images, an .npz with train_images
    and test_images, a name of the catalogue.
    """
    likelihood: Likelihood = "auto"
    """Likelihood of the decoder; auto takes the one that suits the values, in a table
    that of each column.
    """
    columns: tuple[str, ...] = ()
    """Kinds of columns of a table, as NAME=KIND,NAME=KIND: real, positive, binary,
    class, ordinal, count; identifier or label (carried along and not modeled); ignore.
    Other columns have the kind that is found from their values.
    """
    header: Literal["auto", "yes", "no"] = "auto"
    """The first line of a table names its columns: yes, no, or auto to find it out."""
    missing: tuple[str, ...] = ()
    """Texts or numbers of missing cells of a table, beside empty ones, NA, NaN, null,
    None and ?; such as --missing=-999,unknown.
    """
    schema: str | None = None
    """File of the columns and kinds of a table, such as an edited schema.json of a run;
    in place of kinds that are found.
    """
    network: Literal["auto", "mlp", "convolutional"] = "auto"
    """Networks; auto takes convolutions for images of at least 16 by 16."""
    epochs: int = 20
    """Passes over the training data; the learning rate decays to zero over them."""
    hidden_size: int = 256
    """Width of the hidden layers."""
    latent_size: int = 8
    """Dimensions of z."""
    batch_size: int = 64
    """Examples per step."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""


def load(config: Config) -> tuple[datasets.Dataset, datasets.Dataset, list[str]]:
    """Load the training and the test part, with notes on how they were split."""
    path = Path(os.path.expanduser(config.data))
    try:
        if path.suffix.lower() in (".csv", ".npy", ".npz"):
            array = datasets.load_array(path)
            datasets.check_image_axes(array, where=str(path))
            train, test = datasets.split_indices(len(array))
            note = (
                f"{len(test):,} examples, drawn with a fixed seed, are held out for "
                "test"
            )
            return (
                datasets.Dataset(array[train], None),
                datasets.Dataset(array[test], None),
                [note],
            )
    except datasets.NotOneArrayError:
        pass
    except datasets.NotNumbersError as error:
        # The sentence ends with the fix, which is another one here.
        found = str(error).rpartition(";")[0]
        raise harness.UsageError(
            f"--data: {found}; leave --likelihood out, and each column has its own."
        ) from error
    except ValueError as error:
        raise harness.UsageError(f"--data: {error}") from error
    if str(path).lower().endswith(tables.SUFFIXES):
        raise harness.UsageError(
            f"--likelihood {config.likelihood}: one likelihood for all cells takes a "
            ".csv of numbers or an array; leave it out, and each column has its own."
        )
    if path.suffix.lower() == ".txt":
        raise harness.UsageError(
            f"--data: {config.data} is text; run python -m experiments.text --data "
            f"{shlex.quote(config.data)}"
        )
    return *harness.load_images(config, keep_levels=True), []


class Loaded(NamedTuple):
    """Data as the model takes them, and where they are from.

    Attributes:
      data: the prepared arrays.
      raw: training examples as they are in the file.
      numbers: numbers of the training and of the test examples in the file, from 1; of
        data with a test part of its own, within each part.
      checksum: SHA-256 of the data.
    """

    data: arrays.Data
    raw: np.ndarray
    numbers: tuple[np.ndarray, np.ndarray]
    checksum: str


def load_data(config: Config) -> Loaded:
    """Load, describe and prepare the data."""
    train, test, notes = load(config)
    sizes = len(train.images), len(test.images)
    # With a note, one array was split.
    numbers = datasets.split_indices(sum(sizes)) if notes else map(np.arange, sizes)
    try:
        found = arrays.describe(train.images, test.images, config.data)
        likelihood = (
            found.likelihood if config.likelihood == "auto" else config.likelihood
        )
        num_kept = len(train.images) - config.num_validation
        data = arrays.prepare(
            *(train.images, test.images, test.labels, likelihood, found),
            num_fitted=num_kept if num_kept > 0 else None,
        )
        # All levels of intensities suit.
        if not data.white:
            model_options.check_suits(data.train, likelihood, config.data)
            model_options.check_suits(data.test, likelihood, config.data)
    except ValueError as error:
        raise harness.UsageError(f"--data: {error}") from error
    lines = [
        *found.text().splitlines(),
        *notes,
        f"likelihood used: {likelihood}",
        *data.notes,
    ]
    where = harness.one_line(config.data)
    data = data._replace(notes=[f"{where}: {line}" for line in lines])
    return Loaded(
        data,
        train.images,
        tuple(each + 1 for each in numbers),
        datasets.checksum(train, test),
    )


def make_vae(config: Config, shape: tuple[int, ...], head: Head) -> vaejax.VAE:
    """Return the model that --network names."""
    is_image = len(shape) in (2, 3) and min(shape[:2]) >= 16
    if config.network == "convolutional" and len(shape) not in (2, 3):
        raise harness.UsageError(
            f"--network convolutional: examples have shape {list(shape)}, which is no "
            "image; take mlp."
        )
    convolutional = config.network == "convolutional" or (
        config.network == "auto" and is_image
    )
    return model_options.make_vae(config, shape, head, convolutional=convolutional)


def make_experiment(config: Config) -> harness.Comparison:
    if not config.data:
        raise harness.UsageError(
            "--data is missing; give the path of a table, an array, or a folder of "
            "images."
        )
    if tables.takes(config):
        return tables.make_experiment(config)
    data, raw, numbers, data_checksum = load_data(config)
    kept, validation = harness.hold_out(
        datasets.Dataset(data.train, None), config.num_validation
    )
    data = data._replace(train=kept.images)
    schema = array_runs.schema_of(data, raw)
    experiment = experiment_of(config, data, schema)
    xs, vae, rows = experiment.test, experiment.vae, experiment.rows
    parts = {"train": (numbers[0][: len(kept.images)], data.train)}
    if validation is not None:
        parts["validation"] = (numbers[0][len(kept.images) :], validation.images)
    experiment = experiment._replace(
        data_checksum=data_checksum,
        figures=array_figures.figures_of(vae, xs, data),
        files=partial(
            array_runs.array_files,
            vae,
            rows,
            parts | {"test": (numbers[1], data.test)},
            data.intensities,
        ),
        notes=data.notes,
        validation=None
        if validation is None
        else data.once(keys.VALIDATION_SET, validation.images),
    )
    context = array_runs.Context(partial(array_runs.fitted_alone, data), numbers[1])
    return harness.Comparison({harness.ONLY: experiment}, context=context)


def experiment_of(
    config: Config, data: arrays.Data, schema: array_runs.ArraySchema
) -> harness.Experiment:
    """Return the model of prepared arrays, and how it is trained."""
    vae = make_vae(config, data.train.shape[1:], arrays.head_of(data))
    vae = arrays.with_scaled_inputs(vae, data)
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae), data.transform
    )
    num_steps = config.epochs * harness.steps_per_epoch(data.train, config.batch_size)

    def recipe(hyperparameters: Mapping[str, float | Array]) -> harness.Recipe:
        learning_rate = optax.cosine_decay_schedule(
            hyperparameters["learning_rate"], num_steps
        )
        return harness.Recipe(
            vaejax.mean_over_batch(objective), optax.adam(learning_rate)
        )

    is_binarized = data.white and data.likelihood == "bernoulli"
    return harness.Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={"learning_rate": config.learning_rate},
        batch_size=config.batch_size,
        train=data.train,
        test=data.once(keys.TEST_SET, data.test),
        data_checksum="",
        binarization="dynamic" if is_binarized else "none",
        num_samples=config.num_samples,
        intensities=data.intensities,
        records={"schema.json": schema.as_dict()},
        rows=array_runs.rows_of(schema),
    )


def without_data(config: Config, schema: Mapping[str, Any]) -> harness.Experiment:
    """Return the experiment of a run whose data are gone, from its schema.json."""
    if not array_runs.is_record(schema):
        return tables.without_data(config, schema)
    found = array_runs.schema_from_dict(schema)
    return experiment_of(config, array_runs.stand_in(found, config.batch_size), found)


def analyze(trained: harness.Trained) -> harness.Result:
    numbers = evaluation.evaluate(trained)
    result = harness.analyze_numbers(trained, numbers)
    result = verdicts.with_verdict(trained, numbers, result)
    if isinstance(trained.context, array_runs.Context) and not trained.members.swept:
        return array_runs.with_scores(result, trained.context, numbers)
    return result


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
