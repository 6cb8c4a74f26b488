"""What the codes of a data set say: moments, KL and activity of each dimension,
quantiles, attributes, neighbors.

Codes are `[examples, dimensions]`: the latent values of each example, flattened, in the
order that `vaejax.traverse` moves them. A hierarchical latent counts by its values.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax._checks import check_count
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    Params,
    batch_size_of,
    draw,
    values,
)
from vaejax.distributions import Normal


class PosteriorMoments(NamedTuple):
    """Where q(z|x) is and how wide: an embedding with its uncertainty.

    Attributes:
      mean: `[examples, dimensions]`.
      stddev: `[examples, dimensions]`.
    """

    mean: Array
    stddev: Array


class CodeStatistics(NamedTuple):
    """What each latent dimension does over a data set.

    Attributes:
      kl: `[dimensions]`, the mean KL(q(z_j|x) || p(z_j)) in nats, of Normals with the
        two distributions' mean and variance: exact for Normal posterior and prior, else
        an approximation. Infinite for a posterior without noise.
      activity: `[dimensions]`, the variance over examples of the posterior mean (Burda
        et al. 2016, section 5.2), in squared units of z.
      mean: `[dimensions]`, of the aggregate posterior q(z) = E_x q(z|x).
      stddev: `[dimensions]`, of the aggregate posterior.
      quantiles: `[dimensions, quantiles]`, of the aggregate posterior.
      order: `[dimensions]`, the dimensions from the largest KL to the smallest; among
        equals by activity.
    """

    kl: Array
    activity: Array
    mean: Array
    stddev: Array
    quantiles: Array
    order: Array


def posterior_moments(
    vae: VAE,
    params: Params,
    key: Key,
    xs: Example,
    *,
    num_samples: int = 64,
    batch_size: int = 1000,
) -> PosteriorMoments:
    """Mean and standard deviation of q(z|x) for each of `xs`, computed in batches.

    Exact for a Normal posterior; of any other from `num_samples` draws, at least two.

    Raises:
      ValueError: `num_samples` is below two or `batch_size` below one.
    """
    check_count("batch_size", batch_size)
    _check_samples("posterior_moments", num_samples)

    def one(example: tuple[Key, Example]) -> PosteriorMoments:
        key, x = example
        return _moments(vae.encode(params, x), key, num_samples)

    return jax.lax.map(
        one, (jax.random.split(key, batch_size_of(xs)), xs), batch_size=batch_size
    )


def code_statistics(
    vae: VAE,
    params: Params,
    key: Key,
    xs: Example,
    *,
    quantiles: Array | None = None,
    num_samples: int = 64,
    batch_size: int = 1000,
) -> CodeStatistics:
    """KL, activity, moments and quantiles of each latent dimension over the examples
    `xs`, at least two.

    Args:
      vae, params: the model.
      key: of one draw an example from q(z|x), of which the quantiles are, and of the
        moments of what is no Normal.
      xs: examples, `[examples, *x]`.
      quantiles: `[quantiles]`, the masses between 0 and 1; by default 11 from 0.01 to
        0.99, for `vaejax.traverse`.
      num_samples: draws a posterior that is no Normal.
      batch_size: examples mapped together.

    Raises:
      ValueError: fewer than two examples; `num_samples` is below two.
    """
    check_count("batch_size", batch_size)
    _check_samples("code_statistics", num_samples)
    num = batch_size_of(xs)
    if num < 2:
        raise ValueError(
            f"code_statistics: there is {num} example; a variance over data needs at "
            "least two."
        )
    prior_key, xs_key = jax.random.split(key)
    prior = vae.prior(params)
    # The prior is looked at once, so that its moments may cost more.
    prior_moments = _moments(prior, prior_key, 10_000)

    def one(example: tuple[Key, Example]) -> tuple[PosteriorMoments, Array, Array]:
        key, x = example
        moments_key, draw_key = jax.random.split(key)
        posterior = vae.encode(params, x)
        moments = _moments(posterior, moments_key, num_samples)
        return (
            moments,
            _kl_of_moments(moments, prior_moments),
            _flat(draw(draw_key, posterior)),
        )

    moments, kl, draws = jax.lax.map(
        one, (jax.random.split(xs_key, num), xs), batch_size=batch_size
    )
    activity = jnp.var(moments.mean, axis=0)
    if not isinstance(
        vae.encode(params, jax.tree.map(lambda leaf: leaf[0], xs)), Normal
    ):
        # Means of few draws vary by themselves too.
        activity = jnp.maximum(
            activity - jnp.mean(jnp.square(moments.stddev), axis=0) / num_samples, 0
        )
    kl = jnp.mean(kl, axis=0)
    masses = (
        jnp.linspace(0.01, 0.99, 11) if quantiles is None else jnp.asarray(quantiles)
    )
    return CodeStatistics(
        kl=kl,
        activity=activity,
        mean=jnp.mean(draws, axis=0),
        stddev=jnp.std(draws, axis=0),
        quantiles=jnp.quantile(draws, masses.astype(draws.dtype), axis=0).T,
        order=jnp.lexsort((-activity, -kl)),
    )


def attribute_direction(codes: Array, has_attribute: Array) -> Array:
    """From the mean code of the examples without an attribute to that of those with it;
    `[dimensions]`.

    Add it with `vaejax.shift`.

    Args:
      codes: `[examples, dimensions]`.
      has_attribute: `[examples]`, booleans; both values must occur.

    Raises:
      ValueError: the lengths differ. (Where one of the values does not occur the
        direction is NaN.)

    Source: Larsen et al. 2016, section 4.2.
    """
    if has_attribute.shape != codes.shape[:1]:
        raise ValueError(
            f"attribute_direction: has_attribute has shape {has_attribute.shape} and "
            f"there are {codes.shape[0]} codes; "
            "give one boolean each."
        )
    return jnp.mean(codes, axis=0, where=has_attribute[:, None]) - jnp.mean(
        codes, axis=0, where=~has_attribute[:, None]
    )


def _flat(z: Array) -> Array:
    return ravel_pytree(values(z))[0]


def _moments(
    distribution: Distribution, key: Key, num_samples: int
) -> PosteriorMoments:
    if isinstance(distribution, Normal):
        stddev = jnp.broadcast_to(
            jnp.exp(distribution.log_variance / 2), distribution.mean.shape
        )
        return PosteriorMoments(distribution.mean.ravel(), stddev.ravel())
    draws = jax.vmap(lambda key: _flat(draw(key, distribution)))(
        jax.random.split(key, num_samples)
    )
    return PosteriorMoments(jnp.mean(draws, axis=0), jnp.std(draws, axis=0, ddof=1))


def _kl_of_moments(posterior: PosteriorMoments, prior: PosteriorMoments) -> Array:
    ratio = jnp.square(posterior.stddev / prior.stddev)
    return 0.5 * (
        jnp.square((posterior.mean - prior.mean) / prior.stddev)
        + ratio
        - 1
        - jnp.log(ratio)
    )


def _check_samples(name: str, num_samples: int) -> None:
    if num_samples < 2:
        raise ValueError(
            f"{name}: num_samples is {num_samples}; a standard deviation needs at "
            "least 2."
        )
