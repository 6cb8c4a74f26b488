"""Figures of a run on an array: images, or histograms of its dimensions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

import vaejax
from experiments.harness import figures, model_options
from experiments.own import arrays
from vaejax import latent, plots
from vaejax.base import VAE, Array, Key, Params

SHOWN_COLUMNS = 9


def figures_of(vae: VAE, xs: Array, data: arrays.Data) -> Callable:
    """Return `(params, key, history) -> {name: Figure}`."""
    if _are_images(xs, data.likelihood):
        return partial(figures.image_figures, vae, xs, data.labels)
    return partial(_histograms, vae, xs)


def _are_images(xs: Array, likelihood: str) -> bool:
    """Return whether the examples can be drawn; standardized values cannot."""
    has_shape = xs.ndim in (3, 4) and xs.shape[3:] in ((), (1,), (3,))
    others = arrays.STANDARDIZED + model_options.COUNTS
    return has_shape and likelihood not in others


def _histograms(
    vae: VAE, xs: Array, params: Params, key: Key, history: list[dict]
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
