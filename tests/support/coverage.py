"""Repeated experiments in which corrected bounds meet a known mean log p(x).

Of two models with two latent dimensions: a fixed set of examples drawn from the model,
an encoder that is too narrow and too close to the prior, and log p(x) by quadrature.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.special
import scipy.stats
from support.linear_gaussian import make_params

from vaejax import VAE, Normal, log_marginal
from vaejax.estimators import (
    AnnealingPath,
    CorrectedMarginal,
    adapt_step_sizes,
    annealed_importance_sampling,
    correct_bound,
)

NUM_EXAMPLES, NUM_ANNEALED, NUM_PILOT = 1000, 100, 4
# Mean and standard deviation of q, relative to those of the exact posterior.
MEAN_SCALE, STDDEV_SCALE = 0.75, 0.4


class Encoder(NamedTuple):
    """Parameters of q(z|x) of each example, `[examples, 2]`."""

    mean: np.ndarray
    log_variance: np.ndarray


class Model(NamedTuple):
    """A model with examples `[examples, x]` and their log p(x) `[examples]`."""

    vae: VAE
    encoder: Encoder
    xs: np.ndarray
    truth: np.ndarray


class Moments(NamedTuple):
    """log p(x), and the posterior's moments, of each example."""

    log_marginal: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


class Repetition(NamedTuple):
    """One experiment.

    Attributes:
      marginal: the corrected bound and its parts.
      spread: standard error of the mean bound, were the examples a random sample.
      annealing_bias: mean of annealed value minus log p(x) over the subset.
    """

    marginal: CorrectedMarginal
    spread: jax.Array
    annealing_bias: jax.Array


def linear_means(z, xp):
    params = make_params()
    return z @ xp.asarray(params.loadings).T + xp.asarray(params.offset)


def nonlinear_means(z, xp):
    random, num_hidden = np.random.default_rng(0), 16
    inner, phases, outer = map(
        np.float32,
        (
            random.normal(0, 1.5, (num_hidden, 2)),
            random.normal(0, 2, num_hidden),
            random.normal(0, 1.5, (5, num_hidden)) / num_hidden**0.5,
        ),
    )
    hidden = xp.sin(z @ xp.asarray(inner).T + xp.asarray(phases))
    return hidden @ xp.asarray(outer).T


# E[x|z] of latents `[..., 2]`, by numpy or by jax.numpy, and the stddev of the noise.
DECODERS = {
    "linear-Gaussian": (linear_means, 0.5**0.5),
    "non-linear": (nonlinear_means, 0.7),
}


def make_model(name: str) -> Model:
    means, stddev = DECODERS[name]
    random = np.random.default_rng(1)
    centers = means(random.normal(size=(NUM_EXAMPLES, 2)), np)
    xs = np.float32(centers + stddev * random.normal(size=centers.shape))
    exact = quadrature(means, stddev, xs)
    vae = VAE(
        init=lambda key, x: Encoder(jnp.zeros(2), jnp.zeros(2)),
        encode=lambda params, x: Normal(params.mean, params.log_variance),
        prior=lambda params: Normal(jnp.zeros(2), jnp.zeros(2)),
        decode=lambda params, z: Normal(means(z, jnp), jnp.float32(2 * np.log(stddev))),
    )
    encoder = Encoder(
        np.float32(MEAN_SCALE * exact.mean),
        np.float32(np.log(exact.variance) + 2 * np.log(STDDEV_SCALE)),
    )
    return Model(vae, encoder, xs, exact.log_marginal)


def quadrature(means: Callable, stddev: float, xs, num_nodes: int = 101) -> Moments:
    """By the rectangle rule over [-6, 6]^2, which converges exponentially for functions
    this smooth, and this small at the edges.
    """
    z, log_joints = on_grid(means, stddev, xs, num_nodes)
    log_area = 2 * np.log(12 / (num_nodes - 1))

    def moments(log_joint):
        total = scipy.special.logsumexp(log_joint)
        weights = np.exp(log_joint - total)
        mean = weights @ z
        return total + log_area, mean, weights @ np.square(z) - np.square(mean)

    return Moments(*map(np.array, zip(*map(moments, log_joints), strict=True)))


def on_grid(means: Callable, stddev: float, xs, num_nodes: int):
    """The nodes `[nodes^2, 2]`, and log p(x, z) there for one example after another."""
    line = np.linspace(-6, 6, num_nodes)
    z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    centers, log_prior = means(z, np), scipy.stats.norm.logpdf(z).sum(axis=-1)

    def log_joint(x):
        squares = np.square((x - centers) / stddev).sum(axis=-1)
        return log_prior - squares / 2 - x.size * np.log(stddev * np.sqrt(2 * np.pi))

    return z, map(log_joint, xs.astype(np.float64))


def count_modes(means: Callable, stddev: float, xs, num_nodes: int = 101):
    """Count the local maxima of each posterior within 3 nats of the highest."""

    def count(log_joint):
        density = log_joint.reshape(num_nodes, num_nodes)
        is_highest = scipy.ndimage.maximum_filter(density, 3) == density
        return np.sum(is_highest & (density > density.max() - 3))

    _, log_joints = on_grid(means, stddev, xs, num_nodes)
    return np.array(list(map(count, log_joints)))


def pick(tree, indices):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], tree)


def bounds(model: Model, key, num_samples: int):
    """Bounds of all examples."""
    one = partial(
        log_marginal, model.vae, num_samples=num_samples, chunk_size=num_samples
    )
    return jax.vmap(one)(model.encoder, jax.random.split(key, len(model.xs)), model.xs)


def pilot(model: Model, key, path: AnnealingPath, num_chains: int) -> AnnealingPath:
    """The path with the geometric mean of step sizes adapted to a few examples."""
    subset_key, adapt_key = jax.random.split(key)
    subset = jax.random.choice(subset_key, len(model.xs), (NUM_PILOT,), replace=False)
    adapt = partial(adapt_step_sizes, model.vae, path=path, num_chains=num_chains)
    sizes = jax.vmap(adapt)(
        pick(model.encoder, subset),
        jax.random.split(adapt_key, NUM_PILOT),
        pick(model.xs, subset),
    )
    return path._replace(step_sizes=jnp.exp(jnp.mean(jnp.log(sizes), axis=0)))


def repeat(
    model: Model,
    key,
    *,
    all_num_samples: tuple[int, ...],
    path: AnnealingPath,
    num_chains: int,
    num_annealed: int = NUM_ANNEALED,
) -> dict[int, Repetition]:
    """One experiment, with a new subset and new keys, by number of samples.

    All numbers of samples share the annealed values.
    """
    bound_key, subset_key, pilot_key, chain_key = jax.random.split(key, 4)
    subset = jax.random.choice(
        subset_key, len(model.xs), (num_annealed,), replace=False
    )
    path = pilot(model, pilot_key, path, num_chains)
    anneal = partial(
        annealed_importance_sampling, model.vae, path=path, num_chains=num_chains
    )
    annealed = jax.vmap(anneal)(
        pick(model.encoder, subset),
        jax.random.split(chain_key, num_annealed),
        pick(model.xs, subset),
    )
    bias = jnp.mean(annealed.log_marginal - pick(np.float32(model.truth), subset))
    found = {}
    bound_keys = jax.random.split(bound_key, len(all_num_samples))
    for number, num_samples in enumerate(all_num_samples):
        estimates = bounds(model, bound_keys[number], num_samples)
        marginal = correct_bound(
            estimates.log_marginal,
            subset,
            annealed.log_marginal,
            bound_errors=estimates.standard_error,
            annealed_errors=annealed.standard_error,
        )
        spread = jnp.std(estimates.log_marginal, ddof=1) / len(model.xs) ** 0.5
        found[num_samples] = Repetition(marginal, spread, bias)
    return found


def repetitions(
    model: Model, key, num: int, *, batch_size: int | None = None, **options
) -> dict[int, Repetition]:
    """Experiments with keys of their own, `[num]`, on the host."""
    one = partial(repeat, model, **options)
    program = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=batch_size))
    return jax.tree.map(np.asarray, program(jax.random.split(key, num)))
