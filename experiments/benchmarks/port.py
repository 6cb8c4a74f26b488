"""Section `port`: the VAE of Flax's examples beside the same model here."""

from functools import partial
from typing import Any

import numpy as np
import optax

import vaejax
from experiments.benchmarks import peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.models import show
from experiments.harness import Recipe

# The options of the example.
OPTIONS = {
    "hidden_size": 500,
    "latent_size": 20,
    "batch_size": 128,
    "learning_rate": 1e-3,
}
NUM_IMAGES = 50_000


def port_section(bench: Bench) -> dict[str, Any]:
    """Measure an epoch of the example as it is written in Flax, and as it is here.

    Both see the same images, drawn once as 0 and 1.
    """
    images = bench.experiment.train[:NUM_IMAGES]
    drawn = np.random.default_rng(0).random(images.shape) < images / 255
    pixels = drawn.reshape(len(images), -1).astype(np.float32)
    vae = vaejax.gaussian_vae(
        latent_size=OPTIONS["latent_size"],
        encoder=vaejax.MLP((OPTIONS["hidden_size"],)),
        decoder=vaejax.MLP((OPTIONS["hidden_size"],), pixels.shape[1:]),
    )
    loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
    optimizer = optax.adam(OPTIONS["learning_rate"])
    experiment = bench.experiment._replace(
        vae=vae,
        recipe=lambda _: Recipe(loss_fn, optimizer),
        batch_size=OPTIONS["batch_size"],
        train=pixels,
        test=pixels[:1],
    )
    rows = {"Flax's example": peers.linen(pixels, **OPTIONS)}
    return show("The VAE of Flax's examples", experiment, rows, bench)
