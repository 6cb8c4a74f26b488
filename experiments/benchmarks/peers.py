"""The epoch of the main job, and the same one in other libraries.

Same model (one hidden layer of ReLU on either side, a Gaussian z, Bernoulli pixels),
batch size, images, initial scale, Adam with a cosine schedule, and binarization
at each access; the loss is the negative ELBO in nats, averaged over the batch. NumPyro
and PyTorch are the extra `bench`, and are imported where they are used.
"""

import importlib.util
import math
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import vaejax
from experiments import harness
from experiments.benchmarks.other_libraries import Job, plain_jax
from experiments.benchmarks.other_libraries.numpyro_svi import numpyro_svi
from experiments.benchmarks.report import OURS
from experiments.benchmarks.timing import Program
from experiments.harness import binary_images
from experiments.harness.members import Members
from vaejax.base import Array, PyTree

NOT_INSTALLED = "not measured: install the extra bench"
ONE = Members(seed=0, num_seeds=1)
NO_COMPILER = "not measured: torch.compile needs a C++ compiler"
NO_ACCELERATOR = "not measured: PyTorch is compared on the CPU only"


def programs(
    config: binary_images.Config, experiment: harness.Experiment
) -> dict[str, Program | str]:
    """Return this library's epoch, then its peers, or why one of them cannot run."""
    job = job_of(config, experiment)
    return {
        OURS: vaejax_epoch(experiment),
        "vaejax, jitted step in a Python loop": jitted_steps(experiment),
        "plain lax.scan, by hand": plain_jax.plain_scan(job),
        "NumPyro, SVI in a lax.scan": where_installed("numpyro", numpyro_svi, job),
        "PyTorch eager, tensors preloaded": on_torch(torch_dense, job),
        "PyTorch eager, DataLoader": on_torch(torch_dense, job, loader=True),
        "PyTorch compiled, tensors preloaded": on_torch(
            torch_dense, job, compiled=True
        ),
    }


def job_of(config: binary_images.Config, experiment: harness.Experiment) -> Job:
    """Return the main job as other libraries do it."""
    return Job(
        np.asarray(experiment.train),
        layers(config, experiment),
        experiment.batch_size,
        config.learning_rate,
        config.epochs * experiment.steps_per_epoch,
    )


def where_installed(package: str, make: Callable, *args: Any) -> Program | str:
    """Return a program of a package, or that the package is missing."""
    return make(*args) if importlib.util.find_spec(package) else NOT_INSTALLED


def on_torch(
    make: Callable[..., Program], *args: Any, compiled: bool = False, **options: Any
) -> Program | str:
    """Return a program of PyTorch, or why it cannot run.

    Args:
      make: imports PyTorch and makes the program.
      *args: its arguments.
      compiled: whether it is compiled, which needs a C++ compiler.
      **options: its options.
    """
    if not importlib.util.find_spec("torch"):
        return NOT_INSTALLED
    if jax.default_backend() != "cpu":
        return NO_ACCELERATOR
    if compiled and not any(map(shutil.which, ("g++", "clang++"))):
        return NO_COMPILER
    return make(*args, **options | ({"compiled": True} if compiled else {}))


def torch_dense(job: Job, **options: bool) -> Program:
    """Return the main job in PyTorch."""
    from experiments.benchmarks.other_libraries import torch_dense

    return torch_dense.torch_dense(job, **options)


def torch_convolutional(job: Job, **options: Any) -> Program:
    """Return the convolutional model in PyTorch."""
    from experiments.benchmarks.other_libraries import torch_convolutional

    return torch_convolutional.torch_convolutional(job, **options)


def torch_sentences(**fields: Any) -> Program:
    """Return the VAE of sentences in PyTorch."""
    from experiments.benchmarks.other_libraries import torch_sentences

    return torch_sentences.torch_sentences(**fields)


def linen(pixels: np.ndarray, **options: Any) -> Program:
    """Return the VAE of Flax's examples, as that library writes it."""
    from experiments.benchmarks.other_libraries import flax_linen

    return flax_linen.linen_loop(pixels, **options)


def sizes(
    config: binary_images.Config, experiment: harness.Experiment
) -> tuple[int, int, int]:
    """Return the numbers of pixels, hidden units and latents."""
    return math.prod(experiment.train.shape[1:]), config.hidden_size, config.latent_size


def layers(
    config: binary_images.Config, experiment: harness.Experiment
) -> list[tuple[int, int]]:
    """Return `(fan_in, fan_out)` of the four dense layers.

    Two are of the encoder, two of the decoder.
    """
    pixels, hidden, latent = sizes(config, experiment)
    return [(pixels, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, pixels)]


def init_state(experiment: harness.Experiment) -> vaejax.TrainState:
    """Return the state before the first step."""
    return vaejax.init_train_state(
        experiment.vae,
        experiment.own_recipe.optimizer,
        jax.random.key(0),
        experiment.example,
    )


def vaejax_epoch(
    experiment: harness.Experiment,
    *,
    members: Members = ONE,
    images: PyTree = None,
    batch_sharding: jax.sharding.Sharding | None = None,
) -> Program:
    """Return the epoch of the main job: shuffling included, as one program.

    Args:
      experiment: the main job.
      members: the members that train together.
      images: training images; by default those of the experiment.
      batch_sharding: layout of the batches over devices.
    """
    step = vaejax.make_train_step(*experiment.own_recipe)
    epoch = vaejax.make_train_epoch(
        step, experiment.batch_size, batch_sharding=batch_sharding
    )
    compiled = jax.jit(members.lift(epoch), donate_argnums=0)
    images = jax.device_put(experiment.train if images is None else images)
    init = members.lift(
        partial(
            vaejax.init_train_state, experiment.vae, experiment.own_recipe.optimizer
        )
    )

    def run_epoch(state: PyTree) -> tuple[PyTree, Array]:
        state, metrics = compiled(state, images)
        return state, metrics.loss

    return Program(jax.jit(init)(members.keys, experiment.example), run_epoch)


def jitted_steps(experiment: harness.Experiment) -> Program:
    """Return the usual JAX loop, with one jitted step per batch.

    Batches are shuffled on the host and put on the device.
    """
    step = jax.jit(vaejax.make_train_step(*experiment.own_recipe), donate_argnums=0)
    used = experiment.steps_per_epoch * experiment.batch_size

    def run_epoch(state: PyTree) -> tuple[PyTree, list[Array]]:
        train_state, number = state
        order = np.random.default_rng(number).permutation(len(experiment.train))[:used]
        losses = []
        for indices in order.reshape(-1, experiment.batch_size):
            train_state, metrics = step(
                train_state, jax.device_put(experiment.train[indices])
            )
            losses.append(metrics.loss)
        return (train_state, number + 1), losses

    return Program((init_state(experiment), 0), run_epoch)


def in_batches(experiment: harness.Experiment) -> Array:
    """The training images in a fixed order, `[steps, batch, ...]`."""
    used = experiment.steps_per_epoch * experiment.batch_size
    images = jax.device_put(experiment.train)[:used]
    return images.reshape(
        experiment.steps_per_epoch, experiment.batch_size, *images.shape[1:]
    )
