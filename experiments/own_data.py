"""A VAE of your own data: images, tables, spectrograms, any array of numbers.

The program prints what the file holds: shape, dtype, range and the likelihood that
suits the values, which is used unless another is asked for. Real values are
standardized (a table column by column), and nats are those of the standardized values;
pixels of 8 and 16 bits, known by their values in any type of number, are scaled to
[0, 1] in the step.

Paper: Kingma & Welling 2014.
Command: python -m experiments.own_data --data table.csv
"""

import dataclasses
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import cli, evaluation, figures, keys, model_options
from experiments.own import arrays, tables, verdicts
from vaejax import datasets, latent, plots
from vaejax.base import Array, Head, Key, Params

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
SHOWN_COLUMNS = 9


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    data: str = "mnist"
    """Data set: a table (.csv, .csv.gz, .tsv, .parquet), or a .npy or .npz with one
    array, of which one example in ten is held out for test; or whatever the other
    experiments take: a folder of images, an .npz with train_images and test_images, a
    name of the catalogue.
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
    """Whether the first line of a table names its columns; auto finds it out."""
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


def load_data(config: Config) -> tuple[arrays.Data, str]:
    """Load, describe and prepare the data; return them and their checksum."""
    train, test, notes = load(config)
    try:
        found = arrays.describe(train.images, test.images, config.data)
        likelihood = (
            found.likelihood if config.likelihood == "auto" else config.likelihood
        )
        data = arrays.prepare(train.images, test.images, test.labels, likelihood, found)
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
    return data, datasets.checksum(train, test)


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


def make_experiment(config: Config) -> harness.Experiment | harness.Comparison:
    if tables.takes(config):
        return tables.make_experiment(config)
    data, data_checksum = load_data(config)
    kept, validation = harness.hold_out(
        datasets.Dataset(data.train, None), config.num_validation
    )
    head = arrays.head_of(data._replace(train=kept.images))
    vae = make_vae(config, data.train.shape[1:], head)
    vae = arrays.with_scaled_inputs(vae, data)
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae), data.transform
    )
    num_steps = config.epochs * harness.steps_per_epoch(kept.images, config.batch_size)

    def recipe(hyperparameters: Mapping[str, float | Array]) -> harness.Recipe:
        learning_rate = optax.cosine_decay_schedule(
            hyperparameters["learning_rate"], num_steps
        )
        return harness.Recipe(
            vaejax.mean_over_batch(objective), optax.adam(learning_rate)
        )

    xs = data.once(keys.TEST_SET, data.test)
    return harness.Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={"learning_rate": config.learning_rate},
        batch_size=config.batch_size,
        train=kept.images,
        test=xs,
        data_checksum=data_checksum,
        binarization="dynamic"
        if data.white and data.likelihood == "bernoulli"
        else "none",
        figures=partial(figures.image_figures, vae, xs, data.labels)
        if are_images(xs, data.likelihood)
        else partial(array_figures, vae, xs),
        num_samples=config.num_samples,
        notes=data.notes,
        intensities=data.intensities,
        validation=None
        if validation is None
        else data.once(keys.VALIDATION_SET, validation.images),
    )


def without_data(config: Config, schema: Mapping[str, Any]) -> harness.Experiment:
    """Return the experiment of a run whose data are gone, from its schema.json."""
    return tables.without_data(config, schema)


def analyze(trained: harness.Trained) -> harness.Result:
    numbers = evaluation.evaluate(trained)
    result = harness.analyze_numbers(trained, numbers)
    if trained.context is None:
        return result
    return verdicts.with_verdict(trained, numbers, result)


def are_images(xs: Array, likelihood: str) -> bool:
    """Return whether the examples can be drawn; standardized values cannot."""
    has_shape = xs.ndim in (3, 4) and xs.shape[3:] in ((), (1,), (3,))
    others = arrays.STANDARDIZED + model_options.COUNTS
    return has_shape and likelihood not in others


def array_figures(
    vae: vaejax.VAE, xs: Array, params: Params, key: Key, history: list[dict]
) -> Mapping[str, Any]:
    """Draw learning curves, and histograms of the first columns.

    The histograms compare the data with what is generated.
    """
    num = min(len(xs), 2000)
    samples = jax.jit(
        lambda params, key: vaejax.sample(
            vae, params, key, num, example_point=latent.draw
        )
    )(params, key)
    data, drawn = (
        np.asarray(values).reshape(len(values), -1) for values in (xs, samples)
    )
    columns = np.linspace(
        0, data.shape[1] - 1, min(SHOWN_COLUMNS, data.shape[1])
    ).astype(int)
    titles = [f"dimension {column + 1}" for column in columns]
    marginals = plots.histograms(
        {"test data": data[:, columns], "samples": drawn[:, columns]},
        titles=titles,
        title="Values in the test data, and drawn: z ~ p(z), x ~ p(x|z)",
    )
    return {"learning_curves": figures.learning_curves(history), "marginals": marginals}


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
