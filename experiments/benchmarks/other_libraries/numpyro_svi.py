"""The main job in NumPyro."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.example_libraries import stax

from experiments.benchmarks.other_libraries import Job, intensities
from experiments.benchmarks.other_libraries.plain_jax import adam
from experiments.benchmarks.timing import Program


def numpyro_model(job: Job) -> tuple[Callable, Callable]:
    """Return model and guide of a batch x, `[batch, pixels]`.

    They follow NumPyro's own example of a VAE.
    """
    import numpyro
    from numpyro import distributions as dist

    (pixels, hidden), _, (latent, _), _ = job.layers

    def dense(size: int) -> tuple[Callable, Callable]:
        return stax.Dense(
            size, jax.nn.initializers.lecun_normal(), jax.nn.initializers.zeros
        )

    encoder = stax.serial(dense(hidden), stax.Relu, dense(2 * latent))
    decoder = stax.serial(dense(hidden), stax.Relu, dense(pixels))

    def model(x: jax.Array) -> None:
        decode = numpyro.module("decoder", decoder, (latent,))
        # The mean over the batch, as everywhere else: a sum would hide Adam's epsilon.
        with numpyro.handlers.scale(scale=1 / len(x)), numpyro.plate("batch", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        encode = numpyro.module("encoder", encoder, (pixels,))
        mean, log_variance = jnp.split(encode(x), 2, axis=-1)
        with numpyro.handlers.scale(scale=1 / len(x)), numpyro.plate("batch", len(x)):
            numpyro.sample(
                "z", dist.Normal(mean, jnp.exp(log_variance / 2)).to_event(1)
            )

    return model, guide


def numpyro_svi(job: Job, elbo: str = "TraceMeanField_ELBO") -> Program:
    """Return an epoch of SVI's update in a `lax.scan`.

    The data are on the device, and batches are shuffled there.
    """
    from numpyro import infer

    model, guide = numpyro_model(job)
    svi = infer.SVI(model, guide, adam(job), getattr(infer, elbo)())
    images = jax.device_put(job.images)

    def epoch(state: tuple, images: jax.Array) -> tuple[tuple, jax.Array]:
        svi_state, key = state
        key, order_key, pixel_key = jax.random.split(key, 3)
        order = jax.random.permutation(order_key, len(images))
        order = order[: job.images_used].reshape(-1, job.batch_size)

        def update(svi_state: object, batch: tuple) -> tuple[object, jax.Array]:
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
    state = (svi.init(init_key, intensities(images[: job.batch_size])), key)
    return Program(state, lambda state: compiled(state, images))
