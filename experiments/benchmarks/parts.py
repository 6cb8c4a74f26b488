"""Section `parts`: a training step in parts, from its matrix products to the epoch.

Each program does one thing more than the one before.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import vaejax
from experiments import harness
from experiments.benchmarks import peers
from experiments.benchmarks.bench import Bench
from experiments.benchmarks.other_libraries import intensities
from experiments.benchmarks.report import FLOOR, print_parts
from experiments.benchmarks.timing import Program, floor_seconds, measure, record
from experiments.harness import binary_images
from vaejax.base import Array, Example, Key, Params, PyTree


def parts_section(bench: Bench) -> dict[str, Any]:
    """Measure the parts of an epoch.

    They are differences between programs of which each does one thing more.
    """
    steps = bench.experiment.steps_per_epoch
    times = measure(
        programs(bench.model, bench.experiment), bench.config.rounds, bench.probe
    )
    floor = floor_seconds(steps * bench.flops_a_step, times)
    results = {
        FLOOR: record(floor, floor, steps)
        | {"fastest_microseconds": 1e6 * min(floor) / steps}
    }
    before, previous = [0.0] * bench.config.rounds, 0.0
    for name, seconds in times.seconds.items():
        # Of the fastest rounds: other work on the machine only ever adds time, often
        # more than a part takes; and their differences add up to the whole, which
        # medians of differences would not.
        fastest = 1e6 * min(seconds) / steps
        added = {
            "fastest_microseconds": fastest,
            "added_microseconds": fastest - previous,
            "added_by_round": [
                1e6 * (now - then) / steps
                for now, then in zip(seconds, before, strict=True)
            ],
        }
        results[name] = record(seconds, floor, steps) | added
        before, previous = seconds, fastest
    print_parts(results)
    return {"steps": steps, "rows": results, "flops_a_second": times.rates}


def programs(
    config: binary_images.Config, experiment: harness.Experiment
) -> dict[str, Program]:
    """Return one program of an epoch for each part, named after what it adds.

    The first is the matrix products alone.
    """
    vae, images = experiment.vae, peers.in_batches(experiment)
    binary = jax.jit(
        jax.vmap(jax.vmap(lambda image: jnp.round(intensities(image[None])[0])))
    )(images)
    binary = binary.reshape(images.shape)
    state = peers.init_state(experiment)
    kept = state._replace(extra=jax.tree.map(jnp.zeros_like, state.params))
    train_step = partial(
        vaejax.make_train_step, optimizer=experiment.own_recipe.optimizer
    )
    at_mean = vaejax.mean_over_batch(partial(negative_elbo_at_mean, vae))
    with_noise = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
    return {
        "matrix products": products_alone(peers.layers(config, experiment), binary),
        "activations, likelihood, KL": over_batches(
            gradient_step(at_mean), kept, binary
        ),
        "optimizer": over_batches(train_step(at_mean), state, binary),
        "posterior noise": over_batches(train_step(with_noise), state, binary),
        "binarization": over_batches(
            train_step(experiment.own_recipe.loss_fn), state, images
        ),
        "shuffle and gather": peers.vaejax_epoch(experiment),
    }


def over_batches(step: Callable, state: vaejax.TrainState, batches: Array) -> Program:
    """The step in a `lax.scan` over batches in a fixed order, `[steps, batch, ...]`."""
    epoch = jax.jit(
        lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0
    )

    def run_epoch(state: PyTree) -> tuple[PyTree, Array]:
        state, metrics = epoch(state, batches)
        return state, metrics.loss

    # A copy, since the state is donated and variants start from the same one.
    return Program(jax.tree.map(jnp.copy, state), run_epoch)


def products_alone(layers: Sequence[tuple[int, int]], batches: Array) -> Program:
    """Return the matrix products of a step and nothing else.

    They are the gradient of a network without anything between its layers.
    """
    keys = jax.random.split(jax.random.key(0), len(layers))
    params = [
        jax.random.normal(key, size) / jnp.sqrt(size[0])
        for key, size in zip(keys, layers, strict=True)
    ]
    state = vaejax.TrainState(
        params,
        (),
        jax.random.key(0),
        jnp.zeros((), jnp.int32),
        jax.tree.map(jnp.copy, params),
    )
    return over_batches(gradient_step(linear_loss), state, batches)


def linear_loss(params: Params, key: Key, images: Array) -> tuple[Array, tuple]:
    """Half the squared output: the gradient to the output is the output itself."""
    del key
    first, second, third, fourth = params
    both = images.reshape(len(images), -1) @ first @ second
    logits = both[:, : third.shape[0]] @ third @ fourth
    return 0.5 * jnp.sum(jnp.square(logits)), ()


def gradient_step(loss_fn: Callable) -> Callable:
    """Return a step that changes no parameter.

    It keeps its gradient in `extra`, so that it is computed.
    """

    def step(
        state: vaejax.TrainState, batch: PyTree
    ) -> tuple[vaejax.TrainState, vaejax.training.StepMetrics]:
        (loss, terms), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, state.key, batch
        )
        return state._replace(
            extra=gradient, step=state.step + 1
        ), vaejax.training.StepMetrics(loss, terms)

    return step


def negative_elbo_at_mean(
    vae: vaejax.VAE, params: Params, key: Key, x: Example
) -> tuple[Array, vaejax.ElboTerms]:
    """`negative_elbo` with z the posterior's mean: all of it but the noise."""
    del key
    posterior = vae.encode(params, x)
    log_likelihood = vae.decode(params, posterior.mean).log_prob(x)
    kl = vaejax.kl_divergence(posterior, vae.prior(params))
    return kl - log_likelihood, vaejax.ElboTerms(log_likelihood, kl, kl[None])
