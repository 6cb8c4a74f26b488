"""The figures that every experiment on images draws."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from vaejax import plots
from vaejax.base import Array, Key, Params

NUM_COLUMNS = 10


def image_figures(
    vae: vaejax.VAE, xs: Array, labels: np.ndarray, params: Params, key: Key, history: list[dict]
) -> Mapping[str, Any]:
    """Learning curves, reconstructions, prior samples, interpolations; a manifold where z has two dimensions.

    Args:
      vae: a model of images.
      xs: test images as the model sees them, `[examples, height, width]`, or with channels.
      labels: their classes, `[examples]`; the figures show the first of each.
      params: trained parameters.
      key: decides the samples.
      history: the lines of metrics.jsonl.
    """
    reconstruct_key, sample_key = jax.random.split(key)
    shown = np.array([np.flatnonzero(labels == label)[0] for label in np.unique(labels)])[:NUM_COLUMNS]
    originals = xs[shown]
    figures = {
        "learning_curves": learning_curves(history),
        "reconstructions": plots.image_grid(
            jnp.stack([originals, vaejax.reconstruct(vae, params, reconstruct_key, originals)]),
            title="Test images as the model sees them, and the mean of p(x|z) with z ~ q(z|x)",
            row_labels=("x", "p(x|z)"),
            column_labels=[str(label) for label in labels[shown]],
        ),
        "samples": plots.image_grid(
            vaejax.sample(vae, params, sample_key, NUM_COLUMNS**2).reshape(
                NUM_COLUMNS, NUM_COLUMNS, *originals.shape[1:]
            ),
            title="Prior samples: the mean of p(x|z) with z ~ p(z)",
        ),
        "interpolations": interpolations(vae, params, originals),
    }
    if jnp.shape(getattr(vae.prior(params), "mean", None)) == (2,):
        title = "The latent plane: the mean of p(x|z) at equally spaced quantiles of p(z)"
        figures["manifold"] = plots.image_grid(
            vaejax.manifold(vae, params, 2 * NUM_COLUMNS), title=title, cell_inches=0.3
        )
    return figures


def interpolations(vae: vaejax.VAE, params: Params, originals: Array) -> Any:
    """Straight lines between the posterior means of neighbouring examples, the examples themselves at both ends."""
    half = len(originals) // 2
    starts, ends = originals[: 2 * half : 2], originals[1 : 2 * half : 2]
    steps = NUM_COLUMNS - 2
    between = jax.vmap(lambda x0, x1: vaejax.interpolate(vae, params, x0, x1, steps))(starts, ends)
    columns = ["x0", *(f"t={t:.2f}" for t in np.linspace(0, 1, steps)), "x1"]
    return plots.image_grid(
        jnp.concatenate([starts[:, None], between, ends[:, None]], axis=1),
        title="Between two test images: the mean of p(x|z) at z = (1 - t) z0 + t z1",
        column_labels=columns,
    )


def learning_curves(history: list[dict]) -> Any:
    """Negative ELBO over epochs, on training batches as they came and on the test set after each epoch."""
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
