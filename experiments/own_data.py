"""A VAE of your own data: images, tables, spectrograms, any array of numbers.

The program prints what the file holds: shape, dtype, range and the likelihood that
suits the values, which is used unless another is asked for. Real values are
standardized (a table column by column), and nats are those of the standardized values;
8-bit pixels are scaled to [0, 1].

Paper: Kingma & Welling 2014.
Command: python -m experiments.own_data --data table.csv
"""

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import harness
from experiments.harness import binary_images, cli, figures, keys, model_options
from vaejax import datasets, latent, plots
from vaejax.base import Array, Head, Key, Params

ABOUT = harness.About(
    what="a VAE of your own images or tables, with the likelihood that suits them",
    paper="Kingma & Welling 2014",
    cost="depends on the data",
    expected="",
)

STANDARDIZED = (
    "normal",
    "shared_variance_normal",
    "fixed_variance_normal",
    "laplace",
    "student_t",
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
    """Data set: a .csv, .npy or .npz with one array, of which one example in ten is
    held out for test; or whatever the other experiments take: a folder of images,
    an .npz with train_images and test_images, a name of the catalogue.
    """
    likelihood: Likelihood = "auto"
    """Likelihood of the decoder; auto takes the one that suits the values."""
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


class Data(NamedTuple):
    """Arrays as the step takes them, and how they become examples.

    Attributes:
      train: training examples, `[examples, ...]`.
      test: test examples.
      labels: labels of the test examples, or None.
      likelihood: name of the likelihood that takes them.
      transform: `(key, example) -> x` in the step.
      once: `(seed, examples) -> xs`, drawn once.
      notes: what was done to the values, in words.
    """

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None
    likelihood: str
    transform: Callable[[Key, Array], Array]
    once: Callable[[int, np.ndarray], Array]
    notes: list[str]


def load(config: Config) -> tuple[datasets.Dataset, datasets.Dataset, list[str]]:
    """Load the training and the test part, with notes on how they were split."""
    path = Path(config.data).expanduser()
    try:
        if path.suffix.lower() in (".csv", ".npy", ".npz"):
            array = datasets.load_array(path)
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
    if path.suffix.lower() == ".txt":
        raise harness.UsageError(
            f"--data: {config.data} is text; run python -m experiments.text --data "
            f"{shlex.quote(config.data)}"
        )
    return *harness.load_images(config), []


def load_data(config: Config) -> tuple[Data, str]:
    """Load, describe and prepare the data; return them and their checksum."""
    train, test, notes = load(config)
    try:
        description = model_options.describe_array(train.images, config.data)
        likelihood = (
            description.likelihood if config.likelihood == "auto" else config.likelihood
        )
        data = prepare(
            np.asarray(train.images), np.asarray(test.images), test.labels, likelihood
        )
        if data.transform is not vaejax.binarize:
            model_options.check_suits(data.train, likelihood, config.data)
            model_options.check_suits(data.test, likelihood, config.data)
    except ValueError as error:
        raise harness.UsageError(f"--data: {error}") from error
    for line in [
        *description.text().splitlines(),
        *notes,
        f"likelihood used: {likelihood}",
        *data.notes,
    ]:
        print(f"{config.data}: {line}")
    return data, datasets.checksum(train, test)


def prepare(
    train: np.ndarray, test: np.ndarray, labels: np.ndarray | None, likelihood: str
) -> Data:
    """Scale, standardize or binarize the values as the likelihood takes them."""
    is_8_bit = train.dtype == np.uint8 and max(train.max(), test.max()) > 1
    scale = 255.0 if is_8_bit and likelihood not in model_options.COUNTS else 1.0
    if likelihood == "bernoulli" and scale > 1:
        return Data(
            train,
            test,
            labels,
            likelihood,
            transform=vaejax.binarize,
            once=binary_images.binarize_once,
            notes=["8-bit pixels are binarized at each access, the test set once"],
        )
    mean, stddev, notes = 0.0, scale, ["divided by 255"] if scale > 1 else []
    if likelihood in STANDARDIZED:
        mean, stddev, note = standardization(train)
        notes = [note]
    # Once, on the host: the step then only copies.
    scaled = [_scaled(x, mean, stddev) for x in (train, test)]
    return Data(
        *scaled,
        labels,
        likelihood,
        transform=lambda key, x: x,
        once=lambda seed, examples: jnp.asarray(examples),
        notes=notes,
    )


def _scaled(
    xs: np.ndarray, mean: np.ndarray | float, stddev: np.ndarray | float
) -> np.ndarray:
    """The values less their mean, over their standard deviation, as float32.

    ValueError where one of them does not fit.
    """
    with np.errstate(over="ignore"):
        scaled = np.asarray((np.asarray(xs, np.float64) - mean) / stddev, np.float32)
    if not (finite := np.isfinite(scaled)).all():
        place = np.unravel_index(np.argmin(finite), finite.shape)
        raise ValueError(
            f"column {_column(place[1:], xs.shape[1:])} holds {xs[place]:g} in example "
            f"{place[0]}, which is infinite in float32 as the model takes it; divide "
            "the data by a constant."
        )
    return scaled


def _column(place: tuple[Any, ...], shape: tuple[int, ...]) -> int:
    """The number of a value of an example, from 1, in the order of a row."""
    return int(np.ravel_multi_index(place, shape)) + 1


def standardization(train: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return mean and standard deviation of the training data, and a note on them.

    A table is standardized column by column, other data as a whole.
    """
    axis = 0 if train.ndim == 2 else None
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        mean, stddev = (
            getattr(train, name)(axis=axis, dtype=np.float64)
            for name in ("mean", "std")
        )
    constant = np.atleast_1d(train.max(axis=axis) == train.min(axis=axis))
    if constant.any():
        column = int(np.argmax(constant))
        raise ValueError(
            f"column {column + 1} is {np.ravel(train)[column]:g} in every training "
            "example; leave it out, since a density of what never varies has no bound."
        )
    # Squares beyond double precision are infinite, or 0.
    usable = np.isfinite(mean) & np.isfinite(stddev) & (stddev > 0)
    if not np.all(usable):
        column = int(np.argmin(np.atleast_1d(usable)))
        values = train if axis is None else train[:, column]
        where = "the data" if axis is None else f"column {column + 1}"
        raise ValueError(
            f"{where}: values from {values.min():g} to {values.max():g} have a "
            f"standard deviation of {np.atleast_1d(stddev)[column]:g} in double "
            "precision, out of its range; divide them by a constant."
        )
    log_scale = float(np.sum(np.log(np.broadcast_to(stddev, train.shape[1:]))))
    how = "standardized" if axis is None else "standardized column by column"
    return (
        mean,
        stddev,
        f"{how}; in the data's own units add {log_scale:.2f} nats to the negative ELBO "
        "and the NLL",
    )


def initial_outputs(likelihood: str, head: Head, xs: np.ndarray) -> Array:
    """Return the first outputs of the decoder.

    They are the data's log-odds, the logarithm of their mean, or zero.
    """
    mean = xs[:10_000].mean(axis=0, dtype=np.float64)
    first = np.zeros(mean.shape)
    if likelihood == "bernoulli":
        scaled = np.clip(
            mean / (255 if xs.dtype == np.uint8 and xs.max() > 1 else 1), 0.001, 0.999
        )
        first = np.log(scaled) - np.log1p(-scaled)
    elif likelihood in model_options.COUNTS:
        first = np.log(np.maximum(mean, 1e-3))
    elif likelihood in ("discretized_logistic", "discretized_normal"):
        first = mean - 0.5
    if head.num_parameters == 1:
        return jnp.asarray(first, jnp.float32)
    outputs = np.zeros((*mean.shape, head.num_parameters), np.float32)
    if likelihood != "discretized_logistic_mixture":
        outputs[..., 0] = first
    return jnp.asarray(outputs)


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


def make_experiment(config: Config) -> harness.Experiment:
    data, data_checksum = load_data(config)
    kept, validation = harness.hold_out(
        datasets.Dataset(data.train, None), config.num_validation
    )
    head = model_options.LIKELIHOODS[data.likelihood]
    head = vaejax.distributions.with_initial_outputs(
        head, initial_outputs(data.likelihood, head, kept.images)
    )
    vae = make_vae(config, data.train.shape[1:], head)
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
        binarization="dynamic" if data.transform is vaejax.binarize else "none",
        figures=partial(figures.image_figures, vae, xs, data.labels)
        if are_images(xs, data.likelihood)
        else partial(array_figures, vae, xs),
        num_samples=config.num_samples,
        validation=None
        if validation is None
        else data.once(keys.VALIDATION_SET, validation.images),
    )


analyze = harness.analyze_model


def are_images(xs: Array, likelihood: str) -> bool:
    """Return whether the examples can be drawn; standardized values cannot."""
    has_shape = xs.ndim in (3, 4) and xs.shape[3:] in ((), (1,), (3,))
    return has_shape and likelihood not in STANDARDIZED + model_options.COUNTS


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
