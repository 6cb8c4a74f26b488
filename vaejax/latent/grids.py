"""Grids in latent space: each dimension in turn, or a plane of two of them."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax._checks import check_count, check_in_range, check_model, is_array, is_traced
from vaejax._reals import as_real, real_dtype
from vaejax._supports import (
    check_latents,
    check_lines,
    is_all_reals,
    support_of_moves,
)
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    Latent,
    Params,
    PyTree,
    complete,
    draw,
    values,
)
from vaejax.distributions import Normal
from vaejax.latent._decoding import decode_many, split_if_given
from vaejax.latent.points import PointEstimator, mean


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
    """Decode the latent of an example with each dimension in turn set to many values.

    All other dimensions stay as encoded from x. The dimensions are those of the
    flattened latent values.

    Args:
      vae: the model.
      params: its parameters.
      x: one example, without a batch axis.
      num: number of values, a positive integer.
      extent: the `num` values are equally spaced from -extent to extent, a positive
        number, the same for every dimension.
      steps: values that replace those of `num` and `extent`: `[num]`, or
        `[dimensions, num]` for values of each dimension, such as the quantiles of
        `code_statistics`.
      key: needed where a point estimator draws.
      latent_point: point estimator of q(z|x).
      example_point: point estimator of p(x|z).

    Returns:
      `[dimensions, num, *x]`, the decoded examples.

    Raises:
      ValueError: `num` is not a positive integer, `extent` is not positive and finite,
        `steps` has another number of dimensions than z, or they are outside the support
        of the prior.
      TypeError: a distribution has no such point, or a draw has no key.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> vaejax.traverse(vae, params, x, num=4).shape
      (2, 4, 3)
    """
    check_model(vae, params)
    check_count("num", num)
    check_in_range("traverse: extent", extent, 0, open_low=True)
    z_key, x_key = split_if_given(key, 2)
    z = latent_point(z_key, vae.encode(params, x))
    flat, unravel = ravel_pytree(values(z))
    if steps is None:
        steps = jnp.linspace(-extent, extent, num, dtype=flat.dtype)
    steps = jnp.asarray(steps, flat.dtype)
    if steps.ndim not in (1, 2) or (steps.ndim == 2 and len(steps) != flat.size):
        raise ValueError(
            f"traverse: steps has shape {steps.shape}; give [num], or [dimensions, "
            f"num] with {flat.size}."
        )

    _check_steps(vae.prior(params), values(z), steps)

    def at(dimension: Array, value: Array) -> Latent:
        return complete(vae, params, z, unravel(flat.at[dimension].set(value)))

    moved = jax.vmap(jax.vmap(at, in_axes=(None, 0)))(
        jnp.arange(flat.size), jnp.broadcast_to(steps, (flat.size, steps.shape[-1]))
    )
    return jax.vmap(lambda zs: decode_many(vae, params, x_key, zs, example_point))(
        moved
    )


def _check_steps(prior: Distribution, z: PyTree, steps: Array) -> None:
    """Raise where a dimension that is set to a step leaves the support of the prior."""
    if not is_array(z) or is_traced(steps):
        return
    shape = jnp.shape(z)
    rows = steps.T.reshape(-1, *shape) if steps.ndim == 2 else steps
    if steps.ndim == 1:
        rows = jnp.broadcast_to(
            rows.reshape(-1, *len(shape) * (1,)), (*rows.shape, *shape)
        )
    remedy = (
        "give `steps` within it, or, on a sphere, interpolate with "
        "path=vaejax.latent.spherical_path"
    )
    support = support_of_moves(prior, z)
    if support is not None and is_all_reals(support, shape):
        # Its vectors are known one by one, and none is told by a single dimension.
        raise ValueError(
            f"traverse: z would leave the support of its prior, {support.description}; "
            "interpolate along a path of your own."
        )
    check_latents("traverse", prior, rows, remedy)


def manifold(
    vae: VAE,
    params: Params,
    num: int,
    *,
    dimensions: tuple[int, int] | None = None,
    key: Key | None = None,
    example_point: PointEstimator = mean,
) -> Example:
    """Decode a square grid over a plane of two latent dimensions.

    Rows and columns are equally spaced quantiles of the prior's two marginals, so all
    rows hold equal prior mass, and so do all columns. Rows run from high to low in the
    second dimension, as the vertical axis of a figure does. All other dimensions stay
    at the prior's mean.

    Args:
      vae: the model.
      params: its parameters.
      num: number of cells per side, a positive integer.
      dimensions: indices of the first and the second dimension among the flattened
        latent values; required where z has not exactly two.
      key: needed where the prior is not a `Normal`, for the 10,000 draws that stand for
        it, and where `example_point` draws.
      example_point: point estimator of p(x|z).

    Returns:
      `[num, num, *x]`, the decoded examples.

    Raises:
      ValueError: `num` is not a positive integer, z has not two dimensions and none are
        chosen, or the chosen ones are not two different dimensions of z.
      TypeError: the prior is not a `Normal` and there is no key, p(x|z) has no such
        point, or z is on a sphere, a class or a count.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> vaejax.manifold(vae, params, 4).shape
      (4, 4, 3)

    Source: Kingma & Welling 2014, appendix A.
    """
    check_model(vae, params)
    check_count("num", num)
    prior = vae.prior(params)
    like_key, prior_key, x_key = (
        (None, None, key) if isinstance(prior, Normal) else split_if_given(key, 3)
    )
    like = prior.mean if isinstance(prior, Normal) else draw(like_key, prior)
    flat, unravel = ravel_pytree(values(like))
    first, second = _plane(dimensions, flat.size)
    masses = (jnp.arange(num, dtype=real_dtype(flat.dtype)) + 0.5) / num
    center, quantiles = (
        each.astype(flat.dtype) for each in _marginals(prior, prior_key, masses)
    )

    def at(row: Array, column: Array) -> PyTree:
        edited = center.at[first].set(quantiles[column, first])
        edited = edited.at[second].set(quantiles[num - 1 - row, second])
        return unravel(edited)

    rows, columns = jnp.meshgrid(jnp.arange(num), jnp.arange(num), indexing="ij")
    edited = jax.vmap(at)(rows.ravel(), columns.ravel())
    remedy = "decode draws of it, with vaejax.sample"
    check_lines("manifold", prior, values(like), remedy)
    check_latents("manifold", prior, edited, remedy)
    zs = jax.vmap(partial(complete, vae, params, like))(edited)
    xs = decode_many(vae, params, x_key, zs, example_point)
    return jax.tree.map(lambda leaf: leaf.reshape(num, num, *leaf.shape[1:]), xs)


def _plane(dimensions: tuple[int, int] | None, size: int) -> tuple[int, int]:
    """Return two different dimensions of a latent of the given size."""
    if dimensions is None and size != 2:
        raise ValueError(
            f"manifold: z has {size} dimensions; train with latent_size=2, choose two "
            "with `dimensions`, or use traverse."
        )
    first, second = (0, 1) if dimensions is None else dimensions
    if first == second or not (0 <= first < size and 0 <= second < size):
        raise ValueError(
            f"manifold: dimensions is {dimensions}; give two different ones below "
            f"{size}."
        )
    return first, second


def _marginals(
    prior: Distribution, key: Key | None, masses: Array, num_draws: int = 10_000
) -> tuple[Array, Array]:
    """Return the mean of p(z) and the quantiles of its marginals.

    They are `[dimensions]` and `[masses, dimensions]`.
    """
    if isinstance(prior, Normal):
        flat = as_real(prior.mean).ravel()
        stddev = jnp.broadcast_to(
            jnp.exp(as_real(prior.log_variance) / 2), prior.mean.shape
        ).ravel()
        standard = jax.scipy.stats.norm.ppf(masses)
        return flat, flat[None] + standard[:, None] * stddev[None]
    assert key is not None  # a prior that is drawn from has been given one
    draws = as_real(
        jax.vmap(lambda key: ravel_pytree(values(draw(key, prior)))[0])(
            jax.random.split(key, num_draws)
        )
    )
    return jnp.mean(draws, axis=0), jnp.quantile(draws, masses, axis=0)
