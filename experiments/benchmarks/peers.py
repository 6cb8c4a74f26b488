"""The same epoch in plain JAX, JAX from a Python loop, NumPyro and PyTorch.

Same model (one hidden layer of ReLU on either side, a Gaussian z, Bernoulli pixels),
batch size, images, initial scale, Adam with a cosine schedule, and binarization
at each access, each in its own library's usual way; the loss is the negative ELBO in
nats, averaged over the batch. NumPyro and PyTorch are the extra `bench`, and are
imported where they are used.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.example_libraries import stax

import vaejax
from experiments import harness
from experiments.benchmarks.report import OURS
from experiments.benchmarks.timing import Program
from experiments.harness import binary_images
from experiments.harness.members import Members
from vaejax.base import Array, Key, PyTree

NOT_INSTALLED = "not measured: install the extra bench"
ONE = Members(seed=0, num_seeds=1)
NO_ACCELERATOR = "not measured: PyTorch is compared on the CPU only"


def programs(
    config: binary_images.Config, experiment: harness.Experiment
) -> dict[str, Program | str]:
    """Return this library's epoch, then its peers, or why one of them cannot run."""
    rows: dict[str, Program | str] = {
        OURS: vaejax_epoch(experiment),
        "vaejax, jitted step in a Python loop": jitted_steps(experiment),
        "plain lax.scan, by hand": plain_scan(config, experiment),
        "NumPyro, SVI in a lax.scan": NOT_INSTALLED,
        "PyTorch eager, tensors preloaded": NOT_INSTALLED,
        "PyTorch eager, DataLoader": NOT_INSTALLED,
    }
    if importlib.util.find_spec("numpyro"):
        rows["NumPyro, SVI in a lax.scan"] = numpyro_svi(config, experiment)
    on_cpu = jax.default_backend() == "cpu"
    for name, loader in (
        ("PyTorch eager, tensors preloaded", False),
        ("PyTorch eager, DataLoader", True),
    ):
        if importlib.util.find_spec("torch"):
            rows[name] = (
                torch_eager(config, experiment, loader=loader)
                if on_cpu
                else NO_ACCELERATOR
            )
    return rows


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


def intensities(images: Any) -> Any:
    """Return images `[batch, ...]` as probabilities `[batch, pixels]`, float32."""
    scale = 255 if images.dtype == np.uint8 else 1
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(scale)


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


def plain_scan(config: binary_images.Config, experiment: harness.Experiment) -> Program:
    """Return an epoch written without a library.

    It has batched products, JAX's own Bernoulli draws, and batches in a fixed order.
    """

    def dense(key: Key, fan_in: int, fan_out: int) -> tuple[Array, Array]:
        return jax.random.normal(key, (fan_in, fan_out)) / jnp.sqrt(fan_in), jnp.zeros(
            (1, fan_out)
        )

    def negative_elbo(params: PyTree, key: Key, images: Array) -> Array:
        pixel_key, noise_key = jax.random.split(key)
        x = jax.random.bernoulli(pixel_key, intensities(images)).astype(jnp.float32)
        (w1, b1), (w2, b2), (w3, b3), (w4, b4) = params
        mean, log_variance = jnp.split(jax.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=-1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(noise_key, mean.shape)
        logits = jax.nn.relu(z @ w3 + b3) @ w4 + b4
        log_likelihood = -optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1)
        kl = 0.5 * (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(axis=-1)
        return jnp.mean(kl - log_likelihood)

    def step(state: PyTree, images: Array) -> tuple[PyTree, Array]:
        params, opt_state, key, count = state
        loss, gradient = jax.value_and_grad(negative_elbo)(
            params, jax.random.fold_in(key, count), images
        )
        updates, opt_state = experiment.own_recipe.optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state, key, count + 1), loss

    keys = jax.random.split(jax.random.key(0), 4)
    params = [
        dense(key, *size)
        for key, size in zip(keys, layers(config, experiment), strict=True)
    ]
    state = (
        params,
        experiment.own_recipe.optimizer.init(params),
        jax.random.key(1),
        jnp.zeros((), jnp.int32),
    )
    epoch = jax.jit(
        lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0
    )
    batches = in_batches(experiment)
    return Program(state, lambda state: epoch(state, batches))


def in_batches(experiment: harness.Experiment) -> Array:
    """The training images in a fixed order, `[steps, batch, ...]`."""
    used = experiment.steps_per_epoch * experiment.batch_size
    images = jax.device_put(experiment.train)[:used]
    return images.reshape(
        experiment.steps_per_epoch, experiment.batch_size, *images.shape[1:]
    )


def numpyro_model(
    config: binary_images.Config, experiment: harness.Experiment
) -> tuple[Callable, Callable]:
    """Return model and guide of a batch x, `[batch, pixels]`.

    They follow NumPyro's own example of a VAE.
    """
    import numpyro
    from numpyro import distributions as dist

    pixels, hidden, latent = sizes(config, experiment)

    def dense(size: int) -> tuple[Callable, Callable]:
        return stax.Dense(
            size, jax.nn.initializers.lecun_normal(), jax.nn.initializers.zeros
        )

    encoder = stax.serial(dense(hidden), stax.Relu, dense(2 * latent))
    decoder = stax.serial(dense(hidden), stax.Relu, dense(pixels))

    def model(x: Array) -> None:
        decode = numpyro.module("decoder", decoder, (latent,))
        # The mean over the batch, as everywhere else: a sum would hide Adam's epsilon.
        with numpyro.handlers.scale(scale=1 / len(x)), numpyro.plate("batch", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: Array) -> None:
        encode = numpyro.module("encoder", encoder, (pixels,))
        mean, log_variance = jnp.split(encode(x), 2, axis=-1)
        with numpyro.handlers.scale(scale=1 / len(x)), numpyro.plate("batch", len(x)):
            numpyro.sample(
                "z", dist.Normal(mean, jnp.exp(log_variance / 2)).to_event(1)
            )

    return model, guide


def numpyro_svi(
    config: binary_images.Config,
    experiment: harness.Experiment,
    elbo: str = "TraceMeanField_ELBO",
) -> Program:
    """Return an epoch of SVI's update in a `lax.scan`.

    The data are on the device, and batches are shuffled there.
    """
    from numpyro import infer

    model, guide = numpyro_model(config, experiment)
    svi = infer.SVI(
        model, guide, experiment.own_recipe.optimizer, getattr(infer, elbo)()
    )
    images, used = (
        jax.device_put(experiment.train),
        experiment.steps_per_epoch * experiment.batch_size,
    )

    def epoch(state: PyTree, images: Array) -> tuple[PyTree, Array]:
        svi_state, key = state
        key, order_key, pixel_key = jax.random.split(key, 3)
        order = jax.random.permutation(order_key, len(images))[:used].reshape(
            -1, experiment.batch_size
        )

        def update(svi_state: PyTree, batch: tuple[Key, Array]) -> tuple[PyTree, Array]:
            key, indices = batch
            x = jax.random.bernoulli(key, intensities(images[indices])).astype(
                jnp.float32
            )
            return svi.update(svi_state, x)

        svi_state, losses = jax.lax.scan(
            update, svi_state, (jax.random.split(pixel_key, len(order)), order)
        )
        return (svi_state, key), losses

    compiled = jax.jit(epoch, donate_argnums=0)
    init_key, key = jax.random.split(jax.random.key(0))
    state = (svi.init(init_key, intensities(images[: experiment.batch_size])), key)
    return Program(state, lambda state: compiled(state, images))


def torch_networks(config: binary_images.Config, experiment: harness.Experiment) -> Any:
    """Encoder and decoder, as a list of modules."""
    from torch import nn

    linears = [nn.Linear(*size) for size in layers(config, experiment)]
    for linear in linears:
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.zeros_(linear.bias)
    first, second, third, fourth = linears
    return nn.ModuleList(
        [
            nn.Sequential(first, nn.ReLU(), second),
            nn.Sequential(third, nn.ReLU(), fourth),
        ]
    )


def torch_negative_elbo(networks: Any, x: Any) -> Any:
    """Return the mean negative ELBO of a batch x, `[batch, pixels]`, in nats."""
    import torch
    from torch.nn import functional

    encoder, decoder = networks
    mean, log_variance = encoder(x).chunk(2, dim=1)
    z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
    cross_entropy = functional.binary_cross_entropy_with_logits(
        decoder(z), x, reduction="sum"
    )
    kl = 0.5 * torch.sum(mean**2 + log_variance.exp() - log_variance - 1)
    return (cross_entropy + kl) / len(x)


def torch_eager(
    config: binary_images.Config, experiment: harness.Experiment, *, loader: bool
) -> Program:
    """Return the usual eager loop, with as many threads as PyTorch takes.

    Its state is updated in place.
    """
    import torch

    torch.manual_seed(0)
    networks = torch_networks(config, experiment)
    optimizer = torch.optim.Adam(
        networks.parameters(), lr=config.learning_rate, fused=True
    )
    num_steps = config.epochs * experiment.steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    images = torch.from_numpy(intensities(experiment.train))
    make_batches = _torch_loader if loader else _torch_preloaded
    batches = make_batches(images, experiment.batch_size)

    def run_epoch(state: Mapping[str, Any]) -> tuple[Mapping[str, Any], np.ndarray]:
        losses = []
        for x in batches():
            loss = torch_negative_elbo(networks, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        return state, torch.stack(losses).numpy()

    return Program({"networks": networks, "optimizer": optimizer}, run_epoch)


def _torch_preloaded(images: Any, batch_size: int) -> Callable:
    """Batches cut out of one tensor in a fresh order."""
    import torch

    def batches():
        order = torch.randperm(len(images))
        for first in range(0, len(images) - batch_size + 1, batch_size):
            yield torch.bernoulli(images[order[first : first + batch_size]])

    return batches


def _torch_loader(images: Any, batch_size: int) -> Callable:
    """A DataLoader in this process; its data set binarizes an image at each access."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Binarized(Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            return torch.bernoulli(images[index])

    loader = DataLoader(
        Binarized(), batch_size=batch_size, shuffle=True, drop_last=True
    )
    return lambda: iter(loader)
