"""Why the KL term is there: a deterministic autoencoder beside the VAE of the same
networks.

Both have the main job's networks, optimizer, epochs and binarization; the autoencoder's
code is a point and its loss the reconstruction alone. What they decode from the prior
(completeness: does every latent mean something?) and half-way between two test images
of different classes (continuity: does the way from one meaning to another stay
meaningful?) is judged by a classifier trained here, by its confidence and entropy, and
by the distance to the nearest training image. The autoencoder has no prior of its own.
It is drawn from N(0, I) like the VAE, and, more kindly, from a Gaussian fitted to its
codes of the training images (gray, not binarized); so is the VAE.

Command: python -m experiments.autoencoder
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments import mnist
from experiments.harness import evaluation, run
from experiments.harness.figures import over_epochs
from experiments.harness.members import Members
from experiments.judges import classifier
from vaejax import datasets, plots
from vaejax.base import Array, Distribution, Key, Latent
from vaejax.training import TrainState

ABOUT = run.About(
    what="a deterministic autoencoder beside the VAE: decoded prior draws and midpoints",
    paper="Kingma & Welling 2014",
    cost="8 minutes on 2 cores",
    expected="confidence in prior draws 0.86 against 0.65",
)

PLACES = ("prior draws", "draws from a fitted Gaussian", "midpoints")
DRAWS = 1000
SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Config(mnist.Config):
    num_seeds: int = 3
    """Train that many seeds of both models; numbers are mean and std over them."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
    """All mass on one latent: the posterior of a deterministic autoencoder. It has no
    density, hence no KL.
    """

    mean: Array

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        del key
        return self.mean, jnp.zeros(())


def with_point_posterior(vae: vaejax.VAE) -> vaejax.VAE:
    """The autoencoder of the same networks: z is the posterior mean, without noise."""
    return vae._replace(encode=lambda params, x: Point(vae.encode(params, x).mean))


def no_kl(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """The regularizer of an autoencoder: none."""
    del posterior, prior, z, log_posterior
    return jnp.zeros((1,))


def make_autoencoder(vae_experiment: run.Experiment) -> run.Experiment:
    """The VAE's experiment with the noise and the KL taken away, and nothing else
    changed.
    """
    vae = with_point_posterior(vae_experiment.vae)
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae, kl_fn=no_kl), vaejax.binarize
    )

    def recipe(hyperparameters: Mapping[str, Any]) -> run.Recipe:
        return vae_experiment.recipe(hyperparameters)._replace(
            loss_fn=vaejax.mean_over_batch(objective)
        )

    return vae_experiment._replace(vae=vae, kl_fn=no_kl, recipe=recipe)


def decode_places(
    vae: vaejax.VAE, state: TrainState, pairs: Array, training_xs: Array
) -> dict[str, Array]:
    """What a model decodes at each of the `PLACES`, `[draws, height, width]`.

    Args:
      vae: the model.
      state: its trained state.
      pairs: test images of two classes, `[draws, 2, height, width]`.
      training_xs: to whose codes a Gaussian is fitted, `[m, height, width]`.
    """
    prior_key, fitted_key = jax.random.split(
        jax.random.fold_in(state.key, evaluation.FIGURES)
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


@jax.jit
def nearest_distance(images: Array, training_images: Array) -> Array:
    """Euclidean distance of each image to the nearest of the others, all in [0, 1]:
    `[n]`.
    """
    flat, others = (
        images.reshape(len(images), -1),
        training_images.reshape(len(training_images), -1),
    )
    squared = jnp.sum(jnp.square(others), axis=1)[None] - 2 * flat @ others.T
    return jnp.sqrt(
        jnp.maximum(jnp.min(squared, axis=1) + jnp.sum(jnp.square(flat), axis=1), 0)
    )


def judge(
    images: Array, log_probabilities: Array, training_images: Array
) -> dict[str, float]:
    """Means over images: of the classifier's confidence and entropy (nats), and of the
    distance to the training set.
    """
    probabilities = jnp.exp(log_probabilities)
    return {
        "confidence": float(jnp.mean(jnp.max(probabilities, axis=-1))),
        "entropy": float(
            jnp.mean(-jnp.sum(probabilities * log_probabilities, axis=-1))
        ),
        "distance": float(jnp.mean(nearest_distance(images, training_images))),
    }


def pairs_of_classes(xs: Array, labels: np.ndarray, num: int) -> Array:
    """The first `num` pairs of successive test images whose classes differ, `[num, 2,
    height, width]`.
    """
    first = np.flatnonzero(labels[:-1] != labels[1:])[:num]
    return jnp.stack([xs[first], xs[first + 1]], axis=1)


def conclude(
    experiments: dict[str, run.Experiment],
    train: datasets.Dataset,
    test: datasets.Dataset,
    pairs: Array,
    members: Members,
    states: dict[str, TrainState],
    history: dict[str, list[dict]],
    check_interrupts: Callable[[], None],
) -> run.Result:
    """Both models at every place, seed by seed, beside as many real test images; for
    `pairs` see `decode_places`.
    """
    judging = classifier.train(train)
    check_interrupts()
    accuracy, score = judging.accuracy(test), judging.log_probabilities
    training_images = classifier.intensities(train.images)
    real = classifier.intensities(test.images[: len(pairs)])
    judged, pictures = {}, {}
    for arm, experiment in experiments.items():
        decode = jax.jit(partial(decode_places, experiment.vae))
        seeds = [
            decode(members.member(states[arm], i), pairs, training_images)
            for i in range(members.num)
        ]
        pictures[arm] = seeds[0]
        for place in PLACES:
            numbers = [
                judge(images[place], score(images[place]), training_images)
                for images in seeds
            ]
            judged[arm, place] = {
                name: evaluation.over_seeds([n[name] for n in numbers])
                for name in numbers[0]
            }
        check_interrupts()
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
    return run.Result(
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
        about=f"{len(pairs)} images a row, judged by a classifier of {accuracy:.2%} test accuracy; "
        f"{members.describe()}; confidence, then entropy in nats and distance to the "
        "nearest training image",
        rows=rows,
        figures=lambda: (
            {"contrast": contrast_figure(pictures)} | learning_curves(history)
        ),
        captions={
            "contrast": "What each model decodes at each place, without choosing.",
            "learning_curves": "Test loss over training: the VAE's negative ELBO, and the reconstruction alone of the "
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
    """Paired by seed."""
    pairs = {
        name: np.subtract(one[name]["values"], other[name]["values"]) for name in one
    }
    return _values(
        {name: evaluation.over_seeds(difference) for name, difference in pairs.items()}
    )


def contrast_figure(pictures: dict[str, dict[str, Array]]) -> Any:
    """One row for each model and place, of the first seed."""
    rows = {
        f"{place}, {arm}": pictures[arm][place][:SHOWN]
        for place in PLACES
        for arm in pictures
    }
    title = "Decoded by a VAE and by an autoencoder of the same networks"
    return plots.image_grid(
        np.stack(list(rows.values())), title=title, row_labels=list(rows)
    )


def learning_curves(history: dict[str, list[dict]]) -> dict[str, Any]:
    start = max(map(len, history.values())) // 10
    curves = over_epochs(
        history,
        "negative_elbo",
        ylabel="test loss (nats per example)",
        scale_from=start,
    )
    return {"learning_curves": curves}


def make_experiment(config: Config) -> run.Comparison:
    train, test = run.load(config)
    if train.labels is None or train.labels.ndim != 1:
        raise run.UsageError(
            f"--data {config.data} has no classes, which the judging classifier needs."
        )
    vae = mnist.make_experiment(config)
    experiments = {"VAE": vae, "autoencoder": make_autoencoder(vae)}
    pairs = pairs_of_classes(vae.test, test.labels, DRAWS)
    if not len(pairs):
        raise run.UsageError(
            f"--data {config.data}: no two successive test images differ in class; "
            "shuffle them."
        )
    return run.Comparison(
        experiments, partial(conclude, experiments, train, test, pairs)
    )


if __name__ == "__main__":
    run.main(Config, make_experiment)
