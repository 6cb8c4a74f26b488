"""Sets of images whose factors of variation are known, rendered or loaded."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import sprites
from experiments.harness import Config, UsageError, keys
from vaejax import datasets
from vaejax.base import Array, PyTree

NUM_TEST = NUM_SCORED = 5_000


class Population(NamedTuple):
    """A set of images with factors.

    Attributes:
      train: all images as a training step takes them, `[num, ...]`.
      as_images: turns a batch of `train` into float32 images in [0, 1].
      test: images that the ELBO is measured on.
      scored: images whose codes are scored.
      factors: factors of `scored`, integers `[scored, num_factors]`, none constant.
      shown: one image, whose latents are moved.
      description: words and numbers about the set, for the summary.
    """

    train: PyTree
    as_images: Callable[[Array], Array]
    test: Array
    scored: Array
    factors: np.ndarray
    shown: Array
    description: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.test.shape[1:]


def rendered(grid: sprites.Grid) -> Population:
    """Render every combination of a grid's factors."""
    render = jax.jit(jax.vmap(partial(sprites.render, grid)))
    train: np.ndarray = grid.factors()
    as_images: Callable[[Array], Array] = jax.vmap(partial(sprites.render, grid))
    # A coarse grid is kept as images; the full one would fill a device, and is rendered
    # in the step.
    if grid.num * grid.pixels**2 < 2**28:
        train = np.concatenate(
            [
                np.asarray(render(part)).astype(bool)
                for part in np.array_split(train, 20)
            ]
        )
        as_images = partial(jnp.asarray, dtype=jnp.float32)
    factors = grid.draw(min(NUM_SCORED, grid.num), seed=keys.FACTOR_SCORED)
    return Population(
        train,
        as_images,
        render(grid.draw(min(NUM_TEST, grid.num), seed=keys.FACTOR_TEST)),
        render(factors),
        factors.astype(int),
        sprites.middle(grid),
        {
            "rendered": {
                "factors": sprites.FACTORS,
                "sizes": grid.sizes,
                "pixels": grid.pixels,
            }
        },
    )


def loaded(config: Config) -> Population:
    """Load the training part of --data, whose labels are several factors.

    Raises:
      UsageError: it is not such a set.
    """
    try:
        data = datasets.load(config.data, split="train", directory=config.data_dir)
    except ValueError as error:
        raise UsageError(f"--data: {error}") from error
    if data.labels is None or data.labels.ndim != 2:
        raise UsageError(
            f"--data {config.data} has no factors: give a set with several labels per "
            "image."
        )
    varied = np.ptp(data.labels, axis=0) > 0
    if np.sum(varied) < 2:
        raise UsageError(
            f"--data {config.data} has {np.sum(varied)} factors that vary; give two or "
            "more."
        )
    scale = 255 if data.images.dtype == np.uint8 else 1

    def as_images(batch: Array) -> Array:
        return jnp.asarray(batch, jnp.float32) / scale

    def draw(num: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).choice(
            len(data.images), min(num, len(data.images)), replace=False
        )

    scored = draw(NUM_SCORED, keys.FACTOR_SCORED)
    return Population(
        data.images,
        as_images,
        as_images(data.images[draw(NUM_TEST, keys.FACTOR_TEST)]),
        as_images(data.images[scored]),
        data.labels[scored][:, varied].astype(int),
        as_images(data.images[len(data.images) // 2]),
        {
            "loaded": {
                "data": config.data,
                "factors": int(np.sum(varied)),
                "shape": list(data.images.shape[1:]),
            }
        },
    )
