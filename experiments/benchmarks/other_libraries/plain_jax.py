"""The main job in JAX and optax alone."""

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks.other_libraries import Job, intensities
from experiments.benchmarks.timing import Program


def adam(job: Job) -> optax.GradientTransformation:
    """Return the optimizer of the main job."""
    return optax.adam(optax.cosine_decay_schedule(job.learning_rate, job.num_steps))


def plain_scan(job: Job) -> Program:
    """Return an epoch written without a library.

    It has batched products, JAX's own Bernoulli draws, and batches in a fixed order.
    """
    optimizer = adam(job)

    def dense(key: jax.Array, fan_in: int, fan_out: int) -> tuple:
        return jax.random.normal(key, (fan_in, fan_out)) / jnp.sqrt(fan_in), jnp.zeros(
            (1, fan_out)
        )

    def negative_elbo(params: list, key: jax.Array, images: jax.Array) -> jax.Array:
        pixel_key, noise_key = jax.random.split(key)
        x = jax.random.bernoulli(pixel_key, intensities(images)).astype(jnp.float32)
        (w1, b1), (w2, b2), (w3, b3), (w4, b4) = params
        mean, log_variance = jnp.split(jax.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=-1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(noise_key, mean.shape)
        logits = jax.nn.relu(z @ w3 + b3) @ w4 + b4
        log_likelihood = -optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1)
        kl = 0.5 * (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(axis=-1)
        return jnp.mean(kl - log_likelihood)

    def step(state: tuple, images: jax.Array) -> tuple[tuple, jax.Array]:
        params, opt_state, key, count = state
        loss, gradient = jax.value_and_grad(negative_elbo)(
            params, jax.random.fold_in(key, count), images
        )
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state, key, count + 1), loss

    keys = jax.random.split(jax.random.key(0), len(job.layers))
    params = [dense(key, *size) for key, size in zip(keys, job.layers, strict=True)]
    state = (
        params,
        optimizer.init(params),
        jax.random.key(1),
        jnp.zeros((), jnp.int32),
    )
    epoch = jax.jit(
        lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0
    )
    images = jax.device_put(job.images)[: job.images_used]
    batches = images.reshape(job.steps_per_epoch, job.batch_size, *images.shape[1:])
    return Program(state, lambda state: epoch(state, batches))
