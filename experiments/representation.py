"""Probes and clusters of a VAE's codes: classes told from labels and without any.

The VAE of experiments.mnist at several latent sizes, and at one size with other weights
of the KL. Its posterior means are probed with 100, 1,000 and all training labels, by
logistic regression and by nearest neighbors, and clustered without labels by k-means
and by a Gaussian mixture. Beside each latent size stand as many principal components of
the same images, and the pixels themselves. Every method sees the same binarized images
and the same labels.

Papers: Kingma & Welling 2014; probes of codes as in Kingma et al. 2014 (M1).
Command: python -m experiments.representation --num-seeds 3
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import vaejax
from experiments import harness
from experiments.harness import averages, binary_images, cli, keys
from experiments.judges import probes
from vaejax import datasets, plots

ABOUT = harness.About(
    what="probes and clusters of codes, beside principal components and pixels",
    paper="Kingma et al. 2014",
    cost="25 minutes on 2 cores",
    expected=(
        "accuracy with 100 labels: 0.78 from 10 latents, 0.70 from 10 principal "
        "components"
    ),
)

BETA_SIZE = 20  # latents of the arms with another weight of the KL, and of the maps
FEW = (100, 1000)
DRAWS = 5  # of the few labels
CLUSTERED = 10_000  # training codes that clusters are fitted to
MAPPED = 3000  # test codes on the maps
PIXELS = "pixels"


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    latent_sizes: tuple[int, ...] = (2, 5, 10, 20, 50)
    """Dimensions of z, each with the weight --beta of the KL; 20 is always among
    them.
    """
    betas: tuple[float, ...] = (0.5, 4.0)
    """Further weights of the KL, with 20 latents."""


def make_experiment(config: Config) -> harness.Comparison:
    probes.check_installed()
    train, test = harness.load_images(config)
    probes.check_classes(config.data, train, test)
    if len(train.images) <= FEW[0]:
        raise harness.UsageError(
            f"--data {config.data} has {len(train.images)} training images; give more "
            f"than {FEW[0]}."
        )
    binary_images.check_no_nll(config)
    if config.latent_size != Config.latent_size:
        raise harness.UsageError(
            "--latent-size: this experiment compares several; give --latent-sizes."
        )
    sizes = sorted({*config.latent_sizes, BETA_SIZE})
    too_many = [
        size
        for size in sizes
        if size > min(np.prod(train.images.shape[1:]), len(train.images))
    ]
    if too_many or sizes[0] < 1:
        raise harness.UsageError(
            f"--latent-sizes has {(too_many or sizes)[0]}; give 1 to the number of "
            "pixels."
        )
    options = {f"{size} latents": {"latent_size": size} for size in sizes}
    options |= {
        f"beta {beta:g}": {"latent_size": BETA_SIZE, "beta": beta}
        for beta in config.betas
    }
    arms = {
        name: binary_images.dense_experiment(dataclasses.replace(config, **option))
        for name, option in options.items()
    }
    return harness.Comparison(arms, context=Context(sizes, train, test))


class Context(NamedTuple):
    """Data for the analysis, beside the models.

    Attributes:
      sizes: the latent sizes, ascending.
      train: training images with their classes.
      test: test images with their classes.
    """

    sizes: list[int]
    train: datasets.Dataset
    test: datasets.Dataset


def analyze(trained: harness.Trained) -> harness.Result:
    """Return every probe and cluster of every code, over seeds."""
    sizes, train, test = trained.context
    arms, members = trained.experiments, trained.members
    images = [
        np.asarray(binary_images.binarize_once(keys.TRAINING_SET, train.images)),
        np.asarray(trained.first_experiment.test),
    ]
    labels = [train.labels, test.labels]
    flat = [part.reshape(len(part), -1) for part in images]
    found: dict[str, dict[str, Any]] = {}
    mapped = np.linspace(0, len(flat[1]) - 1, min(MAPPED, len(flat[1]))).astype(int)
    shown = {}
    total = len(arms) * members.num + len(sizes) + 1
    with tqdm(total=total, unit="code", desc="probes", dynamic_ncols=True) as progress:

        def probed(codes: list[np.ndarray], mixture: bool = True) -> dict[str, float]:
            trained.check_interrupts()
            numbers = measure(codes, labels, mixture=mixture)
            progress.update()
            return numbers

        for arm, experiment in arms.items():
            embed = jax.jit(partial(vaejax.embed, experiment.vae))
            each = []
            for index in range(members.num):
                params = trained.state(arm, index).params
                codes = [np.asarray(embed(params, part)) for part in images]
                each.append(probed(codes))
                if index == 0 and arm == f"{BETA_SIZE} latents":
                    shown["VAE"] = codes[1][mapped]
            found[arm] = {
                name: averages.over_seeds(np.array([one[name] for one in each]))
                for name in each[0]
            }
        for size in sizes:
            codes = list(probes.principal_components(*flat, size))
            found[f"{size} components"] = _alone(probed(codes))
            if size == BETA_SIZE:
                shown["components"] = codes[1][mapped]
        # A covariance of all pixels for each cluster is of another cost, and singular.
        found[PIXELS] = _alone(probed(flat, mixture=False))
    names = columns(len(train.labels))
    best = f"{BETA_SIZE} latents"
    return harness.Result(
        summary={
            "classes": len(np.unique(test.labels)),
            "neighbors": probes.NEIGHBORS,
            "draws_of_few_labels": DRAWS,
            "test": found,
        },
        headline=f"with 100 labels {BETA_SIZE} latents tell "
        f"{averages.text(found[best]['linear, 100 labels'], 3)}, as many components "
        f"{averages.text(found[f'{BETA_SIZE} components']['linear, 100 labels'], 3)}",
        about=f"test accuracy of {len(test.labels):,} images, all methods of images "
        "binarized once (in training the "
        "VAE sees them binarized at each access); linear: logistic regression; "
        "neighbors: "
        f"{probes.NEIGHBORS}; of 100 and "
        f"1,000 labels the mean over {DRAWS} draws of them; clusters fitted to "
        f"{min(CLUSTERED, len(train.labels)):,} "
        f"training codes without labels; {members.describe()}",
        header=("code", *names),
        rows=[
            (name, *[_cell(numbers, column) for column in names])
            for name, numbers in found.items()
        ],
        figures=lambda: figures(
            trained, found, shown, test.labels[mapped], len(train.labels)
        ),
        captions={
            "labels": (
                "Test accuracy of the linear probe against the number of labels. "
                "Bands are one std over seeds."
            ),
            "latent_size": (
                "Against the size of the code: what 100 labels tell, and what "
                "clusters find without any."
            ),
            "beta": "Against the weight of the KL, at 20 latents.",
            "maps": "Test images by their codes, in two dimensions, colored by class.",
        },
    )


def columns(num_labels: int) -> list[str]:
    """Return the names of the numbers, in the order of the table."""
    counts = [*[f"{num:,} labels" for num in FEW if num < num_labels], "all labels"]
    kinds = [f"{kind}, {count}" for kind in ("linear", "neighbors") for count in counts]
    return kinds + [
        f"{kind} {name}"
        for kind in ("k-means", "mixture")
        for name in probes.Clustering._fields
    ]


def measure(
    codes: list[np.ndarray], labels: list[np.ndarray], *, mixture: bool = True
) -> dict[str, float]:
    """Return every number of training and test codes.

    Those of the mixture are NaN where it is left out.
    """
    (train, test), (train_labels, test_labels) = codes, labels
    numbers = {}
    for kind, probe in {
        "linear": probes.linear_accuracy,
        "neighbors": probes.neighbor_accuracy,
    }.items():
        for num in [num for num in FEW if num < len(train)]:
            draws = [
                probes.stratified(seed, train_labels, num) for seed in range(DRAWS)
            ]
            numbers[f"{kind}, {num:,} labels"] = float(
                np.mean(
                    [
                        probe(train[some], train_labels[some], test, test_labels)
                        for some in draws
                    ]
                )
            )
        numbers[f"{kind}, all labels"] = probe(train, train_labels, test, test_labels)
    some = train[np.linspace(0, len(train) - 1, min(CLUSTERED, len(train))).astype(int)]
    for kind, cluster in {
        "k-means": probes.k_means,
        "mixture": probes.gaussian_mixture,
    }.items():
        if kind == "mixture" and not mixture:
            agreed = probes.Clustering(np.nan, np.nan, np.nan)
        else:
            agreed = cluster(keys.PROBES, some, test, test_labels)
        numbers |= {f"{kind} {name}": value for name, value in agreed._asdict().items()}
    return numbers


def _alone(numbers: dict[str, float]) -> dict[str, Any]:
    """The numbers of a code without seeds."""
    return {
        name: averages.over_seeds(np.array([value])) for name, value in numbers.items()
    }


def _cell(numbers: Mapping[str, Any], name: str) -> str:
    return "" if numbers[name]["mean"] is None else averages.text(numbers[name], 3)


def figures(
    trained: harness.Trained,
    found: Mapping[str, Mapping[str, Any]],
    shown: Mapping[str, np.ndarray],
    labels: np.ndarray,
    num_labels: int,
) -> dict[str, Any]:
    """Draw accuracies against labels, latent size and beta, and maps of the codes."""
    sizes, beta = trained.context.sizes, trained.config.beta
    counts = [*[num for num in FEW if num < num_labels], num_labels]
    probe_names = [name for name in columns(num_labels) if name.startswith("linear")]

    def values(rows: list[str], name: str) -> np.ndarray:
        return np.array([found[row][name]["values"] for row in rows], float)

    latents, components = (
        [f"{size} latents" for size in sizes],
        [f"{size} components" for size in sizes],
    )
    codes = {
        "VAE, 20 latents": latents[sizes.index(BETA_SIZE)],
        "20 components": components[sizes.index(BETA_SIZE)],
    }
    drawn = {
        "labels": plots.curves(
            counts,
            {
                label: np.array(
                    [found[row][name]["values"] for name in probe_names], float
                )
                for label, row in (codes | {PIXELS: PIXELS}).items()
            },
            xlabel="labels",
            ylabel="test accuracy of the linear probe",
            log_x=True,
        ),
        "latent_size": plots.curves(
            sizes,
            {
                f"{kind}: {what}": values(rows, name)
                for what, name in {
                    "100 labels": probe_names[0],
                    "mixture": "mixture accuracy",
                }.items()
                for kind, rows in {"VAE": latents, "components": components}.items()
            },
            xlabel="dimensions of the code",
            ylabel="test accuracy",
            log_x=True,
        ),
    }
    by_beta = {beta: f"{BETA_SIZE} latents"} | {
        float(arm.split()[1]): arm
        for arm in trained.experiments
        if arm.startswith("beta")
    }
    if len(by_beta) > 1:
        rows = [by_beta[beta] for beta in sorted(by_beta)]
        names = {
            "100 labels": probe_names[0],
            "all labels": probe_names[-1],
            "mixture": "mixture accuracy",
        }
        drawn["beta"] = plots.curves(
            sorted(by_beta),
            {label: values(rows, name) for label, name in names.items()},
            xlabel="beta",
            ylabel="test accuracy",
            log_x=True,
        )
    maps = probes.planar(keys.PROBES, shown["VAE"])
    panels = {f"{name} of {BETA_SIZE} latents": points for name, points in maps.items()}
    panels[f"t-SNE of {BETA_SIZE} components"] = probes.planar(
        keys.PROBES, shown["components"]
    )["t-SNE"]
    drawn["maps"] = plots.scatter(panels, labels)
    return drawn


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
