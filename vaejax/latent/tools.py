"""What a trained VAE is for: sample, reconstruct, interpolate, traverse, shift, look at
the manifold, embed.

Every tool takes any `VAE`. Two choices are function arguments: `point`, which latent
stands for a posterior, and `readout`, which example stands for a likelihood: `mean`
(the default), `mode`, or `draw`, which uses a key. What the codes of a whole data set
say (moments, KL per dimension, neighbors) is in `vaejax.codes`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax._checks import check_count, require
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Event,
    Example,
    Key,
    Latent,
    Params,
    PyTree,
    batch_size_of,
    complete,
    draw,
    values,
)
from vaejax.distributions.continuous import Normal

PointEstimator = Callable[[Key | None, Distribution], Event]
_REMEDY = "choose another `point` or `readout` (vaejax.latent.mean, mode or draw)"


def mean(key: Key | None, distribution: Distribution) -> Event:
    """The distribution's mean; TypeError where it has none."""
    del key
    return require(distribution, "mean", _REMEDY)


def mode(key: Key | None, distribution: Distribution) -> Event:
    """The distribution's mode; TypeError where it has none."""
    del key
    return require(distribution, "mode", _REMEDY)


def sample(
    vae: VAE,
    params: Params,
    key: Key,
    num: int,
    *,
    temperature: float = 1.0,
    example_point: PointEstimator = mean,
) -> Example:
    """`num` examples generated from the prior: z ~ p(z), then the readout of p(x|z);
    `[num, *x]`.

    Args:
      vae, params: the model.
      key: of the draws.
      num: how many.
      temperature: moves each z towards the prior's mean m, or away from it: m +
        temperature (z - m). Below 1 the examples are more typical and less varied, at 0
        all are decoded from m. Of a prior without a `mean`, such as a mixture or a
        hierarchy, m is the mean of 1,000 draws.
      readout: which example stands for p(x|z).

    Raises:
      ValueError: `num` is not a positive integer, or `temperature` is negative or not
        finite.
    """
    check_count("num", num)
    prior = vae.prior(params)
    center = None
    if not isinstance(temperature, float | int) or temperature != 1:
        if isinstance(temperature, float | int) and not 0 <= temperature < float("inf"):
            raise ValueError(
                f"sample: temperature is {temperature}; give a number from 0 on, such "
                "as 0.7."
            )
        key, center_key = jax.random.split(key)
        center = _center(prior, center_key)

    def one(key: Key) -> Example:
        z_key, x_key = jax.random.split(key)
        z = draw(z_key, prior)
        if center is not None:
            cooled = jax.tree.map(
                lambda value, middle: middle + temperature * (value - middle),
                values(z),
                center,
            )
            z = complete(vae, params, z, cooled)
        return example_point(x_key, vae.decode(params, z))

    return jax.vmap(one)(jax.random.split(key, num))


def _center(prior: Distribution, key: Key, num: int = 1000) -> PyTree:
    if hasattr(prior, "mean"):
        return values(prior.mean)
    draws = jax.vmap(lambda key: values(draw(key, prior)))(jax.random.split(key, num))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), draws)


def linear_path(start: PyTree, end: PyTree, t: Array) -> PyTree:
    """(1 - t) start + t end, leaf by leaf; both ends are met exactly."""
    return jax.tree.map(lambda a, b: (1 - t) * a + t * b, start, end)


def spherical_path(start: PyTree, end: PyTree, t: Array) -> PyTree:
    """Along the great circle, sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end,
    with w the angle between the two.

    Draws of a standard Normal in many dimensions lie near a sphere, and the middle of a
    straight line between two of them is far inside it. All leaves are taken as one
    vector. Where the two are parallel it is the straight line.

    Source: White 2016, "Sampling generative networks", section 2.2.
    """
    (a, unravel), (b, _) = ravel_pytree(start), ravel_pytree(end)
    scale = jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
    cosine = jnp.clip(jnp.sum(a * b) / jnp.where(scale > 0, scale, 1), -1, 1)
    angle = jnp.arccos(cosine)
    sine = jnp.sin(angle)
    # The quotients lose their digits near a straight angle as near none, and at none
    # the great circle is the line.
    curved = (scale > 0) & (sine > 1e-3)
    divisor = jnp.where(curved, sine, 1)
    left = jnp.where(curved, jnp.sin((1 - t) * angle) / divisor, 1 - t)
    right = jnp.where(curved, jnp.sin(t * angle) / divisor, t)
    return unravel(left * a + right * b)


def reconstruct(
    vae: VAE,
    params: Params,
    key: Key,
    xs: Example,
    *,
    latent_point: PointEstimator = draw,
    example_point: PointEstimator = mean,
) -> Example:
    """The readout of p(x|z) with z ~ q(z|x) for each of `xs`, `[num, *x]`; `point=mean`
    decodes the posterior mean.
    """

    def one(key: Key, x: Example) -> Example:
        z_key, x_key = jax.random.split(key)
        return example_point(
            x_key, vae.decode(params, latent_point(z_key, vae.encode(params, x)))
        )

    return jax.vmap(one)(jax.random.split(key, batch_size_of(xs)), xs)


def interpolate(
    vae: VAE,
    params: Params,
    x0: Example,
    x1: Example,
    num: int,
    *,
    path: Callable[[PyTree, PyTree, Array], PyTree] = linear_path,
    key: Key | None = None,
    latent_point: PointEstimator = mean,
    example_point: PointEstimator = mean,
) -> Example:
    """Decodes `num` steps t from 0 to 1 on a path between two examples' z, `linear` or
    `spherical`; `[num, *x]`.
    """
    check_count("num", num)
    start_key, end_key, x_key = _split(key, 3)
    start, end = (
        latent_point(start_key, vae.encode(params, x0)),
        latent_point(end_key, vae.encode(params, x1)),
    )

    def at(t: Array) -> Latent:
        return complete(vae, params, start, path(values(start), values(end), t))

    return _decode_many(
        vae, params, x_key, jax.vmap(at)(jnp.linspace(0, 1, num)), example_point
    )


def traverse(
    vae: VAE,
    params: Params,
    x: Example,
    *,
    num: int = 11,
    extent: float = 3.0,
    steps: Array | None = None,
    key: Key | None = None,
    latent_point: PointEstimator = mean,
    example_point: PointEstimator = mean,
) -> Example:
    """Each latent dimension in turn moved through values, the rest as encoded from x.

    Args:
      vae, params: the model.
      x: one example.
      num, extent: `num` values from -extent to extent, the same for every dimension.
      steps: the values instead, `[num]`, or `[dimensions, num]` for each its own, such
        as the quantiles of `vaejax.code_statistics`.
      key: for a `point` or `readout` that draws.
      point, readout: which latent and which example stand for their distributions.

    Returns:
      `[dimensions, num, *x]`; the dimensions are those of the flattened latent values.

    Raises:
      ValueError: `steps` is of another number of dimensions than z.
    """
    check_count("num", num)
    z_key, x_key = _split(key, 2)
    z = latent_point(z_key, vae.encode(params, x))
    flat, unravel = ravel_pytree(values(z))
    if steps is None:
        steps = jnp.linspace(-extent, extent, num, dtype=flat.dtype)
    if steps.ndim not in (1, 2) or (steps.ndim == 2 and len(steps) != flat.size):
        raise ValueError(
            f"traverse: steps has shape {steps.shape}; give [num], or [dimensions, "
            f"num] with {flat.size}."
        )

    def at(dimension: Array, value: Array) -> Latent:
        return complete(vae, params, z, unravel(flat.at[dimension].set(value)))

    moved = jax.vmap(jax.vmap(at, in_axes=(None, 0)))(
        jnp.arange(flat.size), jnp.broadcast_to(steps, (flat.size, steps.shape[-1]))
    )
    return jax.vmap(lambda zs: _decode_many(vae, params, x_key, zs, example_point))(
        moved
    )


def shift_latents(
    vae: VAE,
    params: Params,
    x: Example,
    direction: PyTree,
    steps: Array,
    *,
    key: Key | None = None,
    latent_point: PointEstimator = mean,
    example_point: PointEstimator = mean,
) -> Example:
    """Latent arithmetic: decodes z + s direction for each s of `steps`, with z encoded
    from x; `[steps, *x]`.

    Args:
      vae, params: the model.
      x: one example.
      direction: of the structure of z's values, such as the
        `vaejax.attribute_direction` of smiling.
      steps: `[steps]`, how much of it; at 0 x is reconstructed.
      key: for a `point` or `readout` that draws.
      point, readout: which latent and which example stand for their distributions.

    Source: Larsen et al. 2016, "Autoencoding beyond pixels", section 4.2 (attribute
    vectors).
    """
    z_key, x_key = _split(key, 2)
    z = latent_point(z_key, vae.encode(params, x))
    (flat, unravel), (move, _) = ravel_pytree(values(z)), ravel_pytree(direction)
    if flat.size != move.size:
        raise ValueError(
            f"shift: direction has {move.size} dimensions and z has {flat.size}; give "
            "one of z's."
        )
    moved = jax.vmap(
        lambda step: complete(vae, params, z, unravel(flat + step * move))
    )(jnp.asarray(steps))
    return _decode_many(vae, params, x_key, moved, example_point)


def manifold(
    vae: VAE,
    params: Params,
    num: int,
    *,
    dimensions: tuple[int, int] | None = None,
    key: Key | None = None,
    example_point: PointEstimator = mean,
) -> Example:
    """A `num` by `num` map of two latent dimensions, `[num, num, *x]`.

    Rows and columns are equally spaced quantiles of the prior's two marginals, so that
    the strips of cells hold equal prior mass; rows run from high to low in the second
    dimension, as the axes of a figure do. Other dimensions stay at the prior's mean.
    Source: Kingma & Welling 2014, appendix A.

    Args:
      vae, params: the model.
      num: cells a side.
      dimensions: the first and the second dimension, of the flattened latent values;
        needed where z has more than two.
      key: of 10,000 draws that stand for a prior that is no Normal, or of a `readout`
        that draws.
      readout: which example stands for p(x|z).

    Raises:
      ValueError: z has not two dimensions and none are chosen, or the chosen ones are
        not two of z's.
      TypeError: the prior is no Normal and there is no key.
    """
    check_count("num", num)
    prior = vae.prior(params)
    like_key, prior_key, x_key = (
        (None, None, key) if isinstance(prior, Normal) else _split(key, 3)
    )
    like = prior.mean if isinstance(prior, Normal) else draw(like_key, prior)
    flat, unravel = ravel_pytree(values(like))
    if dimensions is None and flat.size != 2:
        raise ValueError(
            f"manifold: z has {flat.size} dimensions; train with latent_size=2, choose "
            "two with `dimensions`, or use "
            "traverse."
        )
    first, second = (0, 1) if dimensions is None else dimensions
    if first == second or not (0 <= first < flat.size and 0 <= second < flat.size):
        raise ValueError(
            f"manifold: dimensions is {dimensions}; give two different ones below "
            f"{flat.size}."
        )
    center, quantiles = _marginals(
        prior, prior_key, (jnp.arange(num, dtype=flat.dtype) + 0.5) / num
    )

    def at(row: Array, column: Array) -> Latent:
        edited = (
            center.at[first]
            .set(quantiles[column, first])
            .at[second]
            .set(quantiles[num - 1 - row, second])
        )
        return complete(vae, params, like, unravel(edited))

    rows, columns = jnp.meshgrid(jnp.arange(num), jnp.arange(num), indexing="ij")
    xs = _decode_many(
        vae, params, x_key, jax.vmap(at)(rows.ravel(), columns.ravel()), example_point
    )
    return jax.tree.map(lambda leaf: leaf.reshape(num, num, *leaf.shape[1:]), xs)


def _marginals(
    prior: Distribution, key: Key | None, masses: Array, num_draws: int = 10_000
) -> tuple[Array, Array]:
    """The mean of p(z), `[dimensions]`, and the quantiles of its marginals, `[masses,
    dimensions]`.
    """
    if isinstance(prior, Normal):
        flat, _ = ravel_pytree(prior.mean)
        stddev = jnp.broadcast_to(
            jnp.exp(prior.log_variance / 2), prior.mean.shape
        ).ravel()
        return flat, flat[None] + jax.scipy.stats.norm.ppf(masses)[:, None] * stddev[
            None
        ]
    draws = jax.vmap(lambda key: ravel_pytree(values(draw(key, prior)))[0])(
        jax.random.split(key, num_draws)
    )
    return jnp.mean(draws, axis=0), jnp.quantile(draws, masses, axis=0)


def embed(
    vae: VAE,
    params: Params,
    xs: Example,
    *,
    batch_size: int = 1000,
    key: Key | None = None,
    latent_point: PointEstimator = mean,
) -> PyTree:
    """The point of q(z|x) for each of `xs`, its mean by default: `[num, *z]`, computed
    in batches.

    Of a hierarchical latent, the values only. `point=draw` needs a `key`, from which
    each example has its own.
    """
    check_count("batch_size", batch_size)

    def one(example: tuple[Key | None, Example]) -> PyTree:
        key, x = example
        return values(latent_point(key, vae.encode(params, x)))

    keys = None if key is None else jax.random.split(key, batch_size_of(xs))
    return jax.lax.map(one, (keys, xs), batch_size=batch_size)


def _decode_many(
    vae: VAE, params: Params, key: Key | None, zs: Latent, example_point: PointEstimator
) -> Example:
    # One key for all, where there is one: what differs along an interpolation is then z
    # alone.
    return jax.vmap(lambda z: example_point(key, vae.decode(params, z)))(zs)


def _split(key: Key | None, num: int) -> Any:
    return [None] * num if key is None else jax.random.split(key, num)
