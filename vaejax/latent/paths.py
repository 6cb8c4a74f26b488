"""Paths in latent space: interpolation between two examples, and shifts of one."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from vaejax._checks import as_numbers, check_count, check_model
from vaejax._reals import as_floating, as_real
from vaejax._supports import check_latents, check_lines
from vaejax.base import (
    VAE,
    Array,
    Example,
    Key,
    Params,
    PyTree,
    complete,
    values,
)
from vaejax.latent._decoding import decode_many, split_if_given
from vaejax.latent.points import PointEstimator, mean

#: `(start, end, t) -> values` at t in [0, 1], such as `linear_path`.
LatentPath = Callable[[PyTree, PyTree, Array], PyTree]


_ON_SPHERE = (
    "on a sphere give path=vaejax.latent.spherical_path and "
    "latent_point=vaejax.latent.mode, and decode classes and counts one by one"
)


def linear_path(start: PyTree, end: PyTree, t: Array) -> PyTree:
    """Return the point (1 - t) start + t end of the straight line, leaf by leaf.

    Both ends are met exactly.

    Args:
      start: latent values, the point at t = 0.
      end: latent values of the same structure, the point at t = 1.
      t: scalar, between 0 and 1.

    Returns:
      Latent values of the same structure.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import linear_path
      >>> linear_path(jnp.array([2.0, 0.0]), jnp.array([0.0, 4.0]), 0.25).tolist()
      [1.5, 1.0]
    """
    _check_path("linear_path", start, end, t)

    def point(a: Array, b: Array) -> Array:
        a, b = as_floating(a), as_floating(b)
        at = jnp.asarray(t, a.dtype)
        return (1 - at) * a + at * b.astype(a.dtype)

    return jax.tree.map(point, start, end)


def spherical_path(start: PyTree, end: PyTree, t: Array) -> PyTree:
    """Return a point of the great circle from start to end.

    sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end, with w the angle between the
    two. Draws of a standard Normal in many dimensions lie near a sphere, and the middle
    of a straight line between two of them is far inside it. All leaves are taken as one
    vector. Where start and end are parallel, zero, or opposite to within 0.001 radians,
    the path is the straight line, with its derivatives.

    Args:
      start: latent values, the point at t = 0.
      end: latent values of the same structure, the point at t = 1.
      t: scalar, between 0 and 1.

    Returns:
      Latent values of the same structure.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import spherical_path
      >>> middle = spherical_path(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), 0.5)
      >>> [round(value, 3) for value in middle.tolist()]
      [0.707, 0.707]

    Source: White 2016, "Sampling generative networks", section 2.2.
    """
    _check_path("spherical_path", start, end, t)
    start, end = jax.tree.map(as_floating, (start, end))
    (flat, unravel), (other, _) = ravel_pytree(start), ravel_pytree(end)
    a, b = as_real(flat), as_real(other)
    t = jnp.asarray(t, a.dtype)
    # Of the unit vectors, difference and sum are 2 sin(w / 2) and 2 cos(w / 2) long,
    # which keeps the digits of small angles.
    lengths = jnp.sum(a * a), jnp.sum(b * b)
    has_angle = (lengths[0] > 0) & (lengths[1] > 0)
    unit, other_unit = (
        each * jax.lax.rsqrt(jnp.where(has_angle, length, 1))
        for each, length in zip((a, b), lengths, strict=True)
    )
    apart = jnp.sum(jnp.square(unit - other_unit))
    together = jnp.sum(jnp.square(unit + other_unit))
    tiny = jnp.finfo(a.dtype).tiny
    # All of a point that is no number, not only where it is none.
    is_number = ~jnp.isnan(lengths[0] + lengths[1])
    curved = has_angle & (apart > tiny) & (together > 1e-6)
    # Inner replacements keep the derivative of the branch not taken finite.
    angle = 2 * jnp.arctan2(
        jnp.sqrt(jnp.where(curved, apart, 1)), jnp.sqrt(jnp.where(curved, together, 1))
    )
    left = jnp.where(curved, jnp.sin((1 - t) * angle) / jnp.sin(angle), 1 - t)
    right = jnp.where(curved, jnp.sin(t * angle) / jnp.sin(angle), t)
    point = jnp.where(is_number, left * a + right * b, jnp.nan)
    return unravel(point.astype(flat.dtype))


def _check_path(name: str, start: PyTree, end: PyTree, t: Array) -> None:
    """Raise unless both ends are of the same shapes, and the time is a number."""
    if np.shape(as_numbers(f"{name}: t", t)) != ():
        raise ValueError(f"{name}: t has shape {np.shape(t)}; give one number.")
    shapes = []
    for argument, value in (("start", start), ("end", end)):
        numbers = [
            as_numbers(f"{name}: {argument}", leaf) for leaf in jax.tree.leaves(value)
        ]
        shapes.append([np.shape(each) for each in numbers])
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(
            f"{name}: start has the shapes {shapes[0]} and end {shapes[1]}; give two "
            "latents of one model."
        )


def interpolate(
    vae: VAE,
    params: Params,
    x0: Example,
    x1: Example,
    num: int,
    *,
    path: LatentPath = linear_path,
    key: Key | None = None,
    latent_point: PointEstimator = mean,
    example_point: PointEstimator = mean,
) -> Example:
    """Decode equally spaced points of a path between the latents of two examples.

    Args:
      vae: the model.
      params: its parameters.
      x0: the example at the start of the path, without a batch axis.
      x1: the example at its end.
      num: number of points from t = 0 to t = 1, a positive integer.
      path: `(start, end, t) -> values`: `linear_path` or `spherical_path`.
      key: needed where a point estimator draws.
      latent_point: point estimator of q(z|x).
      example_point: point estimator of p(x|z).

    Returns:
      `[num, *x]`, the decoded examples.

    Raises:
      ValueError: `num` is not a positive integer, or a point of the path is outside the
        support of the prior.
      TypeError: a distribution has no such point, or a draw has no key; or the path is
        straight, and z is on a sphere, a class or a count.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> vaejax.interpolate(vae, params, jnp.zeros(3), jnp.ones(3), 4).shape
      (4, 3)
    """
    check_model(vae, params)
    check_count("num", num)
    start_key, end_key, x_key = split_if_given(key, 3)
    start = latent_point(start_key, vae.encode(params, x0))
    end = latent_point(end_key, vae.encode(params, x1))
    prior = vae.prior(params)
    if path is linear_path:
        check_lines("interpolate: path=linear_path", prior, values(start), _ON_SPHERE)

    def at(t: Array) -> PyTree:
        return path(values(start), values(end), t)

    edited = jax.vmap(at)(jnp.linspace(0, 1, num))
    check_latents("interpolate", prior, edited, _ON_SPHERE)
    zs = jax.vmap(partial(complete, vae, params, start))(edited)
    return decode_many(vae, params, x_key, zs, example_point)


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
    """Decode the latent of an example, shifted along a direction.

    z + s direction for each s of `steps`, with z encoded from x.

    Args:
      vae: the model.
      params: its parameters.
      x: one example, without a batch axis.
      direction: a shift of the structure of z's values, or flattened, such as an
        `attribute_direction`.
      steps: `[steps]`, the multiples of the direction; at 0, x is reconstructed.
      key: needed where a point estimator draws.
      latent_point: point estimator of q(z|x).
      example_point: point estimator of p(x|z).

    Returns:
      `[steps, *x]`, the decoded examples.

    Raises:
      ValueError: `direction` has another number of dimensions than z, or a step leaves
        the bounds of the prior's support.
      TypeError: a distribution has no such point, or a draw has no key; or z is on a
        sphere, a class or a count.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x, direction = jnp.ones(3), jnp.array([1.0, 0.0])
      >>> params = vae.init(jax.random.key(0), x)
      >>> vaejax.latent.shift_latents(
      ...     vae, params, x, direction, jnp.arange(4.0)
      ... ).shape
      (4, 3)

    Source: Larsen et al. 2016, "Autoencoding beyond pixels", section 4.2 (attribute
    vectors).
    """
    check_model(vae, params)
    direction = jax.tree.map(partial(as_numbers, "shift_latents: direction"), direction)
    steps = as_numbers("shift_latents: steps", steps)
    if np.ndim(steps) != 1:
        raise ValueError(
            f"shift_latents: steps has shape {np.shape(steps)}; give [steps]."
        )
    z_key, x_key = split_if_given(key, 2)
    z = latent_point(z_key, vae.encode(params, x))
    (flat, unravel), (move, _) = ravel_pytree(values(z)), ravel_pytree(direction)
    move = move.astype(flat.dtype)
    if flat.size != move.size:
        raise ValueError(
            f"shift_latents: direction has {move.size} dimensions, of shape "
            f"{move.shape}, and z has {flat.size}; give one of z's."
        )
    prior, remedy = vae.prior(params), "interpolate along a path of your own"
    check_lines("shift_latents", prior, values(z), remedy)
    edited = jax.vmap(lambda step: unravel(flat + step * move))(
        jnp.asarray(steps, flat.dtype)
    )
    check_latents("shift_latents", prior, edited, "give smaller steps")
    moved = jax.vmap(partial(complete, vae, params, z))(edited)
    return decode_many(vae, params, x_key, moved, example_point)
