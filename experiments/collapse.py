"""Posterior collapse: which latents a VAE leaves unused, what wakes them, and what that costs.

One model of the digits (784-200-z, dynamic binarisation) at six latent sizes, each trained in six ways from the same
first parameters, noise and order of the data: the plain bound; beta rising over the first half of training; beta rising
and falling back four times; free bits, here a floor under each dimension's KL; a capacity, here a KL pulled to a target
that rises over the first half; and an aggressive encoder, whose decoder learns at every fifth step only in the first
half. (The published rule lets the encoder converge before each step of the decoder; a fixed ratio is what fits a
compiled program and equal numbers of steps.) Learning rate and epochs are the same for all and tuned for none.

A latent is active if its posterior mean varies over the test set by more than 0.01. A floor makes every latent active
by decree: read the mutual information beside it.

Papers: Bowman et al. 2016 (rising beta), Fu et al. 2019 (cycles), Kingma et al. 2016 (free bits), Burgess et al. 2018
(capacity), He et al. 2019 (aggressive encoder), Burda et al. 2016 (active units).
Command: python -m experiments.collapse
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vaejax
from experiments import evaluation, mnist, run
from experiments.members import Members
from vaejax import datasets, schedules
from vaejax.base import Array
from vaejax.training import TrainState

ABOUT = run.About(
    what="posterior collapse: six ways of training at six latent sizes",
    paper="Kingma et al. 2016, He et al. 2019 and others",
    cost="an hour on 2 cores",
    expected="unused latents beyond 20 or so, whatever their number",
)


class Cure(NamedTuple):
    """One way of training; the defaults are the plain bound.

    Attributes:
      shape: of beta over training: an index of `SHAPES`.
      beta: weight of the KL, at the end of its rise.
      minimum: nats that each dimension may carry at no cost.
      gamma: weight of the distance between KL and target.
      target: KL in nats, from the middle of training on; it rises from 0 until there.
      period: steps of the encoder to one of the decoder, in the first half of training.
    """

    shape: int = 0
    beta: float = 1.0
    minimum: float = 0.0
    gamma: float = 0.0
    target: float = 0.0
    period: int = 1


CONSTANT, RISING, CYCLICAL = range(3)
CURES = {
    "plain": Cure(),
    "warm-up": Cure(shape=RISING),
    "cyclical": Cure(shape=CYCLICAL),
    "free bits": Cure(minimum=0.1),
    "capacity": Cure(beta=0.0, gamma=10.0, target=25.0),
    "aggressive encoder": Cure(period=5),
}


@dataclasses.dataclass(frozen=True)
class Config(run.Config):
    num_seeds: int = 3
    """Train that many seeds of every cure and latent size; numbers are mean and std over them."""
    epochs: int = 10
    """Passes over the training data; the learning rate decays to zero over them."""
    latent_sizes: tuple[int, ...] = (2, 5, 10, 20, 40, 100)
    """Dimensions of z, one model each."""
    hidden_size: int = 200
    """Width of the hidden layers."""
    batch_size: int = 128
    """Examples a step."""
    learning_rate: float = 3e-3
    """Adam's, at the start of the cosine decay."""
    num_samples: int = 100
    """Importance samples an example of the test NLL."""


def make_experiment(config: Config) -> run.Comparison:
    if len(set(config.latent_sizes)) < len(config.latent_sizes) or min(config.latent_sizes, default=0) < 1:
        raise run.UsageError(f"--latent-sizes are {list(config.latent_sizes)}; give different positive integers.")
    train, test = run.load(config)
    train, validation = run.hold_out(train, config.num_validation)
    num_steps = config.epochs * run.steps_per_epoch(train.images, config.batch_size)

    def arm(latent_size: int) -> run.Experiment:
        vae = vaejax.gaussian_vae(
            latent_size=latent_size,
            encoder=vaejax.MLP((config.hidden_size,)),
            decoder=vaejax.MLP((config.hidden_size,), train.images.shape[1:]),
            likelihood=vaejax.Bernoulli,
        )
        vae = vaejax.with_compute_dtype(vae, config.compute_dtype) if config.compute_dtype != "float32" else vae
        return run.Experiment(
            vae=vae,
            recipe=partial(recipe, vae, config.learning_rate, num_steps),
            hyperparameters=CURES["plain"]._asdict(),
            batch_size=config.batch_size,
            train=train.images,
            test=xs,
            data_checksum=datasets.checksum(train, test),
            binarization="dynamic" if mnist.is_grey(train.images) else "static",
            figures=lambda params, key, history: {},
            num_samples=config.num_samples,
            validation=None if validation is None else mnist.binarize_once(mnist.VALIDATION_KEY, validation.images),
        )

    xs = mnist.binarize_once(mnist.TEST_KEY, test.images)
    arms = {f"{size} latents": arm(size) for size in config.latent_sizes}
    return run.Comparison(arms, partial(conclude, arms), {name: cure._asdict() for name, cure in CURES.items()})


def recipe(vae: vaejax.VAE, learning_rate: float, num_steps: int, cure: Mapping[str, Any]) -> run.Recipe:
    """How a model is trained; the numbers of the cure may be traced."""
    half = num_steps // 2
    terms_fn = partial(vaejax.elbo_terms, vae, kl_fn=vaejax.kl_per_dimension)

    def combine(means: vaejax.ElboTerms, *, beta: Array, target: Array) -> Array:
        distance = jnp.abs(means.kl - target)
        return vaejax.free_bits(means, minimum=cure["minimum"], beta=beta) + cure["gamma"] * distance

    shapes = (lambda step: jnp.ones(()), schedules.warm_up(1.0, half), schedules.cyclical(1.0, num_steps))

    def beta(step: Array) -> Array:
        values = jnp.stack([shape(step) for shape in shapes])
        return cure["beta"] * values[jnp.asarray(cure["shape"], jnp.int32)]

    def decoder_learns(step: Array) -> Array:
        return (step >= half) | (step % jnp.asarray(cure["period"], jnp.int32) == 0)

    adam = optax.scale_by_adam()
    parts = {"encoder": adam, "decoder": optax.conditionally_mask(adam, decoder_learns)}
    labels = {"encoder": "encoder", "posterior": "encoder", "decoder": "decoder", "likelihood": "decoder"}
    decay = optax.cosine_decay_schedule(learning_rate, num_steps)
    optimizer = optax.chain(optax.partition(parts, labels), optax.scale_by_learning_rate(decay))
    loss_fn = vaejax.loss_of_means(vaejax.with_transform(terms_fn, vaejax.binarize), combine)
    return run.Recipe(loss_fn, optimizer, {"beta": beta, "target": schedules.warm_up(cure["target"], half)})


def conclude(
    arms: dict[str, run.Experiment],
    members: Members,
    states: dict[str, TrainState],
    history: dict[str, list[dict]],
    check_interrupts: Callable[[], None],
) -> run.Result:
    raise NotImplementedError


if __name__ == "__main__":
    run.main(Config, make_experiment)
