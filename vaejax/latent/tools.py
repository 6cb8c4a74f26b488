"""Samples, reconstructions and embeddings of a trained VAE."""

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_batch,
    check_count,
    check_in_range,
    check_key,
    check_model,
    has,
    is_traced,
)
from vaejax._programs import run
from vaejax._reals import as_real
from vaejax._supports import check_lines, support_of_moves
from vaejax.base import (
    VAE,
    Distribution,
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
from vaejax.latent.points import PointEstimator, mean


def sample(
    vae: VAE,
    params: Params,
    key: Key,
    num: int,
    *,
    temperature: float = 1.0,
    example_point: PointEstimator = mean,
) -> Example:
    """Generate examples from the prior: z ~ p(z), then a point of p(x|z).

    Args:
      vae: the model.
      params: its parameters.
      key: decides the draws.
      num: number of examples, a positive integer.
      temperature: scales each z about the prior's mean m, to
        m + temperature (z - m); at least 0. Below 1 the examples are more typical and
        less varied; at 0 all are decoded from m. For a prior without a `mean`, such as
        a mixture or a hierarchy, m is the mean of 1,000 draws.
      example_point: point estimator of p(x|z).

    Returns:
      `[num, *x]`, the examples.

    Raises:
      ValueError: `num` is not a positive integer, or `temperature` is negative or not
        finite, or above 1 for latents with bounds.
      TypeError: p(x|z) has no such point, or a `temperature` is given for latents that
        may not be scaled: those on a sphere, classes, counts.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> vaejax.sample(vae, params, jax.random.key(1), 4).shape
      (4, 3)
    """
    check_model(vae, params)
    check_key(key)
    check_count("num", num)
    prior = vae.prior(params)
    center = None
    if not isinstance(temperature, float | int) or temperature != 1:
        check_in_range("sample: temperature", temperature, 0)
        key, center_key = jax.random.split(key)
        _check_temperature(prior, key, temperature)
        center = _center(prior, center_key)

    def cool(z: Latent) -> Latent:
        cooled = jax.tree.map(
            lambda value, middle: (
                middle + jnp.asarray(temperature, value.dtype) * (value - middle)
            ),
            values(z),
            center,
        )
        return complete(vae, params, z, cooled)

    def one(key: Key) -> Example:
        z_key, x_key = jax.random.split(key)
        z = draw(z_key, prior)
        z = z if center is None else cool(z)
        return example_point(x_key, vae.decode(params, z))

    return jax.vmap(one)(jax.random.split(key, num))


def _check_temperature(prior: Distribution, key: Key, temperature: float) -> None:
    """Raise where scaling z about a mean leaves the support of the prior."""
    z = jax.eval_shape(lambda: values(draw(key, prior)))
    check_lines("sample: temperature", prior, z, "draw at a temperature of 1")
    support = support_of_moves(prior, z)
    if support is not None and not is_traced(temperature) and temperature > 1:
        raise ValueError(
            f"sample: temperature is {temperature}, which takes z out of "
            f"{support.description}; give one of at most 1."
        )


def _center(prior: Distribution, key: Key, num: int = 1000) -> PyTree:
    if has(prior, "mean"):
        return values(prior.mean)
    draws = jax.vmap(lambda key: values(draw(key, prior)))(jax.random.split(key, num))
    return jax.tree.map(
        lambda leaf: jnp.mean(as_real(leaf), axis=0).astype(leaf.dtype), draws
    )


def reconstruct(
    vae: VAE,
    params: Params,
    key: Key,
    xs: Example,
    *,
    latent_point: PointEstimator = draw,
    example_point: PointEstimator = mean,
) -> Example:
    """Encode and decode examples: z ~ q(z|x), then a point of p(x|z).

    Args:
      vae: the model.
      params: its parameters.
      key: decides the draws; each example has its own.
      xs: examples, `[num, *x]`.
      latent_point: point estimator of q(z|x); `mean` decodes the posterior mean.
      example_point: point estimator of p(x|z).

    Returns:
      `[num, *x]`, the reconstructions.

    Raises:
      ValueError: the leaves of `xs` have not one leading axis in common.
      TypeError: a distribution has no such point.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> xs = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> vaejax.reconstruct(vae, params, jax.random.key(1), xs).shape
      (4, 3)
    """
    check_model(vae, params)
    check_key(key)
    check_batch(xs)

    def one(key: Key, x: Example) -> Example:
        z_key, x_key = jax.random.split(key)
        return example_point(
            x_key, vae.decode(params, latent_point(z_key, vae.encode(params, x)))
        )

    return jax.vmap(one)(jax.random.split(key, batch_size_of(xs)), xs)


def embed(
    vae: VAE,
    params: Params,
    xs: Example,
    *,
    batch_size: int = 1000,
    key: Key | None = None,
    latent_point: PointEstimator = mean,
) -> PyTree:
    """Return a point of q(z|x) for each example, computed in batches.

    For a hierarchical latent the result holds its values only.

    Args:
      vae: the model.
      params: its parameters.
      xs: examples, `[num, *x]`.
      batch_size: number of examples that are mapped together; it does not change the
        result.
      key: needed where `latent_point` draws; each example has its own.
      latent_point: point estimator of q(z|x).

    Returns:
      `[num, *z]`, the points.

    Raises:
      ValueError: `batch_size` is not a positive integer.
      TypeError: q(z|x) has no such point, or a draw has no key.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> xs = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> vaejax.embed(vae, params, xs).shape
      (4, 2)
    """
    check_model(vae, params)
    if key is not None:
        check_key(key)
    check_count("batch_size", batch_size)
    check_batch(xs)
    batch_size_of(xs)
    return run(_embed, (vae, batch_size, latent_point), params, xs, key)


def _embed(
    vae: VAE,
    batch_size: int,
    latent_point: PointEstimator,
    params: Params,
    xs: Example,
    key: Key | None,
) -> PyTree:
    def one(example: tuple[Key | None, Example]) -> PyTree:
        key, x = example
        return values(latent_point(key, vae.encode(params, x)))

    keys = None if key is None else jax.random.split(key, batch_size_of(xs))
    return jax.lax.map(one, (keys, xs), batch_size=batch_size)
