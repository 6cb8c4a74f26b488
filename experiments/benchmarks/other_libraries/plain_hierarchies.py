"""Losses of VAEs of several levels in JAX alone: a whole batch, with each network once.

Parameters are those that `two_layer_vae`, `hierarchical_vae` and `ladder_vae` have: a
network per level, and one dense layer that makes mean and log-variance of each latent,
side by side. The loss is the negative ELBO in nats, averaged over the batch.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def normal_noise(key: jax.Array, num: int, sizes: Sequence[int]) -> list[jax.Array]:
    """Draw noise `[num, size]` of every level, all levels at once."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    noise = jax.random.normal(key, (num, ends[-1]))
    return jnp.split(noise, ends[:-1], axis=1)


def climbing_loss(params: dict, noise: list[jax.Array], x: jax.Array) -> jax.Array:
    """Return the loss with q(z_1|x) q(z_2|z_1) ..., its KL estimated from the draws."""
    zs, log_posterior, below = [], 0.0, x
    for own, eps in zip(params["encoder"], noise, strict=True):
        posterior = _mean_and_log_variance(own, _features(own, below))
        below = posterior[0] + jnp.exp(posterior[1] / 2) * eps
        log_posterior += _log_density(below, posterior)
        zs.append(below)
    log_prior = -0.5 * jnp.sum(jnp.log(2 * jnp.pi) + jnp.square(zs[-1]), axis=-1)
    for own, z, above in zip(params["decoder"][1:], zs[:-1], zs[1:], strict=True):
        prior = _mean_and_log_variance(own, _features(own, above))
        log_prior += _log_density(z, prior)
    log_likelihood = _log_likelihood(params["decoder"][0], zs[0], x)
    return jnp.mean(log_posterior - log_prior - log_likelihood)


def ladder_loss(params: dict, noise: list[jax.Array], x: jax.Array) -> jax.Array:
    """Return the loss of a ladder, whose KL of each level is a closed form."""
    bottom_up, features = [], x
    for own in params["encoder"]:
        features = _features(own, features)
        bottom_up.append(_mean_and_log_variance(own, features))
    kl, z = 0.0, jnp.zeros((1, noise[-1].shape[1]))
    prior = z, z
    for level in reversed(range(len(noise))):
        posterior = bottom_up[level]
        if level < len(noise) - 1:
            above = params["decoder"][level + 1]
            prior = _mean_and_log_variance(above, _features(above, z))
            posterior = _product(posterior, prior)
        z = posterior[0] + jnp.exp(posterior[1] / 2) * noise[level]
        kl += _kl(posterior, prior)
    return jnp.mean(kl - _log_likelihood(params["decoder"][0], z, x))


def _dense(params: dict, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"][None]


def _hidden(layers: Sequence[dict], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = jax.nn.relu(_dense(layer, x))
    return x


def _layers(network: dict) -> list[dict]:
    """Return the dense layers of a network in their order."""
    return [network[f"Dense_{index}"] for index in range(len(network))]


def _features(own: dict, x: jax.Array) -> jax.Array:
    return _hidden(_layers(own["network"]), x)


def _mean_and_log_variance(
    own: dict, features: jax.Array
) -> tuple[jax.Array, jax.Array]:
    outputs = _dense(own["outputs"]["Dense_0"], features)
    outputs = outputs.reshape(len(outputs), -1, 2)
    return outputs[..., 0], -_below_20(-_below_20(outputs[..., 1]))


def _below_20(x: jax.Array) -> jax.Array:
    """The bound of log-variances: the identity up to 17, tending to 20."""
    return jnp.minimum(x, 17) + 3 * (1 - jnp.exp(-jnp.maximum(x - 17, 0) / 3))


def _product(*experts: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return mean and log-variance of the normalized product of two normals."""
    precisions = [jnp.exp(-log_variance) for _, log_variance in experts]
    total = precisions[0] + precisions[1]
    mean = (precisions[0] * experts[0][0] + precisions[1] * experts[1][0]) / total
    return mean, -jnp.log(total)


def _kl(posterior: tuple, prior: tuple) -> jax.Array:
    """KL of two diagonal normals, per example."""
    (mean_q, log_q), (mean_p, log_p) = posterior, prior
    ratio = jnp.exp(log_q - log_p)
    shift = jnp.square(mean_q - mean_p) * jnp.exp(-log_p)
    return 0.5 * jnp.sum(shift + ratio - 1 - (log_q - log_p), axis=-1)


def _log_density(z: jax.Array, normal: tuple) -> jax.Array:
    mean, log_variance = normal
    square = jnp.square(z - mean) * jnp.exp(-log_variance)
    return -0.5 * jnp.sum(jnp.log(2 * jnp.pi) + log_variance + square, axis=-1)


def _log_likelihood(network: dict, z: jax.Array, x: jax.Array) -> jax.Array:
    *hidden, last = _layers(network)
    logits = _dense(last, _hidden(hidden, z))
    return jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)
