"""Speed, side by side: one epoch of the main job beside a plain `lax.scan` of the same step written by hand.

Both run in one process, in turn, round after round, since a shared machine's speed drifts; the ratio of each round is
what counts. Same model (784-400-20, ReLU, Bernoulli), batch 128, Adam, a fresh binarisation at each access. The plain
scan is what one would write without a library: batched products, JAX's own Bernoulli draws, batches in a fixed order.
Command: python -m experiments.benchmark
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro
from tqdm import tqdm

import vaejax
from experiments import mnist, run
from vaejax.base import Array, Key, PyTree

ABOUT = run.About(
    what="seconds an epoch beside a plain lax.scan of the same step",
    paper="none",
    cost="1 minute on 2 cores",
    expected="ratio 1.06 (0.95 to 1.20)",
)


@dataclasses.dataclass(frozen=True)
class Config:
    rounds: int = 7
    """Rounds of one epoch each, after one that is not counted."""
    json: Path | None = None
    """Also write every measured time to this file."""


def plain_scan(experiment: run.Experiment, optimizer: optax.GradientTransformation) -> tuple[PyTree, Callable]:
    """A state and `epoch(state, batches)`: the VAE written by hand, batched, in a `lax.scan`."""

    def dense(key: Key, fan_in: int, fan_out: int) -> tuple[Array, Array]:
        return jax.random.normal(key, (fan_in, fan_out)) / jnp.sqrt(fan_in), jnp.zeros((1, fan_out))

    def negative_elbo(params: PyTree, key: Key, images: Array) -> Array:
        pixel_key, noise_key = jax.random.split(key)
        x = jax.random.bernoulli(pixel_key, images.astype(jnp.float32) / 255).astype(jnp.float32)
        (w1, b1), (w2, b2), (w3, b3), (w4, b4) = params
        mean, log_variance = jnp.split(jax.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=-1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(noise_key, mean.shape)
        logits = jax.nn.relu(z @ w3 + b3) @ w4 + b4
        log_likelihood = -optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1)
        kl = 0.5 * (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(axis=-1)
        return jnp.mean(kl - log_likelihood)

    def step(state: PyTree, images: Array) -> tuple[PyTree, Array]:
        params, opt_state, key, count = state
        loss, gradient = jax.value_and_grad(negative_elbo)(params, jax.random.fold_in(key, count), images)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state, key, count + 1), loss

    keys = jax.random.split(jax.random.key(0), 4)
    sizes = [(784, 400), (400, 40), (20, 400), (400, 784)]
    params = [dense(key, *size) for key, size in zip(keys, sizes, strict=True)]
    state = (params, optimizer.init(params), jax.random.key(1), jnp.zeros((), jnp.int32))
    return state, jax.jit(lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0)


def measure(rows: dict[str, tuple[PyTree, Callable, PyTree]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each row in each round; the first round, with its compilation, is not counted."""
    states = {name: state for name, (state, _, _) in rows.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for number in tqdm(range(rounds + 1), unit="round", dynamic_ncols=True):
        for name, (_, epoch, data) in rows.items():
            started = time.perf_counter()
            states[name], metrics = epoch(states[name], data)
            jax.block_until_ready((states[name], metrics))
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def main(config: Config) -> dict[str, Any]:
    experiment = mnist.make_experiment(mnist.Config(epochs=config.rounds + 1))
    recipe = experiment.recipe(experiment.hyperparameters)
    step = vaejax.make_train_step(*recipe)
    epoch = jax.jit(vaejax.make_train_epoch(step, experiment.batch_size), donate_argnums=0)
    state = vaejax.init_train_state(experiment.vae, recipe.optimizer, jax.random.key(0), experiment.example)
    images = jax.device_put(experiment.train)
    used = experiment.steps_per_epoch * experiment.batch_size
    batches = images[:used].reshape(experiment.steps_per_epoch, experiment.batch_size, -1)
    plain_state, plain_epoch = plain_scan(experiment, recipe.optimizer)
    rows = {"vaejax epoch": (state, epoch, images), "plain lax.scan": (plain_state, plain_epoch, batches)}
    seconds = measure(rows, config.rounds)

    ratios = [ours / plain for ours, plain in zip(*seconds.values(), strict=True)]
    print(f"784-400-20 Bernoulli VAE, batch {experiment.batch_size}, {used:,} images an epoch, {config.rounds} rounds")
    for name, values in seconds.items():
        print(f"  {name:16s}{statistics.median(values):7.2f} s an epoch ({min(values):.2f} to {max(values):.2f})")
    print(f"  {'ratio by round':16s}{statistics.median(ratios):7.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    result = {"seconds": seconds, "ratio_median": statistics.median(ratios), "rounds": config.rounds}
    if config.json:
        config.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmark", description=__doc__))
