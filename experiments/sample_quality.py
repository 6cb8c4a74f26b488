"""Fidelity and diversity of prior draws in a classifier's features, beside likelihood.

The VAE of experiments.mnist at two latent sizes and three weights of the KL. Of each:
the test NLL; and of images decoded from the prior, at the prior's own temperature and a
lower one, and of reconstructions, how far their set is from the set of real test
images. The space is the last hidden layer of a classifier trained here on gray training
images. Decoded means are held against gray test images, draws of binary pixels against
the test images binarized once. A row of real training images, treated likewise, says
what a perfect model would have.

A likelihood and these numbers answer different questions: a blurred decode costs little
likelihood.

Papers: Kynkaanniemi et al. 2019 (precision, recall), Naeem et al. 2020 (density,
coverage), Heusel et al. 2017 (the Frechet distance, there in the features of another
network, so that no figure of it compares with one here). Command: python -m
experiments.sample_quality --num-seeds 3
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

import vaejax
from experiments import harness
from experiments.data import image_data
from experiments.harness import averages, binary_images, cli, evaluation, keys, trust
from experiments.judges import classifier
from vaejax import datasets, latent, plots
from vaejax.base import VAE, Array
from vaejax.training import TrainState

ABOUT = harness.About(
    what="fidelity and diversity of samples, beside likelihood",
    paper="Naeem et al. 2020, Kynkaanniemi et al. 2019",
    cost="25 minutes on 2 cores",
    expected="coverage 0.38 at 94.7 nats with beta 1, 0.70 at 104.9 with beta 4",
)

# Latent size and weight of the KL.
ARMS = {
    "2 latents": (2, 1.0),
    "20 latents": (20, 1.0),
    "beta 0.5": (20, 0.5),
    "beta 4": (20, 4.0),
}
TEMPERATURE = 0.7
SHOWN = 12
DIGITS = {"precision": 3, "recall": 3, "density": 3, "coverage": 3, "frechet": 2}
# Of the summary of every model.
LIKELIHOODS = (
    "nll",
    "nll_more_samples",
    "nll_annealed",
    "nll_bias",
    "nll_corrected",
)
HEADER = ("images", "precision", "recall", "density", "coverage", "Fréchet distance")
MEANS, COOL, RECONSTRUCTED, DRAWN = (
    "prior, means",
    f"prior at {TEMPERATURE}, means",
    "reconstructions",
    "prior, draws",
)


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    num_samples: int = 100
    """Importance samples per example of the test NLL."""
    num_images: int = 5000
    """Images per set; with fewer images the Frechet distance is larger by chance."""


def make_experiment(config: Config) -> harness.Comparison:
    train, test = harness.load_images(config)
    if train.labels is None or train.labels.ndim != 1:
        raise harness.UsageError(
            f"--data {config.data} has no classes, which the judging classifier needs."
        )
    if not 10 <= config.num_images <= len(test.images):
        raise harness.UsageError(
            f"--num-images is {config.num_images}; give 10 to {len(test.images)}, the "
            "test images."
        )
    if (config.latent_size, config.beta) != (Config.latent_size, Config.beta):
        raise harness.UsageError(
            "--latent-size and --beta are those of the arms here; leave them out."
        )
    arms = {
        name: binary_images.dense_experiment(
            dataclasses.replace(config, latent_size=latent_size, beta=beta)
        )
        for name, (latent_size, beta) in ARMS.items()
    }
    return harness.Comparison(arms, context=(train, test))


def analyze(trained: harness.Trained) -> harness.Result:
    """Return the NLL of every model, and the scores of its images, over seeds."""
    train, test = trained.context
    arms, members = trained.experiments, trained.members
    num_images = trained.config.num_images
    judging = classifier.train(train)
    trained.check_interrupts()
    # Evenly from the whole set: the halves of the digits' test set are of different
    # writers.
    real, others = (_evenly(part, num_images) for part in (test, train))
    binary = binary_images.binarize_once(keys.TEST_SET, real.images)
    targets = {
        False: np.asarray(image_data.intensities(real.images)),
        True: np.asarray(binary),
    }
    features = {
        is_drawn: np.asarray(judging.features(images))
        for is_drawn, images in targets.items()
    }
    held_out = {
        "training images, gray": (False, image_data.intensities(others.images)),
        "training images, binarized": (
            True,
            binary_images.binarize_once(keys.TRAINING_SET, others.images),
        ),
    }
    numbers = {
        name: {
            what: averages.over_seeds([value])
            for what, value in scores(features[drawn], judging, images).items()
        }
        for name, (drawn, images) in held_out.items()
    }
    evaluated, summaries, shown = {}, {}, {}
    for arm, experiment in arms.items():
        evaluated[arm] = evaluation.evaluate(trained, arm)
        summaries[arm] = evaluation.summarize(evaluated[arm], experiment)
        found: dict[str, list[dict[str, float]]] = {}
        for index in range(members.num):
            sets = decoded(experiment.vae, trained.state(arm, index), binary)
            for what, images in sets.items():
                found.setdefault(what, []).append(
                    scores(features[what == DRAWN], judging, images)
                )
            if index == 0:
                shown[arm] = {
                    what: np.asarray(images[:SHOWN]) for what, images in sets.items()
                }
            trained.check_interrupts()
        for what, each in found.items():
            numbers[f"{arm}: {what}"] = {
                name: averages.over_seeds([one[name] for one in each])
                for name in each[0]
            }
    accuracies = {
        "gray": judging.accuracy(test),
        "binarized": judging.accuracy(real._replace(images=np.asarray(binary))),
    }
    expected = vaejax.metrics.expected_coverage(num_images, num_images)
    return harness.Result(
        summary={
            "classifier_accuracy": accuracies,
            "num_images": num_images,
            "features": f"{classifier.WIDTH} of the classifier's last hidden layer",
            "expected_coverage": expected,
            "nll": {
                arm: {name: summary[name] for name in LIKELIHOODS if name in summary}
                for arm, summary in summaries.items()
            },
            "minus_20_latents": {
                arm: trust.paired(numbers, evaluated["20 latents"], arms[arm])
                for arm, numbers in evaluated.items()
                if arm != "20 latents"
            },
            "test": numbers,
        },
        headline=", ".join(
            f"{arm}: coverage "
            f"{averages.text(numbers[f'{arm}: {MEANS}']['coverage'], 2)}"
            for arm in arms
        ),
        about=f"{num_images:,} images per set; {classifier.WIDTH} features of a "
        "classifier with a test accuracy of "
        f"{accuracies['gray']:.2%} ({accuracies['binarized']:.2%} of binarized "
        "images); means against gray test "
        "images, draws against binarized ones; a perfect model has a coverage of "
        f"{expected:.3f}; "
        f"{members.describe()}. NLL in nats per example, dynamic binarization: "
        + "; ".join(f"{arm} {_nll(summary)}" for arm, summary in summaries.items()),
        header=HEADER,
        rows=[(name, *evaluation.cells(row, DIGITS)) for name, row in numbers.items()],
        figures=lambda: {
            "samples": samples_figure(shown, targets),
            "neighbors": neighbors_figure(shown["20 latents"][MEANS], train),
        },
        captions={
            "samples": "The first images of every set, without choosing.",
            "neighbors": "Prior draws of 20 latents, and under each the nearest "
            "training image by pixels, with the "
            "distance: a sample that is memorized would be the image below it.",
        },
    )


def _nll(summary: Mapping[str, Any]) -> str:
    """The bound, and the corrected NLL where it is annealed."""
    bound = f"bound {averages.text(summary['nll'], 2)}"
    corrected = averages.with_error(summary.get("nll_corrected"), 2)
    return f"{bound}, corrected {corrected}" if corrected else bound


def decoded(vae: VAE, state: TrainState, xs: Array) -> dict[str, Array]:
    """Return the sets of images of one model, `[num, height, width]` each.

    Each set has as many images as `xs`.
    """
    key = jax.random.fold_in(state.key, keys.SAMPLE_SETS)

    @jax.jit
    def all_of_them(params: Any, key: Array, xs: Array) -> dict[str, Array]:
        each = jax.random.split(key, 4)
        generate = partial(vaejax.sample, vae, params, num=len(xs))
        return {
            MEANS: generate(each[0]),
            COOL: generate(each[1], temperature=TEMPERATURE),
            RECONSTRUCTED: vaejax.reconstruct(vae, params, each[2], xs),
            DRAWN: generate(each[3], example_point=latent.draw),
        }

    sets = all_of_them(state.params, key, xs)
    return {what: sets[what] for what in (MEANS, COOL, DRAWN, RECONSTRUCTED)}


def scores(
    real_features: np.ndarray, judging: classifier.Classifier, images: Array
) -> dict[str, float]:
    """Return every number of a set of images against the features of real ones."""
    features = np.asarray(judging.features(images))
    return {
        **vaejax.metrics.precision_recall(real_features, features)._asdict(),
        **vaejax.metrics.density_coverage(real_features, features)._asdict(),
        "frechet": vaejax.metrics.frechet_distance(real_features, features),
    }


def _evenly(data: datasets.Dataset, num: int) -> datasets.Dataset:
    indices = np.linspace(0, len(data.images) - 1, num).astype(int)
    return datasets.Dataset(data.images[indices], data.labels[indices])


def samples_figure(
    shown: Mapping[str, Mapping[str, np.ndarray]], real: Mapping[bool, np.ndarray]
) -> Any:
    """Draw rows of real images, then those of every model."""
    rows = {"real, gray": real[False][:SHOWN], "real, binarized": real[True][:SHOWN]}
    rows |= {
        f"{arm}: {what}": images
        for arm, sets in shown.items()
        for what, images in sets.items()
    }
    return plots.image_grid(np.stack(list(rows.values())), row_labels=list(rows))


def neighbors_figure(images: np.ndarray, train: datasets.Dataset) -> Any:
    """Draw samples over their nearest training images, by the distance of pixels."""
    training = image_data.intensities(train.images)
    found = vaejax.latent.nearest_neighbors(images, training)
    pairs = np.stack([images, np.asarray(training[found.indices[:, 0]])])
    labels = [f"{distance:.1f}" for distance in np.asarray(found.distances[:, 0])]
    return plots.image_grid(
        pairs, row_labels=["sample", "nearest training image"], column_labels=labels
    )


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
