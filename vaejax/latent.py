"""What a trained VAE is for: sample, reconstruct, interpolate, traverse, look at the manifold, embed.

Every tool takes any `VAE`. Two choices are function arguments: `point`, which latent stands for a posterior, and
`readout`, which example stands for a likelihood: `mean` (the default), `mode`, or `draw`, which uses a key.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Event,
    Example,
    Key,
    Latent,
    Latents,
    Params,
    PyTree,
    batch_size_of,
    check_count,
    require,
)

Readout = Callable[[Key | None, Distribution], Event]
_REMEDY = "choose another `point` or `readout` (vaejax.latent.mean, mode or draw)"


def mean(key: Key | None, distribution: Distribution) -> Event:
    """The distribution's mean; TypeError where it has none."""
    del key
    return require(distribution, "mean", _REMEDY)


def mode(key: Key | None, distribution: Distribution) -> Event:
    """The distribution's mode; TypeError where it has none."""
    del key
    return require(distribution, "mode", _REMEDY)


def draw(key: Key | None, distribution: Distribution) -> Event:
    """A draw from the distribution; TypeError without a key."""
    if key is None:
        raise TypeError("draw: there is no key to draw with; give the tool `key=jax.random.key(seed)`.")
    if hasattr(distribution, "sample"):
        return distribution.sample(key)
    # All that a posterior must have.
    return require(distribution, "sample_and_log_prob")(key)[0]


def sample(vae: VAE, params: Params, key: Key, num: int, *, readout: Readout = mean) -> Example:
    """`num` examples generated from the prior: z ~ p(z), then the readout of p(x|z); `[num, *x]`."""
    check_count("num", num)
    prior = vae.prior(params)

    def one(key: Key) -> Example:
        z_key, x_key = jax.random.split(key)
        return readout(x_key, vae.decode(params, draw(z_key, prior)))

    return jax.vmap(one)(jax.random.split(key, num))


def reconstruct(
    vae: VAE, params: Params, key: Key, xs: Example, *, point: Readout = draw, readout: Readout = mean
) -> Example:
    """The readout of p(x|z) with z ~ q(z|x) for each of `xs`, `[num, *x]`; `point=mean` decodes the posterior mean."""

    def one(key: Key, x: Example) -> Example:
        z_key, x_key = jax.random.split(key)
        return readout(x_key, vae.decode(params, point(z_key, vae.encode(params, x))))

    return jax.vmap(one)(jax.random.split(key, batch_size_of(xs)), xs)


def interpolate(
    vae: VAE,
    params: Params,
    x0: Example,
    x1: Example,
    num: int,
    *,
    key: Key | None = None,
    point: Readout = mean,
    readout: Readout = mean,
) -> Example:
    """Decodes z = (1 - t) z0 + t z1 for `num` steps t from 0 to 1 between two examples; `[num, *x]`."""
    check_count("num", num)
    start_key, end_key, x_key = _split(key, 3)
    start, end = point(start_key, vae.encode(params, x0)), point(end_key, vae.encode(params, x1))

    def at(t: Array) -> Latent:
        # Written so that both ends are met exactly.
        return complete(vae, params, start, jax.tree.map(lambda a, b: (1 - t) * a + t * b, values(start), values(end)))

    return _decode_many(vae, params, x_key, jax.vmap(at)(jnp.linspace(0, 1, num)), readout)


def traverse(
    vae: VAE,
    params: Params,
    x: Example,
    *,
    num: int = 11,
    extent: float = 3.0,
    key: Key | None = None,
    point: Readout = mean,
    readout: Readout = mean,
) -> Example:
    """Each latent dimension in turn moved through `num` values from -extent to extent, the rest as encoded from x.

    Returns:
      `[dimensions, num, *x]`; the dimensions are those of the flattened latent values.
    """
    check_count("num", num)
    z_key, x_key = _split(key, 2)
    z = point(z_key, vae.encode(params, x))
    flat, unravel = ravel_pytree(values(z))

    def at(dimension: Array, value: Array) -> Latent:
        return complete(vae, params, z, unravel(flat.at[dimension].set(value)))

    over_values = jax.vmap(at, in_axes=(None, 0))
    steps = jnp.linspace(-extent, extent, num, dtype=flat.dtype)
    moved = jax.vmap(over_values, in_axes=(0, None))(jnp.arange(flat.size), steps)
    return jax.vmap(lambda zs: _decode_many(vae, params, x_key, zs, readout))(moved)


def manifold(vae: VAE, params: Params, num: int, *, key: Key | None = None, readout: Readout = mean) -> Example:
    """A `num` by `num` map of a two-dimensional latent space, `[num, num, *x]`.

    Rows and columns are equally spaced quantiles of a Normal prior, so that the cells hold equal prior mass; rows run
    from high to low in the second dimension, as the axes of a figure do. Source: Kingma & Welling 2014, appendix A.

    Raises:
      ValueError: the latent is not two-dimensional, or the prior has no mean and log-variance.
    """
    check_count("num", num)
    prior = vae.prior(params)
    if jnp.shape(getattr(prior, "mean", ())) != (2,) or not hasattr(prior, "log_variance"):
        raise ValueError(
            f"manifold: the prior {type(prior).__name__} is not a Normal over two dimensions; "
            "train with latent_size=2, or use traverse."
        )
    quantiles = jax.scipy.stats.norm.ppf((jnp.arange(num, dtype=prior.mean.dtype) + 0.5) / num)
    second, first = jnp.meshgrid(quantiles[::-1], quantiles, indexing="ij")
    standard = jnp.stack([first, second], axis=-1).reshape(-1, 2)
    zs = jax.vmap(lambda z: prior.mean + jnp.exp(prior.log_variance / 2) * z)(standard)
    xs = _decode_many(vae, params, key, zs, readout)
    return jax.tree.map(lambda leaf: leaf.reshape(num, num, *leaf.shape[1:]), xs)


def embed(
    vae: VAE,
    params: Params,
    xs: Example,
    *,
    batch_size: int = 1000,
    key: Key | None = None,
    point: Readout = mean,
) -> PyTree:
    """The point of q(z|x) for each of `xs`, its mean by default: `[num, *z]`, computed in batches.

    Of a hierarchical latent, the values only. `point=draw` needs a `key`, from which each example has its own.
    """
    check_count("batch_size", batch_size)

    def one(example: tuple[Key | None, Example]) -> PyTree:
        key, x = example
        return values(point(key, vae.encode(params, x)))

    keys = None if key is None else jax.random.split(key, batch_size_of(xs))
    return jax.lax.map(one, (keys, xs), batch_size=batch_size)


def values(z: Latent) -> PyTree:
    """What of a latent may be edited: z itself, or the `values` of a hierarchical one."""
    return z.values if isinstance(z, Latents) else z


def complete(vae: VAE, params: Params, like: Latent, edited: PyTree) -> Latent:
    """The latent of the kind of `like` with edited values; the prior rebuilds the path of a hierarchical one."""
    return vae.prior(params).complete(edited) if isinstance(like, Latents) else edited


def _decode_many(vae: VAE, params: Params, key: Key | None, zs: Latent, readout: Readout) -> Example:
    # One key for all, where there is one: what differs along an interpolation is then z alone.
    return jax.vmap(lambda z: readout(key, vae.decode(params, z)))(zs)


def _split(key: Key | None, num: int) -> Any:
    return [None] * num if key is None else jax.random.split(key, num)
