"""Latents on a sphere beside Normal ones: von Mises-Fisher and Normal posteriors.

At each of several latent sizes d two models of binary images have the same networks and
the same training: a Normal VAE with z in R^d, and one whose z lies on the d-dimensional
sphere in R^(d+1), with a von Mises-Fisher posterior and the uniform prior. Both KL are
exact. The NLL is bounded by importance sampling, and differences between the two are
paired by seed.

The codes, posterior means and mean directions, are judged by nearest neighbors with few
labels. Distances are Euclidean, which among vectors of length 1 rank neighbors as the
cosine does. All codes are judged on the same labels.

Paper: Davidson et al. 2018 (hyperspherical VAEs).
Command: python -m experiments.hyperspherical
Published protocol: python -m experiments.hyperspherical --epochs 1000
--constant-learning-rate --warm-up-epochs 100 --num-validation 10000 --patience 50
--num-samples 500 --num-label-sets 20
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
from experiments.harness import (
    analysis,
    averages,
    binary_images,
    cli,
    evaluation,
    keys,
    model_options,
    sphere_map,
)
from experiments.judges import probes
from vaejax import datasets, latent, plots, priors
from vaejax.base import Array, Head
from vaejax.distributions import normal_head, von_mises_fisher_head

ABOUT = harness.About(
    what="latents on a sphere beside Normal ones: bounds, and classes from few labels",
    paper="Davidson et al. 2018",
    cost="25 minutes on 2 busy cores, 3 seeds",
    expected="NLL bound, sphere less Normal: -2.3 with 2 dimensions, +12.9 with 40",
)

NORMAL, SPHERE = "Normal", "sphere"
FEW = (100, 600, 1000)  # labels
MAPPED = 3000  # test codes on the map
ROWS, COLUMNS = 12, 24  # of the decoded sphere
# Numbers of the table, with their decimals. The variance of a coordinate depends on the
# dimension of the sphere, so that units in use are not counted.
DIGITS = {"negative_elbo": 2, "log_likelihood": 2, "kl": 2, "nll": 2}
KEPT = (*DIGITS, "nll_more_samples")


@dataclasses.dataclass(frozen=True)
class Config(harness.Config):
    num_seeds: int = 3
    """Number of seeds of every model; numbers are mean and std over them."""
    epochs: int = 10
    """Passes over the training data."""
    latent_sizes: tuple[int, ...] = (2, 5, 10, 20, 40)
    """Dimensions of the Normal's z and of the sphere, which has one coordinate more;
    with 2 among them, both latent spaces are drawn.
    """
    hidden_sizes: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers of the encoder, in order; the decoder mirrors them.
    """
    batch_size: int = 64
    """Examples per step."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays to 0 by a cosine."""
    constant_learning_rate: bool = False
    """Keep the learning rate, instead of a decay to 0 by a cosine."""
    warm_up_epochs: harness.NonNegativeInt = 0
    """Epochs over which the weight of the KL rises linearly from 0."""
    num_samples: int = 100
    """Importance samples per example of the test NLL."""
    num_label_sets: int = 5
    """Sets of labels of each size, over which accuracies are averaged."""


class Context(NamedTuple):
    """Data for the analysis, beside the models.

    Attributes:
      images: training images whose labels are used, binarized once,
        `[sets, labels, ...]`, with as many labels as the largest set has.
      labels: their classes, `[sets, labels]`; the smaller sets are their beginnings.
      counts: sizes of the sets, ascending.
      test_labels: classes of the test images.
    """

    images: np.ndarray
    labels: np.ndarray
    counts: tuple[int, ...]
    test_labels: np.ndarray


def make_experiment(config: Config) -> harness.Comparison:
    probes.check_installed()
    train, test = harness.load_images(config)
    probes.check_classes(config.data, train, test)
    sizes = config.latent_sizes
    if not sizes or len(set(sizes)) < len(sizes):
        raise harness.UsageError(
            f"--latent-sizes are {list(sizes)}; give one or more, all different."
        )
    counts = tuple(num for num in FEW if num < len(train.images))
    if not counts:
        raise harness.UsageError(
            f"--data {config.data} has {len(train.images)} training images; give more "
            f"than {FEW[0]}."
        )
    binary_images.warn_of_late_warm_up(config.warm_up_epochs, config.epochs)
    data = binary_images.data_fields(config, train, test)
    per_epoch = harness.steps_per_epoch(data["train"], config.batch_size)

    def arm(vae: vaejax.VAE, point: latent.PointEstimator) -> harness.Experiment:
        vae = model_options.in_compute_dtype(config, vae)
        return harness.Experiment(
            vae=vae,
            recipe=partial(recipe, config, vae, per_epoch),
            hyperparameters={"learning_rate": config.learning_rate},
            batch_size=config.batch_size,
            num_samples=config.num_samples,
            latent_point=point,
            **data,
        )

    arms = {}
    for size in sorted(sizes):
        normal, sphere = make_models(config, size, train.images.shape[1:])
        arms[arm_name(NORMAL, size)] = arm(normal, latent.mean)
        arms[arm_name(SPHERE, size)] = arm(sphere, latent.mode)
    return harness.Comparison(
        arms, context=make_context(config.num_label_sets, train, test, counts)
    )


def arm_name(kind: str, size: int) -> str:
    """Return the name of a model, such as "sphere, 2"."""
    return f"{kind}, {size}"


def make_models(
    config: Config, size: int, shape: tuple[int, ...]
) -> tuple[vaejax.VAE, vaejax.VAE]:
    """Return the Normal VAE of a latent size, and that of the sphere."""

    def model(latent_size: int, head: Head) -> vaejax.VAE:
        return vaejax.gaussian_vae(
            latent_size=latent_size,
            encoder=vaejax.MLP(config.hidden_sizes),
            decoder=vaejax.MLP(config.hidden_sizes[::-1], shape),
            posterior=head,
        )

    sphere = model(size + 1, von_mises_fisher_head())
    return (
        model(size, normal_head()),
        priors.with_spherical_prior(sphere, latent_size=size + 1),
    )


def make_context(
    num_sets: int, train: datasets.Dataset, test: datasets.Dataset, counts: tuple
) -> Context:
    """Return the labels that codes are judged on, evenly over the classes."""
    assert train.labels is not None and test.labels is not None
    chosen = [
        probes.stratified(seed, train.labels, counts[-1]) for seed in range(num_sets)
    ]
    images = np.asarray(binary_images.binarize_once(keys.TRAINING_SET, train.images))
    return Context(images[np.array(chosen)], train.labels[chosen], counts, test.labels)


def recipe(
    config: Config,
    vae: vaejax.VAE,
    per_epoch: int,
    hyperparameters: Mapping[str, float | Array],
) -> harness.Recipe:
    """Return how a model is trained, with `per_epoch` steps an epoch."""
    learning_rate = binary_images.decayed(
        hyperparameters["learning_rate"],
        config.epochs * per_epoch,
        constant=config.constant_learning_rate,
    )
    beta = vaejax.training.warm_up(1.0, config.warm_up_epochs * per_epoch)
    return binary_images.elbo_recipe(vae, learning_rate, beta)


def neighbor_accuracies(trained: harness.Trained, arm: str) -> np.ndarray:
    """Return the test accuracy of nearest neighbors, `[members, counts]`.

    It is the mean over the sets of labels, NaN for members that have diverged.
    """
    experiment, context = trained.experiments[arm], trained.context
    embed = jax.jit(
        partial(vaejax.embed, experiment.vae, latent_point=experiment.latent_point)
    )
    flat = context.images.reshape(-1, *context.images.shape[2:])
    found = []
    for index in range(trained.members.num):
        params = trained.state(arm, index).params
        seen, test = (np.asarray(embed(params, xs)) for xs in (flat, experiment.test))
        seen = seen.reshape(*context.labels.shape, -1)
        found.append(mean_accuracies(seen, test, context))
        trained.check_interrupts()
    return evaluation.without_diverged(trained, arm, np.array(found))


def mean_accuracies(seen: np.ndarray, test: np.ndarray, context: Context) -> list:
    """Return the accuracy with each number of labels, a mean over their sets.

    Args:
      seen: codes with labels, `[sets, labels, dimensions]`.
      test: codes of the test images, `[examples, dimensions]`.
      context: the labels.
    """
    if not (np.isfinite(seen).all() and np.isfinite(test).all()):
        return [np.nan] * len(context.counts)

    def accuracy(codes: np.ndarray, labels: np.ndarray, count: int) -> float:
        known = codes[:count], labels[:count]
        return probes.neighbor_accuracy(*known, test, context.test_labels)

    pairs = list(zip(seen, context.labels, strict=True))
    return [
        np.mean([accuracy(*pair, count) for pair in pairs]) for count in context.counts
    ]


def accuracy_name(count: int) -> str:
    """Return the name of the accuracy with so many labels."""
    return f"neighbors, {count:,} labels"


def analyze(trained: harness.Trained) -> harness.Result:
    """Return bounds and accuracies of every model, and differences at each size."""
    arms, config, counts = trained.experiments, trained.config, trained.context.counts
    numbers = {name: evaluation.evaluate(trained, name) for name in arms}
    accuracies = {name: neighbor_accuracies(trained, name) for name in arms}

    def record(found: Mapping[str, Any], accuracy: np.ndarray) -> dict[str, Any]:
        return {name: found[name] for name in KEPT if name in found} | {
            accuracy_name(count): averages.over_seeds(values)
            for count, values in zip(counts, accuracy.T, strict=True)
        }

    summaries = {
        name: record(evaluation.summarize(numbers[name], arm), accuracies[name])
        for name, arm in arms.items()
    }
    differences = {}
    for size in sorted(config.latent_sizes):
        sphere, normal = arm_name(SPHERE, size), arm_name(NORMAL, size)
        differences[str(size)] = record(
            evaluation.paired(numbers[sphere], numbers[normal], arms[sphere]),
            accuracies[sphere] - accuracies[normal],
        )
    digits = DIGITS | {accuracy_name(count): 3 for count in counts}
    less = {f"{SPHERE} minus {NORMAL}, {size}": r for size, r in differences.items()}
    first = trained.first_experiment
    return harness.Result(
        summary={
            "binarization": first.binarization,
            "units": "nats per example",
            "num_test_examples": first.num_test_examples,
            "neighbors": probes.NEIGHBORS,
            "num_label_sets": config.num_label_sets,
            "test": summaries,
            "difference": differences,
        },
        headline=_headline(differences),
        about=f"{analysis.protocol(trained)}; {trained.members.describe()}; nats per "
        f"example; {evaluation.ELBO_SAMPLES} samples per example, {first.num_samples} "
        f"of the NLL; test accuracy of {probes.NEIGHBORS} neighbors, mean over "
        f"{config.num_label_sets} sets of labels; differences are paired by seed",
        header=(
            "model, dimensions",
            *(evaluation.MEANINGS[name][0] for name in DIGITS),
            *map(accuracy_name, counts),
        ),
        rows=evaluation.compared(summaries, less, digits),
        figures=partial(draw_figures, trained, summaries),
        captions={
            "nll": "NLL bound against the dimension of the latent space. Bands are one "
            "standard deviation over seeds.",
            "neighbors": f"Test accuracy of {probes.NEIGHBORS} nearest neighbors among "
            "the codes of labeled images. Bands are one standard deviation over seeds.",
            "maps": "Test images by their codes, colored by class: posterior means in "
            "the plane, and mean directions on the sphere, whose map keeps areas, so "
            "that its prior is uniform over the ellipse.",
            "decoded_plane": "The mean of p(x|z) at equally spaced quantiles of N(0, "
            "I).",
            "decoded_sphere": "The mean of p(x|z) over the sphere: longitudes from "
            "left to right, latitudes from top to bottom, in rows of equal areas.",
        },
    )


def _headline(differences: Mapping[str, Mapping[str, Any]]) -> str:
    found = [
        f"{averages.text(row['nll'], 2, '+')} nats with {size} dimensions"
        for size, row in differences.items()
    ]
    shown = found if len(found) < 3 else [found[0], found[-1]]
    return f"NLL bound of the {SPHERE} relative to the {NORMAL}: {', '.join(shown)}"


def draw_figures(
    trained: harness.Trained, summaries: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw numbers against latent sizes, and the latent spaces of two dimensions."""
    sizes, counts = sorted(trained.config.latent_sizes), trained.context.counts

    def over_sizes(kind: str, number: str) -> np.ndarray:
        rows = [summaries[arm_name(kind, size)][number] for size in sizes]
        return np.array([row["values"] for row in rows], float)

    options: dict[str, Any] = {"xlabel": "dimensions", "log_x": True}
    drawn = {
        "nll": plots.curves(
            sizes,
            {kind: over_sizes(kind, "nll") for kind in (NORMAL, SPHERE)},
            ylabel="NLL bound (nats per example)",
            **options,
        ),
        "neighbors": plots.curves(
            sizes,
            {
                f"{kind}, {count:,} labels": over_sizes(kind, accuracy_name(count))
                for count in (counts[0], counts[-1])
                for kind in (NORMAL, SPHERE)
            },
            ylabel="test accuracy",
            **options,
        ),
    }
    return drawn | (latent_spaces(trained) if 2 in sizes else {})


def latent_spaces(trained: harness.Trained) -> dict[str, Any]:
    """Draw codes in the plane and on the sphere, and what both decode to."""
    test, labels = trained.first_experiment.test, trained.context.test_labels
    mapped = np.linspace(0, len(test) - 1, min(MAPPED, len(test))).astype(int)
    codes = {}
    for kind in (NORMAL, SPHERE):
        experiment = trained.experiments[arm_name(kind, 2)]
        params = trained.state(arm_name(kind, 2)).params
        point = experiment.latent_point
        found = vaejax.embed(experiment.vae, params, test[mapped], latent_point=point)
        codes[kind] = np.asarray(found)
    panels = {
        f"{NORMAL}: the plane": codes[NORMAL],
        f"{SPHERE}: a map of equal areas": sphere_map.equal_area_map(codes[SPHERE]),
    }
    figure = plots.scatter(panels, labels[mapped])
    for axes in figure.axes:
        axes.set_aspect("equal")
    sphere = figure.axes[1]
    # A class may lie on both sides of the edge, where its median on the map is in none.
    for text, label in zip(sphere.texts, np.unique(labels[mapped]), strict=True):
        middle = codes[SPHERE][labels[mapped] == label].mean(axis=0)
        x, y = sphere_map.equal_area_map(middle / np.linalg.norm(middle))
        text.set_position((x, y))
    sphere_map.draw_graticule(sphere)
    return {"maps": figure} | decoded_spaces(trained)


def decoded_spaces(trained: harness.Trained) -> dict[str, Any]:
    """Draw decoded grids over the plane and over the sphere."""
    (plane, plane_params), (sphere, sphere_params) = (
        (trained.experiments[name].vae, trained.state(name).params)
        for name in (arm_name(NORMAL, 2), arm_name(SPHERE, 2))
    )
    longitude = np.pi * (2 * np.arange(COLUMNS) + 1 - COLUMNS) / COLUMNS
    height = 1 - (2 * np.arange(ROWS)[:, None] + 1) / ROWS
    zs = jnp.asarray(sphere_map.directions_of(longitude, height), jnp.float32)
    decode = jax.vmap(jax.vmap(lambda z: sphere.decode(sphere_params, z).mean))
    grids = {
        "decoded_plane": vaejax.manifold(plane, plane_params, ROWS),
        "decoded_sphere": jax.jit(decode)(zs),
    }
    return {
        name: plots.image_grid(np.asarray(images), cell_inches=0.3)
        for name, images in grids.items()
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
