"""A variational autoencoder of one hidden layer on the digits, binarized afresh at each
access.

Paper: Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; the binarization is
that of Burda et al. 2016. Command: python -m experiments.mnist
"""

import dataclasses
import warnings
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments.harness import figures, model_options, run
from vaejax import datasets
from vaejax.base import Array

ABOUT = run.About(
    what="one-hidden-layer VAE on dynamically binarized digits",
    paper="Kingma & Welling 2014",
    cost="2 minutes on 2 cores",
    expected="negative ELBO 98.8 ± 0.1, NLL 94.2 ± 0.1 nats",
)

# The test set is drawn once, with this key, whatever the seed of the run: every model
# is judged on the same pixels. Likewise the validation images.
TEST_KEY, VALIDATION_KEY = 777, 778


@dataclasses.dataclass(frozen=True)
class Config(run.Config):
    epochs: int = 20
    """Passes over the training data; the learning rate decays to zero over them."""
    hidden_size: int = 400
    """Width of the hidden layer of encoder and decoder."""
    latent_size: int = 20
    """Dimensions of z; with 2, the latent plane is drawn too."""
    batch_size: int = 128
    """Examples a step."""
    learning_rate: float = 3e-3
    """Adam's, at the start of the cosine decay; may be swept."""
    beta: float = 1.0
    """Weight of the KL in the loss: 1 is the bound, another value beta-VAE; may be
    swept.
    """
    warm_up_epochs: int = 0
    """Epochs over which beta rises from 0 in a straight line."""
    num_samples: int = 500
    """Importance samples an example of the test NLL."""


def is_gray(images: np.ndarray) -> bool:
    """Whether any pixel lies between black and white; if none does, a fresh
    binarization changes nothing.
    """
    white = 255 if images.dtype == np.uint8 else 1
    return any(
        np.any((part > 0) & (part < white))
        for part in vaejax.datasets.iterate_chunks(images)
    )


def binarize_once(seed: int, images: np.ndarray) -> Array:
    """The images as the model sees them, drawn once, each with its own key."""
    keys = jax.random.split(jax.random.key(seed), len(images))
    return jax.jit(jax.vmap(vaejax.binarize))(keys, jnp.asarray(images))


def make_experiment(config: Config) -> run.Experiment:
    train, test = run.load(config)
    vae = vaejax.gaussian_vae(
        latent_size=config.latent_size,
        encoder=vaejax.MLP((config.hidden_size,)),
        decoder=vaejax.MLP((config.hidden_size,), train.images.shape[1:]),
        likelihood=vaejax.Bernoulli,
    )
    return binary_experiment(config, vae, train, test)


def binary_experiment(
    config: Config, vae: vaejax.VAE, train: datasets.Dataset, test: datasets.Dataset
) -> run.Experiment:
    """A VAE of binary images, trained as this file says."""
    train, validation = run.hold_out(train, config.num_validation)
    vae = model_options.in_compute_dtype(config, vae)
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae), vaejax.binarize
    )
    steps_per_epoch = run.steps_per_epoch(train.images, config.batch_size)
    num_steps = config.epochs * steps_per_epoch
    if config.warm_up_epochs >= config.epochs:
        warnings.warn(
            f"beta rises over {config.warm_up_epochs} epochs and training ends after "
            f"{config.epochs}",
            stacklevel=1,
        )

    def recipe(hyperparameters: Mapping[str, float | Array]) -> run.Recipe:
        learning_rate = optax.cosine_decay_schedule(
            hyperparameters["learning_rate"], num_steps
        )
        beta = vaejax.training.warm_up(
            hyperparameters["beta"], config.warm_up_epochs * steps_per_epoch
        )
        return run.Recipe(
            vaejax.mean_over_batch(objective), optax.adam(learning_rate), {"beta": beta}
        )

    xs = binarize_once(TEST_KEY, test.images)
    return run.Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={"learning_rate": config.learning_rate, "beta": config.beta},
        batch_size=config.batch_size,
        train=train.images,
        test=xs,
        data_checksum=datasets.checksum(train, test),
        binarization="dynamic" if is_gray(train.images) else "static",
        figures=partial(figures.image_figures, vae, xs, test.labels),
        num_samples=config.num_samples,
        validation=None
        if validation is None
        else binarize_once(VALIDATION_KEY, validation.images),
    )


if __name__ == "__main__":
    run.main(Config, make_experiment)
