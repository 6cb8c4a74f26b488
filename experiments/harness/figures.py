"""Figures that programs share: learning curves, and images of a model."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments.harness import keys
from experiments.harness.errors import one_line
from experiments.harness.experiment import Trained
from vaejax import plots
from vaejax.base import Array, Key, Params

# Options of a text from outside, such as the name of a file: no formula, no TeX.
AS_GIVEN: dict[str, Any] = {"parse_math": False, "usetex": False}
LONGEST_LABEL = 32
COLUMNS = 10
CELLS = 20  # per side of the latent plane


def short_label(name: str) -> str:
    """Return a name from outside as a short label, to be drawn with `AS_GIVEN`."""
    label, half = one_line(name), LONGEST_LABEL // 2
    return label if len(label) <= LONGEST_LABEL else f"{label[:half]}...{label[-half:]}"


def image_figures(
    vae: vaejax.VAE,
    xs: Array,
    labels: np.ndarray | None,
    params: Params,
    key: Key,
    history: list[dict],
) -> Mapping[str, Any]:
    """Draw learning curves, reconstructions, prior samples and interpolations.

    Where z has two dimensions, the latent plane is drawn too.

    Args:
      vae: a model of images.
      xs: test images as the model sees them, `[examples, height, width]`, or with
        channels.
      labels: their classes, `[examples]`, of each of which the figures show the first
        image; or None.
      params: trained parameters.
      key: key of the samples.
      history: the lines of metrics.jsonl.
    """
    # Sets without classes, or with several factors, show their first images.
    shown, names = np.arange(min(COLUMNS, len(xs))), []
    if labels is not None and labels.ndim == 1:
        classes, first = np.unique(labels, return_index=True)
        if len(classes) > 1:
            shown, names = first[:COLUMNS], [str(label) for label in classes[:COLUMNS]]
    originals = xs[shown]
    images = jax.device_get(
        jax.jit(_images, static_argnums=0)(vae, params, key, originals)
    )
    t = [f"t={t:.2f}" for t in np.linspace(0, 1, COLUMNS - 2)]
    figures = {
        "learning_curves": learning_curves(history),
        "reconstructions": plots.image_grid(
            images["reconstructions"],
            title=(
                "Test images as the model sees them, and the mean of p(x|z) with z ~ "
                "q(z|x)"
            ),
            row_labels=("x", "mean of p(x|z)"),
            column_labels=names,
        ),
        "samples": plots.image_grid(
            images["samples"], title="Prior samples: the mean of p(x|z) with z ~ p(z)"
        ),
        "interpolations": plots.image_grid(
            images["interpolations"],
            title=(
                "Between two test images: the mean of p(x|z) at z = (1 - t) z0 + t z1"
            ),
            column_labels=["x0", *t, "x1"],
        ),
    }
    if "manifold" in images:
        title = (
            "The latent plane: the mean of p(x|z) at equally spaced quantiles of p(z)"
        )
        figures["manifold"] = plots.image_grid(
            images["manifold"], title=title, cell_inches=0.3
        )
    return figures


def _images(
    vae: vaejax.VAE, params: Params, key: Key, originals: Array
) -> dict[str, Array]:
    """The grids of every figure, `[rows, columns, height, width]`, as one program."""
    reconstruct_key, sample_key = jax.random.split(key)
    samples = vaejax.sample(vae, params, sample_key, COLUMNS**2)
    images = {
        "reconstructions": jnp.stack(
            [originals, vaejax.reconstruct(vae, params, reconstruct_key, originals)]
        ),
        "samples": samples.reshape(COLUMNS, COLUMNS, *originals.shape[1:]),
        "interpolations": interpolations(vae, params, originals),
    }
    mean = getattr(vae.prior(params), "mean", None)
    if mean is not None and jnp.shape(mean) == (2,):
        images["manifold"] = vaejax.manifold(vae, params, CELLS)
    return images


def samples_of_each(trained: Trained, num: int) -> dict[str, np.ndarray]:
    """Return prior samples of the first seed of every model, `[num, ...]` by name."""
    samples = {}
    for name, experiment in trained.experiments.items():
        state = trained.state(name)
        draw = jax.jit(partial(vaejax.sample, experiment.vae, num=num))
        key = jax.random.fold_in(state.key, keys.FIGURES)
        samples[name] = np.asarray(draw(state.params, key))
    return samples


def interpolations(vae: vaejax.VAE, params: Params, originals: Array) -> Array:
    """Return decoded straight lines between posterior means of neighboring examples.

    The examples themselves are at both ends.
    """
    pairs = len(originals) // 2 * 2
    starts, ends = originals[0:pairs:2], originals[1:pairs:2]
    between = jax.vmap(
        lambda x0, x1: vaejax.interpolate(vae, params, x0, x1, COLUMNS - 2)
    )(starts, ends)
    return jnp.concatenate([starts[:, None], between, ends[:, None]], axis=1)


def over_epochs(history: Mapping[str, list[dict]], number: str, **options: Any) -> Any:
    """Draw a number of the test set after each epoch, one line per model.

    `options` are those of `plots.curves`.
    """
    series = {
        name: [row["test"][number] for row in rows] for name, rows in history.items()
    }
    return plots.curves(*plots.pad_series(series), xlabel="epoch", **options)


def learning_curves(history: list[dict]) -> Any:
    """Draw the negative ELBO over epochs, on training batches and on the test set."""
    series = {
        "train (mean over the epoch)": [row["train"]["loss"] for row in history],
        "test (after the epoch)": [row["test"]["negative_elbo"] for row in history],
    }
    return plots.curves(
        [row["epoch"] for row in history],
        series,
        xlabel="epoch",
        ylabel="negative ELBO (nats per example)",
        scale_from=len(history) // 10,
    )
