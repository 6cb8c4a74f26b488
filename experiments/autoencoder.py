"""Why the KL term is there: a VAE beside a deterministic autoencoder.

Both have the networks, optimizer, epochs and binarization of experiments.mnist; the
autoencoder's code is a point and its loss the reconstruction alone. Two kinds of images
are judged: those decoded from the prior (completeness: does every latent mean
something?) and those decoded half-way between two test images of different classes
(continuity: does the path from one meaning to another stay meaningful?). The judges are
the confidence and entropy of a classifier trained here, and the distance to the nearest
training image. Latents of both models are drawn from N(0, I) and from
a Gaussian fitted to their codes of the training images (gray, not binarized).

Command: python -m experiments.autoencoder
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments import harness
from experiments.data import image_data
from experiments.harness import averages, binary_images, cli, keys
from experiments.harness.figures import over_epochs
from experiments.judges import classifier
from vaejax import datasets, plots
from vaejax.base import Array, Distribution, Key, Latent
from vaejax.training import TrainState

ABOUT = harness.About(
    what=(
        "a deterministic autoencoder beside the VAE: decoded prior draws and midpoints"
    ),
    paper="Kingma & Welling 2014",
    cost="5 minutes on 2 cores",
    expected="confidence in prior draws 0.86 against 0.64",
)

PLACES = ("prior draws", "draws from a fitted Gaussian", "midpoints")
DRAWS = 1000
SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    num_seeds: int = 3
    """Number of seeds of both models; numbers are mean and std over them."""


class Context(NamedTuple):
    """Data for the analysis, beside the models.

    Attributes:
      train: training images with their classes.
      test: test images with their classes.
      pairs: test images of two classes, `[draws, 2, height, width]`.
    """

    train: datasets.Dataset
    test: datasets.Dataset
    pairs: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
    """Point mass on one latent, the posterior of a deterministic autoencoder.

    It has no density, hence no KL.
    """

    mean: Array

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        del key
        return self.mean, jnp.zeros(())


def with_point_posterior(vae: vaejax.VAE) -> vaejax.VAE:
    """Return the autoencoder of the same networks: z is the posterior mean."""
    return vae._replace(encode=lambda params, x: Point(vae.encode(params, x).mean))


def no_kl(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """Return zero, the regularizer of an autoencoder."""
    del posterior, prior, z, log_posterior
    return jnp.zeros((1,))


def make_autoencoder(vae_experiment: harness.Experiment) -> harness.Experiment:
    """Return the VAE's experiment without noise and KL, and otherwise unchanged."""
    vae = with_point_posterior(vae_experiment.vae)
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae, kl_fn=no_kl), vaejax.binarize
    )

    def recipe(hyperparameters: Mapping[str, Any]) -> harness.Recipe:
        return vae_experiment.recipe(hyperparameters)._replace(
            loss_fn=vaejax.mean_over_batch(objective)
        )

    return vae_experiment._replace(vae=vae, kl_fn=no_kl, recipe=recipe)


def make_experiment(config: Config) -> harness.Comparison:
    train, test = harness.load_images(config)
    if train.labels is None or train.labels.ndim != 1:
        raise harness.UsageError(
            f"--data {config.data} has no classes, which the judging classifier needs."
        )
    vae = binary_images.dense_experiment(config)
    experiments = {"VAE": vae, "autoencoder": make_autoencoder(vae)}
    pairs = pairs_of_classes(vae.test, test.labels, DRAWS)
    if not len(pairs):
        raise harness.UsageError(
            f"--data {config.data}: no two successive test images differ in class; "
            "shuffle them."
        )
    return harness.Comparison(experiments, context=Context(train, test, pairs))


def decode_places(
    vae: vaejax.VAE, state: TrainState, pairs: Array, training_xs: Array
) -> dict[str, Array]:
    """Return the images that a model decodes at each of the `PLACES`.

    Args:
      vae: the model.
      state: its trained state.
      pairs: test images of two classes, `[draws, 2, height, width]`.
      training_xs: images whose codes a Gaussian is fitted to, `[m, height, width]`.

    Returns:
      `[draws, height, width]` by place.
    """
    prior_key, fitted_key = jax.random.split(
        jax.random.fold_in(state.key, keys.FIGURES)
    )
    codes = vaejax.embed(vae, state.params, training_xs)
    # By singular values: a collapsed latent leaves the covariance without full rank.
    fitted = jax.random.multivariate_normal(
        fitted_key,
        jnp.mean(codes, axis=0),
        jnp.atleast_2d(jnp.cov(codes, rowvar=False)),
        (len(pairs),),
        method="svd",
    )

    def midpoint(pair: Array) -> Array:
        return vaejax.interpolate(vae, state.params, pair[0], pair[1], 3)[1]

    images = (
        vaejax.sample(vae, state.params, prior_key, len(pairs)),
        jax.vmap(lambda z: vae.decode(state.params, z).mean)(fitted),
        jax.vmap(midpoint)(pairs),
    )
    return dict(zip(PLACES, images, strict=True))


def judge(
    images: Array, log_probabilities: Array, training_images: Array
) -> dict[str, float]:
    """Return means over images of confidence, entropy and distance.

    Confidence and entropy (nats) are the classifier's; the distance is that to the
    nearest training image.
    """
    probabilities = jnp.exp(log_probabilities)
    return {
        "confidence": float(jnp.mean(jnp.max(probabilities, axis=-1))),
        "entropy": float(
            jnp.mean(-jnp.sum(probabilities * log_probabilities, axis=-1))
        ),
        "distance": float(
            jnp.mean(vaejax.latent.nearest_neighbors(images, training_images).distances)
        ),
    }


def pairs_of_classes(xs: Array, labels: np.ndarray, num: int) -> Array:
    """Return the first `num` pairs of successive images whose classes differ.

    The result has shape `[num, 2, height, width]`.
    """
    first = np.flatnonzero(labels[:-1] != labels[1:])[:num]
    return jnp.stack([xs[first], xs[first + 1]], axis=1)


def analyze(trained: harness.Trained) -> harness.Result:
    """Judge both models at every place, seed by seed, beside real test images."""
    train, test, pairs = trained.context
    experiments, members = trained.experiments, trained.members
    judging = classifier.train(train)
    trained.check_interrupts()
    accuracy, score = judging.accuracy(test), judging.log_probabilities
    training_images = image_data.intensities(train.images)
    real = image_data.intensities(test.images[: len(pairs)])
    judged, pictures = {}, {}
    for arm, experiment in experiments.items():
        decode = jax.jit(partial(decode_places, experiment.vae))
        seeds = [
            decode(trained.state(arm, i), pairs, training_images)
            for i in range(members.num)
        ]
        pictures[arm] = seeds[0]
        for place in PLACES:
            numbers = [
                judge(images[place], score(images[place]), training_images)
                for images in seeds
            ]
            judged[arm, place] = {
                name: averages.over_seeds([n[name] for n in numbers])
                for name in numbers[0]
            }
        trained.check_interrupts()
    of_real = judge(real, score(real), training_images)
    rows = [("real test images", *_values(of_real))]
    for (arm, place), numbers in judged.items():
        rows.append((f"{arm}, {place}", *_values(numbers)))
    for place in PLACES:
        rows.append(
            (
                f"VAE - autoencoder, {place}",
                *_differences(judged["VAE", place], judged["autoencoder", place]),
            )
        )
    return harness.Result(
        summary={
            "classifier_accuracy": accuracy,
            "draws": len(pairs),
            "binarization": experiments["VAE"].binarization,
            "units": {
                "confidence": "probability",
                "entropy": "nats",
                "distance": "Euclidean, pixels in [0, 1]",
            },
            "real": of_real,
            "test": {
                f"{arm}, {place}": numbers for (arm, place), numbers in judged.items()
            },
        },
        headline="what the KL term is for",
        about=f"{len(pairs)} images per row, judged by a classifier of {accuracy:.2%} "
        "test accuracy; "
        f"{members.describe()}; confidence, then entropy in nats and distance to the "
        "nearest training image",
        rows=rows,
        figures=lambda: (
            {"contrast": contrast_figure(pictures)} | learning_curves(trained.history)
        ),
        captions={
            "contrast": "What each model decodes at each place, without choosing.",
            "learning_curves": "Test loss over training: the VAE's negative ELBO, and "
            "the reconstruction alone of the "
            "autoencoder. They are not comparable. The band is one standard deviation "
            "over seeds.",
        },
    )


def _values(numbers: dict[str, Any]) -> tuple[str, str]:
    """The three numbers as text: the first as a value, the others as its note."""
    confidence, entropy, distance = (_text(number) for number in numbers.values())
    return confidence, f"entropy {entropy}, distance {distance}"


def _text(number: Any) -> str:
    if isinstance(number, float):
        return f"{number:.3f}"
    return f"{number['mean']:.3f}" + (
        "" if number["std"] is None else f" ± {number['std']:.3f}"
    )


def _differences(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, str]:
    """Differences, paired by seed, as text."""
    pairs = {
        name: np.subtract(one[name]["values"], other[name]["values"]) for name in one
    }
    return _values(
        {name: averages.over_seeds(difference) for name, difference in pairs.items()}
    )


def contrast_figure(pictures: dict[str, dict[str, Array]]) -> Any:
    """Draw a row of images for each model and place, of the first seed."""
    rows = {
        f"{place}, {arm}": pictures[arm][place][:SHOWN]
        for place in PLACES
        for arm in pictures
    }
    title = "Decoded by a VAE and by an autoencoder of the same networks"
    return plots.image_grid(
        np.stack(list(rows.values())), title=title, row_labels=list(rows)
    )


def learning_curves(history: Mapping[str, list[dict]]) -> dict[str, Any]:
    """Draw the test loss of both models over training."""
    start = max(map(len, history.values())) // 10
    curves = over_epochs(
        history,
        "negative_elbo",
        ylabel="test loss (nats per example)",
        scale_from=start,
    )
    return {"learning_curves": curves}


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
