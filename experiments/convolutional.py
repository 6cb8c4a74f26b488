"""A convolutional VAE beside one of perceptrons.

Two VAEs that differ in their networks alone, trained alike on images binarized at
each access: one hidden layer on either side, and convolutions of stride 2 with
transposed ones as their mirror. Digits, Fashion-MNIST (--data fashion_mnist), any other
images, or --data shapes: colored shapes of 64 by 64 pixels, rendered here, each color
of a pixel taken as a probability.

Paper: Kingma & Welling 2014, with the convolutions of Radford et al. 2016.
Command: python -m experiments.convolutional
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments import harness
from experiments.data import shapes
from experiments.harness import (
    analysis,
    averages,
    binary_images,
    cli,
    evaluation,
    figures,
    keys,
)
from experiments.harness.units import disagreements
from vaejax import datasets, plots

ABOUT = harness.About(
    what=(
        "a convolutional VAE beside one of perceptrons, on digits, Fashion-MNIST or "
        "colored shapes"
    ),
    paper="Kingma & Welling 2014",
    cost="13 minutes on 2 cores, 3 seeds",
    expected="5.5 ± 0.6 nats below the perceptrons",
)

MLP, CONVOLUTIONAL = "MLP", "convolutional"
NUM_SHAPES, NUM_TEST_SHAPES = 10_000, 1_000
SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    data: str = "mnist"
    """Data set: mnist (bundled), shapes (rendered, in color), another of the
    catalogue, or a path: see experiments.mnist.
    """
    epochs: int = 5
    """Passes over the training data; the learning rate decays to zero over them."""
    num_annealed: harness.NonNegativeInt = 32
    """Test images whose log p(x) is annealed too, which shows the bias of the NLL."""
    first_channels: int = 32
    """Channels of the first convolution; the second has twice as many, and images above
    40 pixels have a third.
    """
    dense_size: int = 256
    """Width of the dense layer between convolutions and latents."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""


def load(config: Config) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Load the training and the test part, or render them."""
    if config.data != "shapes":
        return harness.load_images(config)
    made = shapes.render(NUM_SHAPES + NUM_TEST_SHAPES)
    return (
        datasets.Dataset(made.images[:NUM_SHAPES], made.kinds[:NUM_SHAPES]),
        datasets.Dataset(made.images[NUM_SHAPES:], made.kinds[NUM_SHAPES:]),
    )


def networks(
    config: Config, image_shape: tuple[int, ...]
) -> dict[str, tuple[Any, Any]]:
    """Return encoder and decoder of either model."""
    num = 2 if max(image_shape[:2]) <= 40 else 3
    channels = [config.first_channels * 2**index for index in range(num)]
    return {
        MLP: (
            vaejax.MLP((config.hidden_size,)),
            vaejax.MLP((config.hidden_size,), image_shape),
        ),
        CONVOLUTIONAL: (
            vaejax.ConvolutionalEncoder(channels, (config.dense_size,)),
            vaejax.ConvolutionalDecoder(
                image_shape, channels=channels[::-1], hidden_sizes=(config.dense_size,)
            ),
        ),
    }


def make_experiment(config: Config) -> harness.Comparison:
    train, test = load(config)
    arms = {}
    for name, (encoder, decoder) in networks(config, train.images.shape[1:]).items():
        vae = vaejax.gaussian_vae(
            latent_size=config.latent_size, encoder=encoder, decoder=decoder
        )
        arms[name] = binary_images.binary_experiment(config, vae, train, test)
    return harness.Comparison(arms)


def num_parameters(experiment: harness.Experiment) -> int:
    """Return the number of parameters of a model."""
    params = jax.eval_shape(experiment.vae.init, jax.random.key(0), experiment.example)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def analyze(trained: harness.Trained) -> harness.Result:
    """Return both models' numbers, and their difference seed by seed."""
    arms = trained.experiments
    numbers = {name: evaluation.evaluate(trained, name) for name in arms}
    summaries, rows = {}, []
    for name, experiment in arms.items():
        summaries[name] = evaluation.summarize(numbers[name], experiment)
        summaries[name]["num_parameters"] = num_parameters(experiment)
        rows.append(
            (
                name,
                f"{summaries[name]['num_parameters']:,}",
                *evaluation.cells(summaries[name]),
            )
        )
    differences = evaluation.paired(
        numbers[CONVOLUTIONAL], numbers[MLP], trained.first_experiment
    )
    rows.append(
        (f"{CONVOLUTIONAL} minus {MLP}", "", *evaluation.cells(differences, sign="+"))
    )
    return harness.Result(
        summary={
            "binarization": arms[MLP].binarization,
            "units": "nats per example",
            "num_test_examples": arms[MLP].num_test_examples,
            "test": summaries,
            "difference": differences,
        },
        headline=(
            f"negative ELBO {averages.text(differences['negative_elbo'], 2, '+')} "
            "nats by convolutions"
        ),
        about=f"{analysis.protocol(trained)}; {trained.members.describe()}; nats per "
        f"example; {evaluation.ELBO_SAMPLES} samples per example, "
        f"{arms[MLP].num_samples} of the NLL; differences are paired by seed"
        f"{disagreements(summaries)}",
        header=(
            "networks",
            "parameters",
            *evaluation.COLUMNS,
        ),
        rows=rows,
        figures=partial(_figures, trained),
        captions={
            "reconstructions": (
                "Test images as the models see them, and the mean of p(x|z) with z ~ "
                "q(z|x)."
            ),
            "samples": "Prior samples: the mean of p(x|z) with z ~ p(z).",
            "interpolations": (
                "Between two test images, by convolutions: the mean of p(x|z) at z = "
                "(1 - t) z0 + t z1."
            ),
            "learning_curves": "Test negative ELBO over training. The band, if any, "
            "is one standard deviation over "
            "seeds.",
        },
    )


def _figures(trained: harness.Trained) -> dict[str, Any]:
    originals = np.asarray(trained.first_experiment.test[:SHOWN])
    vaes = {name: arm.vae for name, arm in trained.experiments.items()}
    reconstructions, samples = {"x": originals}, {}
    for name, vae in vaes.items():
        state = trained.state(name)
        reconstruct_key, sample_key = jax.random.split(
            jax.random.fold_in(state.key, keys.FIGURES)
        )
        params = state.params
        reconstructions[name] = jax.jit(partial(vaejax.reconstruct, vae))(
            params, reconstruct_key, jnp.asarray(originals)
        )
        samples[name] = jax.jit(partial(vaejax.sample, vae, num=2 * SHOWN))(
            params, sample_key
        )
    rows = [
        row for images in samples.values() for row in np.split(np.asarray(images), 2)
    ]
    labels = [label for name in samples for label in (name, "")]
    between = figures.interpolations(
        vaes[CONVOLUTIONAL],
        trained.state(CONVOLUTIONAL).params,
        jnp.asarray(originals),
    )
    return {
        "learning_curves": figures.over_epochs(
            trained.history,
            "negative_elbo",
            ylabel="test negative ELBO (nats per example)",
        ),
        "reconstructions": plots.image_grid(
            np.stack([np.asarray(row) for row in reconstructions.values()]),
            title="Test images as the models see them, and the mean of p(x|z)",
            row_labels=list(reconstructions),
        ),
        "samples": plots.image_grid(
            np.stack(rows),
            title="Prior samples: the mean of p(x|z) with z ~ p(z)",
            row_labels=labels,
        ),
        "interpolations": plots.image_grid(
            np.asarray(between), title="Between two test images, by convolutions"
        ),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
