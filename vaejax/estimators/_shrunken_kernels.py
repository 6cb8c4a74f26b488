"""Densities of z that do not know one example, for a bound that log N does not cap.

Kernels at the posterior means, moved towards their center by a factor a and widened so
that mean and covariance stay those of q(z): a = 0 is a Gaussian of full covariance,
a = 1 the posteriors with their average variance. `stacked` mixes such densities.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.base import Array, Distribution

SHRINKAGES = np.array([0.0, 0.5, 0.7, 0.8, 0.9, 0.95])
NUM_FOLDS = 5
EM_STEPS = 100


class ShrunkenKernels(NamedTuple):
    """Kernels in coordinates in which all are diagonal; one set per fold left out.

    Attributes:
      center: `[folds, latent]`, the mean of the other folds.
      transform: `[folds, latent, latent]`, to coordinates of unit average variance.
      log_determinant: `[folds]`, of the transform.
      spread: `[folds, latent]`, variances of the posterior means there.
      means: `[folds, examples, latent]`, all posterior means there.
    """

    center: Array
    transform: Array
    log_determinant: Array
    spread: Array
    means: Array


def fit_shrunken_kernels(posteriors: Distribution) -> ShrunkenKernels:
    """Return the kernels of `Normal` posteriors of 2 or more examples, over a vector.

    Example n is in fold n mod `NUM_FOLDS`.
    """
    means = posteriors.mean
    log_variances = jax.vmap(
        lambda q: jnp.broadcast_to(q.log_variance, q.mean.shape).astype(means.dtype)
    )(posteriors)

    def fit(fold: Array) -> ShrunkenKernels:
        others = jnp.arange(len(means)) % NUM_FOLDS != fold
        weights = others.astype(means.dtype) / jnp.sum(others).astype(means.dtype)
        log_noise = jax.nn.logsumexp(log_variances + jnp.log(weights)[:, None], axis=0)
        scale = jnp.exp(-log_noise / 2)[None]
        # Not in the reduced precision that accelerators multiply matrices with.
        with jax.default_matmul_precision("highest"):
            center = weights @ means
            whitened = (means - center[None]) * scale
            spread, axes = jnp.linalg.eigh((whitened * weights[:, None]).T @ whitened)
            return ShrunkenKernels(
                center,
                axes.T * scale,
                -jnp.sum(log_noise) / 2,
                jnp.maximum(spread, 0),
                whitened @ axes,
            )

    return jax.lax.map(fit, jnp.arange(NUM_FOLDS))


def log_shrunken_kernels(kernels: ShrunkenKernels, z: Array, index: Array) -> Array:
    """Return log-densities at z that do not know the example `index`, `[shrinkages]`.

    Its fold is left out of the covariance, and its own kernel of the mixture.
    """
    fold = jax.tree.map(lambda leaf: leaf[index % NUM_FOLDS], kernels)
    num_examples, latent_size = fold.means.shape
    shrinkages = jnp.asarray(SHRINKAGES, z.dtype)[:, None]
    log_variances = jnp.log1p((1 - jnp.square(shrinkages)) * fold.spread[None])
    precisions = jnp.exp(-log_variances)
    with jax.default_matmul_precision("highest"):
        position = fold.transform @ (z - fold.center)
        # Squares of some standard deviations of the kernels, which lose no digits.
        distances = (
            (precisions @ jnp.square(position))[None]
            + jnp.square(fold.means) @ (jnp.square(shrinkages) * precisions).T
            - 2 * fold.means @ (shrinkages * precisions * position[None]).T
        )
    own = (jnp.arange(num_examples) == index)[:, None]
    log_sums = jax.nn.logsumexp(jnp.where(own, -jnp.inf, -distances / 2), axis=0)
    found = log_sums - jnp.sum(log_variances, axis=1) / 2 + fold.log_determinant
    # A covariance too ill-conditioned to be taken apart gives no density.
    found = jnp.where(jnp.isnan(found), -jnp.inf, found)
    constant = math.log(num_examples - 1) + latent_size * math.log(2 * math.pi) / 2
    return found - constant


def stacked(log_densities: Array) -> Array:
    """Return the log of a mixture of `[samples, densities]`, `[samples]`.

    Its weights, which maximize the mean, are fitted by EM.
    """
    num_densities = log_densities.shape[1]

    def mixed(log_weights: Array) -> Array:
        return jax.nn.logsumexp(
            log_densities + log_weights[None], axis=1, keepdims=True
        )

    def step(_: Array, log_weights: Array) -> Array:
        log_shares = log_densities + log_weights[None] - mixed(log_weights)
        # Where no density is positive, or one is no number, weights do not matter.
        log_shares = jnp.where(jnp.isnan(log_shares), log_weights[None], log_shares)
        return jax.nn.logsumexp(log_shares, axis=0) - jnp.log(
            jnp.asarray(len(log_densities), log_densities.dtype)
        )

    equal = jnp.full(num_densities, -np.log(num_densities), log_densities.dtype)
    return mixed(jax.lax.fori_loop(0, EM_STEPS, step, equal))[:, 0]
