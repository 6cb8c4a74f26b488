"""VAEs of binary images: options, binarization, and the training that programs share.

Training images are binarized at each access; test and validation images are binarized
once.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments.harness import config as options, figures, keys, model_options
from experiments.harness.data_sets import hold_out, load_images
from experiments.harness.errors import UsageError
from experiments.harness.experiment import Experiment, Recipe, steps_per_epoch
from vaejax import datasets
from vaejax.base import Array, KlFn


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """The options of every program that trains VAEs of binary images."""

    epochs: int = 20
    """Passes over the training data; the learning rate decays to zero over them."""
    hidden_size: int = 400
    """Width of the hidden layer of encoder and decoder."""
    latent_size: int = 20
    """Dimensions of z; with 2, the latent plane is drawn too."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 3e-3
    """Initial learning rate of Adam; decays to 0 by a cosine; may be swept."""
    beta: options.NonNegativeFloat = 1.0
    """Weight of the KL in the loss: 1 is the ELBO, other values are beta-VAE; may be
    swept.
    """
    warm_up_epochs: options.NonNegativeInt = 0
    """Epochs over which beta rises linearly from 0."""
    num_samples: int = 500
    """Importance samples per example of the test NLL."""
    num_annealed: options.NonNegativeInt = 64
    """Test examples whose log p(x) is annealed too, which shows the bias of the NLL."""


def check_no_nll(config: Config) -> None:
    """Raise UsageError where an experiment without an NLL is given options of one."""
    for name in ("num_samples", "num_annealed"):
        if getattr(config, name) not in (getattr(type(config), name), 0):
            raise UsageError(
                f"--{name.replace('_', '-')}: this experiment estimates no NLL; leave "
                "it out."
            )


def is_gray(images: np.ndarray) -> bool:
    """Return whether any pixel lies between black and white.

    If none does, binarization at each access changes nothing.
    """
    white = 255 if images.dtype == np.uint8 else 1
    return any(
        np.any((part > 0) & (part < white)) for part in datasets.iterate_chunks(images)
    )


def binarize_once(seed: int, images: np.ndarray) -> Array:
    """Return the images as the model sees them, drawn once, each with its own key."""
    each = jax.random.split(jax.random.key(seed), len(images))
    return jax.jit(jax.vmap(vaejax.binarize))(each, jnp.asarray(images))


def data_fields(
    config: options.Config, train: datasets.Dataset, test: datasets.Dataset
) -> dict[str, Any]:
    """Return the fields of an experiment that hold its images and say what they are.

    The validation images are the last of the training images.
    """
    train, validation = hold_out(train, config.num_validation)
    return {
        "train": train.images,
        "test": binarize_once(keys.TEST_SET, test.images),
        "data_checksum": datasets.checksum(train, test),
        "binarization": "dynamic" if is_gray(train.images) else "static",
        "validation": None
        if validation is None
        else binarize_once(keys.VALIDATION_SET, validation.images),
    }


def dense_experiment(config: Config) -> Experiment:
    """Return the experiment of one hidden layer on either side, Bernoulli pixels."""
    train, test = load_images(config)
    vae = vaejax.gaussian_vae(
        latent_size=config.latent_size,
        encoder=vaejax.MLP((config.hidden_size,)),
        decoder=vaejax.MLP((config.hidden_size,), train.images.shape[1:]),
        likelihood=vaejax.Bernoulli,
    )
    return binary_experiment(config, vae, train, test)


def binary_experiment(
    config: Config, vae: vaejax.VAE, train: datasets.Dataset, test: datasets.Dataset
) -> Experiment:
    """Return the experiment of any VAE of binary images.

    Adam with a cosine decay maximizes the ELBO; beta may rise at first.
    """
    data = data_fields(config, train, test)
    vae = model_options.in_compute_dtype(config, vae)
    per_epoch = steps_per_epoch(data["train"], config.batch_size)
    num_steps = config.epochs * per_epoch
    warn_of_late_warm_up(config.warm_up_epochs, config.epochs)

    def recipe(hyperparameters: Mapping[str, float | Array]) -> Recipe:
        learning_rate = decayed(hyperparameters["learning_rate"], num_steps)
        beta = vaejax.training.warm_up(
            hyperparameters["beta"], config.warm_up_epochs * per_epoch
        )
        return elbo_recipe(vae, learning_rate, beta)

    return Experiment(
        vae=vae,
        recipe=recipe,
        hyperparameters={"learning_rate": config.learning_rate, "beta": config.beta},
        batch_size=config.batch_size,
        figures=partial(figures.image_figures, vae, data["test"], test.labels),
        num_samples=config.num_samples,
        num_annealed=config.num_annealed,
        **data,
    )


def decayed(learning_rate: Any, num_steps: int, *, constant: bool = False) -> Any:
    """Return the cosine decay of a learning rate to 0, or the rate where constant."""
    if constant:
        return learning_rate
    return optax.cosine_decay_schedule(learning_rate, num_steps)


def elbo_recipe(
    vae: vaejax.VAE,
    learning_rate: Any,
    beta: vaejax.training.Schedule,
    *,
    kl_fn: KlFn = vaejax.kl_closed_form,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
) -> Recipe:
    """Return how a VAE of binary images is trained on the ELBO.

    Args:
      vae: the model.
      learning_rate: a number or a schedule, as `optimizer` takes it.
      beta: weight of the KL, by step.
      kl_fn: the KL of this posterior and prior.
      optimizer: makes the optimizer of a learning rate.
    """
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae, kl_fn=kl_fn), vaejax.binarize
    )
    return Recipe(
        vaejax.mean_over_batch(objective), optimizer(learning_rate), {"beta": beta}
    )


def warn_of_late_warm_up(warm_up_epochs: int, epochs: int) -> None:
    """Warn where training ends before beta has risen."""
    if warm_up_epochs >= epochs:
        warnings.warn(
            f"beta rises over {warm_up_epochs} epochs and training ends after {epochs}",
            stacklevel=2,
        )
