"""Pictures and numbers of the latent space of a trained model of images.

They show the nats that each latent carries; each latent moved through the quantiles of
the aggregate posterior, as a grid and as an animation; prior samples at three
temperatures, with the nearest training images; paths between two test images, straight
and along a great circle; the plane of the two latents that carry most; and, where there
are classes, a test image pushed along the direction from one class to another. Of a
table it shows the nats of each latent, what each does to the columns, and the columns
beside draws. All of it is written to RUN/gallery.

Command: python -m experiments.gallery runs/mnist-0001
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import vaejax
from experiments.data import image_data
from experiments.harness import (
    About,
    UsageError,
    averages,
    cli,
    keys,
    load_run,
    run_dir,
)
from experiments.harness.experiment import Experiment
from experiments.own import figures as own_figures
from vaejax import latent, plots
from vaejax.base import VAE, Array, Key, Params
from vaejax.distributions import MaskedEvent

ABOUT = About(
    what="pictures of the latent space of any run on images",
    paper="Kingma & Welling 2014",
    cost="a minute",
    expected="only latents with a KL above 0 change the image",
)

MASSES = np.linspace(0.02, 0.98, 11)
TEMPERATURES = (0.5, 0.75, 1.0)
COLUMNS, CELLS = 10, 12
MOST_LATENTS = 20  # drawn, of those that carry most
FRAMES = 24
NEIGHBOR_SAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run."""
    arm: str | None = None
    """Name of one of the models that the run compares; by default the first."""
    member: int = 0
    """Number of one of its seeds (and settings, setting after setting), from 0."""
    out: Path | None = None
    """Folder to write to; by default RUN/gallery."""


class Gallery(NamedTuple):
    """Numbers and pictures of a model.

    Attributes:
      numbers: numbers by name.
      figures: figures by name.
      animations: contents of GIF files by their names.
    """

    numbers: dict[str, Any]
    figures: dict[str, Any]
    animations: dict[str, bytes]


def gallery(
    vae: VAE,
    params: Params,
    key: Key,
    xs: Array,
    training: Array,
    labels: np.ndarray | None = None,
    latent_point: latent.PointEstimator = latent.mean,
) -> Gallery:
    """Return every number and picture of a model of images.

    Args:
      vae: the model.
      params: its parameters.
      key: key of the samples.
      xs: test images as the model sees them, `[num, height, width]`, or with channels.
      training: training images in [0, 1] to find neighbors among, `[more, *image]`.
      labels: classes of the test images, `[num]`, or None.
      latent_point: the latent that stands for a posterior.
    """
    each = jax.random.split(key, 4)
    statistics = jax.jit(
        partial(vaejax.latent.code_statistics, vae, quantiles=jnp.asarray(MASSES))
    )(params, each[0], xs)
    order = np.asarray(statistics.order)[:MOST_LATENTS]
    names = [f"z{j + 1}" for j in order]
    figures = {"kl": _kl(statistics)}
    numbers = {
        "kl": averages.plain(np.asarray(statistics.kl)),
        "order": np.asarray(statistics.order).tolist(),
        "posterior_mean_variance": np.asarray(statistics.activity).tolist(),
    }
    grid, animation = _traversals(vae, params, xs[0], statistics.quantiles, order)
    figures["traversals"] = plots.image_grid(
        grid,
        title=(
            "Each latent moved through the quantiles of the aggregate posterior, from "
            "the most nats to the fewest"
        ),
        row_labels=names,
        column_labels=[f"{mass:.0%}" for mass in MASSES],
    )
    samples, distances, grid = _samples(vae, params, each[1], training)
    figures |= {"temperatures": samples, "neighbors": grid}
    # Decoded means too: smooth images are nearer to all others than sharp ones are.
    decoded = jax.jit(partial(vaejax.reconstruct, vae))(
        params, each[3], xs[:NEIGHBOR_SAMPLES]
    )
    held_out = vaejax.latent.nearest_neighbors(decoded, training).distances[:, 0]
    numbers["distance_to_nearest_training_image"] = {
        "samples": float(np.median(distances)),
        "reconstructions of test images": float(np.median(held_out)),
    }
    figures["ways"] = _ways(vae, params, xs)
    if len(order) > 1:
        pair = tuple(int(j) for j in order[:2])
        plane = jax.jit(partial(vaejax.manifold, vae, num=CELLS, dimensions=pair))(
            params, key=each[2]
        )
        title = (
            f"The plane of {names[0]} (across) and {names[1]} (up), through equally "
            "spaced quantiles of p(z)"
        )
        figures["plane"] = plots.image_grid(plane, title=title, cell_inches=0.35)
    if labels is not None and len(np.unique(labels)) > 1:
        codes = jax.jit(partial(vaejax.embed, vae, latent_point=latent_point))(
            params, xs, key=each[2]
        )
        # Of a hierarchy there is no one vector to push.
        if isinstance(codes, jax.Array) and codes.ndim == 2:
            figures["attributes"] = _attributes(vae, params, xs, codes, labels)
    return Gallery(numbers, figures, {"traversals.gif": animation})


def _kl(statistics: Any) -> Any:
    order = np.asarray(statistics.order)[: 3 * MOST_LATENTS]
    kl = np.asarray(statistics.kl)[order]
    return plots.bars(
        kl,
        labels=[f"z{j + 1}" for j in order],
        xlabel="latent",
        ylabel="KL (nats)",
        title=f"What each latent carries, {np.sum(statistics.kl):.1f} nats in all",
    )


def _traversals(
    vae: VAE, params: Params, x: Array, quantiles: Array, order: np.ndarray
) -> tuple[np.ndarray, bytes]:
    """A grid `[latents, quantiles, *image]`, and an animation of all latents."""
    traverse = jax.jit(
        lambda steps: vaejax.traverse(vae, params, x, steps=steps)[order]
    )
    at = np.linspace(0, len(MASSES) - 1, FRAMES)
    finer = np.stack(
        [np.interp(at, np.arange(len(MASSES)), row) for row in np.asarray(quantiles)]
    )
    frames = np.asarray(traverse(jnp.asarray(finer, quantiles.dtype)))
    columns = min(5, len(order))
    rows = -(-len(order) // columns)
    frames = np.concatenate(
        [
            frames,
            np.zeros((rows * columns - len(order), *frames.shape[1:]), frames.dtype),
        ]
    )
    frames = np.moveaxis(frames.reshape(rows, columns, *frames.shape[1:]), 2, 0)
    return np.asarray(traverse(quantiles)), plots.animation(frames)


def _samples(
    vae: VAE, params: Params, key: Key, training: Array
) -> tuple[Any, np.ndarray, Any]:
    """Samples by temperature, and the nearest training images of those at 1.

    Returns the figure of samples, the distances, and the figure of neighbors.
    """
    each = jax.random.split(key, len(TEMPERATURES))
    rows = []
    for one, temperature in zip(each, TEMPERATURES, strict=True):
        generate = partial(
            vaejax.sample, vae, num=NEIGHBOR_SAMPLES, temperature=temperature
        )
        rows.append(jax.jit(generate)(params, key=one))
    found = vaejax.latent.nearest_neighbors(rows[-1], training)
    distances = np.asarray(found.distances[:, 0])
    figure = plots.image_grid(
        np.stack([np.asarray(images[: 2 * COLUMNS]) for images in rows]),
        row_labels=[f"temperature {temperature}" for temperature in TEMPERATURES],
        title="Prior samples, the mean of p(x|z), without choosing",
    )
    neighbors = plots.image_grid(
        np.stack([rows[-1][:COLUMNS], training[found.indices[:COLUMNS, 0]]]),
        row_labels=["sample", "nearest training image"],
        column_labels=[f"{distance:.1f}" for distance in distances[:COLUMNS]],
        title="Is a sample new? Under each the Euclidean distance of pixels",
    )
    return figure, distances, neighbors


def _ways(vae: VAE, params: Params, xs: Array) -> Any:
    rows, labels = [], []
    for name, path in {
        "straight": latent.linear_path,
        "great circle": latent.spherical_path,
    }.items():
        way = jax.jit(partial(vaejax.interpolate, vae, num=COLUMNS, path=path))
        for pair in (0, 1):
            rows.append(way(params, x0=xs[2 * pair], x1=xs[2 * pair + 1]))
            labels.append(f"{name}, pair {pair + 1}")
    order = [0, 2, 1, 3]
    return plots.image_grid(
        np.stack([rows[i] for i in order]),
        row_labels=[labels[i] for i in order],
        column_labels=[f"t={t:.2f}" for t in np.linspace(0, 1, COLUMNS)],
        title="Between the codes of two test images",
    )


def _attributes(
    vae: VAE, params: Params, xs: Array, codes: Array, labels: np.ndarray
) -> Any:
    """The first example of each class, pushed towards the next class."""
    classes, first = np.unique(labels, return_index=True)
    classes, first = classes[:COLUMNS], first[:COLUMNS]
    steps = jnp.linspace(0.0, 1.5, 7)
    move = jax.jit(
        lambda x, direction: vaejax.latent.shift_latents(
            vae, params, x, direction, steps
        )
    )
    rows = []
    for start, here, there in zip(first, classes, np.roll(classes, -1), strict=True):
        both = (labels == here) | (labels == there)
        rows.append(
            move(
                xs[start],
                vaejax.latent.attribute_direction(
                    codes[both], jnp.asarray(labels[both] == there)
                ),
            )
        )
    return plots.image_grid(
        np.stack(rows),
        row_labels=[
            f"{here} to {there}"
            for here, there in zip(classes, np.roll(classes, -1), strict=True)
        ],
        column_labels=[f"{step:.2f}" for step in np.asarray(steps)],
        title=(
            "A test image, and its code plus so many times the difference of two "
            "classes' mean codes"
        ),
    )


def write_gallery(config: Config) -> Mapping[str, Any]:
    """Write the gallery of a run and return its numbers."""
    model = load_run.load_run(config.run, arm=config.arm, member=config.member)
    experiment = model.require_data()
    if isinstance(experiment.test, MaskedEvent):
        return _write(config, model, _of_table(model, experiment), "nats")
    xs = jnp.asarray(experiment.test)
    if xs.ndim not in (3, 4) or (xs.ndim == 4 and xs.shape[-1] > 4):
        raise UsageError(
            f"{config.run}: the gallery needs images, and the examples have shape "
            f"{xs.shape[1:]}."
        )
    if len(xs) < 4:
        raise UsageError(
            f"{config.run} has {len(xs)} test images; the gallery needs 4."
        )
    train = np.asarray(experiment.train)
    if train.shape[1:] != xs.shape[1:]:
        raise UsageError(
            f"{config.run}: its training set is no array of images, among which to "
            "find neighbors."
        )
    intensities = experiment.intensities or image_data.intensities
    training = intensities(train)
    key = jax.random.fold_in(model.state.key, keys.GALLERY)
    found = gallery(
        experiment.vae,
        model.state.params,
        key,
        xs,
        training,
        model.labels,
        experiment.latent_point,
    )
    return _write(config, model, found, "nats; Euclidean distance of pixels in [0, 1]")


def _of_table(model: load_run.LoadedRun, experiment: Experiment) -> Gallery:
    """The gallery of a table: the nats of each latent, and what it does to columns."""
    key = jax.random.fold_in(model.state.key, keys.GALLERY)
    vae, params, test = experiment.vae, model.state.params, experiment.test
    statistics = jax.jit(partial(vaejax.latent.code_statistics, vae))(params, key, test)
    found = own_figures.profiles(vae, params, key, model.schema, test, num=MOST_LATENTS)
    numbers = {
        "kl": averages.plain(np.asarray(statistics.kl)),
        "order": np.asarray(statistics.order).tolist(),
        "profiles": {
            f"z{j + 1}": {
                name: [float(values[0]), float(values[-1])]
                for name, values in zip(found.names, moved, strict=True)
            }
            for j, moved in zip(found.latents, found.values, strict=True)
        },
    }
    figures = {
        "kl": _kl(statistics),
        "profiles": own_figures.draw_profiles(found),
        "marginals": own_figures.marginals(vae, params, key, model.schema, test),
    }
    return Gallery(numbers, figures, {})


def _write(
    config: Config, model: load_run.LoadedRun, found: Gallery, units: str
) -> Mapping[str, Any]:
    """Write a gallery into its folder, and say so."""
    out = config.out or config.run / "gallery"
    out.mkdir(parents=True, exist_ok=True)
    run_dir.write_figures(out, found.figures)
    run_dir.write_files(out, found.animations)
    numbers = {
        "model": model.description,
        "units": units,
    } | found.numbers
    run_dir.write_json(out / "numbers.json", numbers)
    print(f"{model.description}, in {out}: numbers.json")
    for name in [
        *(f"figures/{figure}.png" for figure in found.figures),
        *found.animations,
    ]:
        print(f"  {name}")
    return numbers


if __name__ == "__main__":
    cli.look(Config, write_gallery)
