"""Statistics of the codes of a data set: moments, KL, activity, quantiles, attributes.

Codes are `[examples, dimensions]`: the latent values of each example, flattened, in the
order in which `traverse` moves them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax._checks import (
    as_numbers,
    check_batch,
    check_count,
    check_in_range,
    check_key,
    check_model,
)
from vaejax._programs import run
from vaejax._reals import as_real, difference, means, middle, variances
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
from vaejax.distributions import Normal, kl_divergence


class PosteriorMoments(NamedTuple):
    """Location and width of q(z|x): an embedding with its uncertainty.

    Attributes:
      mean: `[examples, dimensions]`.
      stddev: `[examples, dimensions]`, standard deviations.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import PosteriorMoments
      >>> moments = PosteriorMoments(jnp.zeros((4, 2)), stddev=jnp.ones((4, 2)))
      >>> moments.stddev.shape
      (4, 2)
    """

    mean: Array
    stddev: Array


class CodeStatistics(NamedTuple):
    """Statistics of each latent dimension over a data set.

    Attributes:
      kl: `[dimensions]`, the mean KL(q(z_j|x) || p(z_j)) in nats, of Normals with the
        mean and the variance of the two distributions: exact for Normal posterior and
        prior, an approximation for others. Infinite for a posterior without noise.
      activity: `[dimensions]`, the variance over examples of the posterior mean (Burda
        et al. 2016, section 5.2), in squared units of z.
      mean: `[dimensions]`, mean of the aggregate posterior q(z) = E_x q(z|x).
      stddev: `[dimensions]`, standard deviation of the aggregate posterior.
      quantiles: `[dimensions, quantiles]`, quantiles of the aggregate posterior.
      order: `[dimensions]`, the dimensions from the largest KL to the smallest; equal
        ones by activity. NaN comes first.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import CodeStatistics
      >>> statistics = CodeStatistics(
      ...     kl=jnp.array([0.1, 2.0]),
      ...     activity=jnp.array([0.0, 0.9]),
      ...     mean=jnp.zeros(2),
      ...     stddev=jnp.ones(2),
      ...     quantiles=jnp.zeros((2, 11)),
      ...     order=jnp.array([1, 0]),
      ... )
      >>> statistics.kl[statistics.order].round(3).tolist()[0]
      2.0
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
    """Return mean and standard deviation of q(z|x) for each example, in batches.

    They are exact for a `Normal` posterior and estimated from draws for any other.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the draws.
      xs: examples, `[examples, *x]`.
      num_samples: number of draws per example, at least two.
      batch_size: number of examples that are mapped together; it does not change the
        result.

    Returns:
      The `PosteriorMoments`.

    Raises:
      ValueError: `num_samples` is below two or `batch_size` below one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> xs = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> moments = vaejax.latent.posterior_moments(
      ...     vae, params, jax.random.key(1), xs
      ... )
      >>> moments.mean.shape, moments.stddev.shape
      ((4, 2), (4, 2))
    """
    check_model(vae, params)
    check_key(key)
    check_batch(xs)
    check_count("batch_size", batch_size)
    batch_size_of(xs)
    _check_samples("posterior_moments", num_samples)
    return run(_posterior_moments, (vae, num_samples, batch_size), params, key, xs)


def _posterior_moments(
    vae: VAE, num_samples: int, batch_size: int, params: Params, key: Key, xs: Example
) -> PosteriorMoments:
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
    """Return statistics of each latent dimension over a data set.

    They are KL, activity, moments and quantiles; see `CodeStatistics`. The moments and
    quantiles of the aggregate posterior are those of one draw of q(z|x) per example.

    Args:
      vae: the model.
      params: its parameters.
      key: decides those draws, and the draws for posteriors and priors that are not a
        `Normal`.
      xs: examples, `[examples, *x]`, at least two.
      quantiles: `[quantiles]`, probabilities between 0 and 1; by default 11 from 0.01
        to 0.99, as `traverse` takes them.
      num_samples: number of draws per example from a posterior that is not a `Normal`,
        at least two.
      batch_size: number of examples that are mapped together; it does not change the
        result.

    Returns:
      The `CodeStatistics`.

    Raises:
      ValueError: there are fewer than two examples, `num_samples` is below two,
        `batch_size` below one, or a quantile outside [0, 1].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> xs = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> statistics = vaejax.latent.code_statistics(
      ...     vae, params, jax.random.key(1), xs
      ... )
      >>> statistics.kl.shape, statistics.quantiles.shape
      ((2,), (2, 11))
    """
    check_model(vae, params)
    check_key(key)
    check_batch(xs)
    check_count("batch_size", batch_size)
    _check_samples("code_statistics", num_samples)
    if quantiles is not None:
        check_in_range("code_statistics: quantiles", quantiles, 0, 1)
    _check_examples(batch_size_of(xs))
    masses = (
        jnp.linspace(0.01, 0.99, 11) if quantiles is None else jnp.asarray(quantiles)
    )
    return run(
        _code_statistics, (vae, num_samples, batch_size), params, key, xs, masses
    )


def _code_statistics(
    vae: VAE,
    num_samples: int,
    batch_size: int,
    params: Params,
    key: Key,
    xs: Example,
    masses: Array,
) -> CodeStatistics:
    num = batch_size_of(xs)
    prior_key, xs_key = jax.random.split(key)
    # The moments of the prior are estimated once, so they may cost more.
    prior_moments = _moments(vae.prior(params), prior_key, 10_000)

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
    activity, kl = variances(moments.mean), jnp.mean(kl, axis=0)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    if not isinstance(vae.encode(params, first), Normal):
        # Means of few draws vary by themselves too.
        noise = jnp.mean(jnp.square(moments.stddev), axis=0) / num_samples
        activity = jnp.maximum(activity - noise, 0)
    return CodeStatistics(
        kl=kl,
        activity=activity,
        mean=means(draws),
        stddev=jnp.sqrt(variances(draws)),
        quantiles=jnp.quantile(draws, masses.astype(draws.dtype), axis=0).T,
        order=jnp.lexsort((_descending(activity), _descending(kl))),
    )


def attribute_direction(codes: Array, has_attribute: Array) -> Array:
    """Return the direction in latent space that adds an attribute.

    It is the mean code of the examples with the attribute minus the mean code of those
    without it. Apply it with `shift_latents`.

    Args:
      codes: `[examples, dimensions]`.
      has_attribute: `[examples]`, booleans; where one of the two values does not occur,
        the direction is NaN.

    Returns:
      `[dimensions]`, the direction.

    Raises:
      ValueError: `has_attribute` has another length than `codes`.
      TypeError: `has_attribute` is not of booleans.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import attribute_direction
      >>> codes = jnp.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
      >>> attribute_direction(codes, jnp.array([False, False, True])).tolist()
      [3.0, 0.0]

    Source: Larsen et al. 2016, "Autoencoding beyond pixels", section 4.2.
    """
    codes = jnp.asarray(as_numbers("attribute_direction: codes", codes))
    has_attribute = jnp.asarray(
        as_numbers("attribute_direction: has_attribute", has_attribute)
    )
    if codes.ndim != 2 or not codes.size:
        raise ValueError(
            f"attribute_direction: codes has shape {codes.shape}; give [examples, "
            "dimensions]."
        )
    if has_attribute.shape != codes.shape[:1]:
        raise ValueError(
            f"attribute_direction: has_attribute has shape {has_attribute.shape} and "
            f"there are {codes.shape[0]} codes; give one boolean each."
        )
    if has_attribute.dtype != bool:
        raise TypeError(
            f"attribute_direction: has_attribute is {has_attribute.dtype}; give "
            "booleans, such as labels == 3."
        )
    # From a code amid them, so that an offset costs no digits.
    centered = difference(codes, middle(codes)[None])
    return jnp.mean(centered, axis=0, where=has_attribute[:, None]) - jnp.mean(
        centered, axis=0, where=~has_attribute[:, None]
    )


def _descending(numbers: Array) -> Array:
    # NaN counts as the largest, so that a broken dimension is not the least used one.
    return jnp.where(jnp.isnan(numbers), -jnp.inf, -numbers)


def _flat(z: Array) -> Array:
    return as_real(ravel_pytree(values(z))[0])


def _moments(
    distribution: Distribution, key: Key, num_samples: int
) -> PosteriorMoments:
    if isinstance(distribution, Normal):
        stddev = jnp.broadcast_to(
            jnp.exp(as_real(distribution.log_variance) / 2), distribution.mean.shape
        )
        return PosteriorMoments(as_real(distribution.mean).ravel(), stddev.ravel())
    draws = jax.vmap(lambda key: _flat(draw(key, distribution)))(
        jax.random.split(key, num_samples)
    )
    return PosteriorMoments(means(draws), jnp.sqrt(variances(draws, ddof=1)))


def _kl_of_moments(posterior: PosteriorMoments, prior: PosteriorMoments) -> Array:
    q, p = (
        Normal(moments.mean, 2 * jnp.log(moments.stddev))
        for moments in (posterior, prior)
    )
    return jax.vmap(kl_divergence)(q, p)


def _check_examples(num: int) -> None:
    if num < 2:
        raise ValueError(
            f"code_statistics: there is {num} example; a variance over data needs at "
            "least two."
        )


def _check_samples(name: str, num_samples: int) -> None:
    check_count(f"{name}: num_samples", num_samples)
    if num_samples < 2:
        raise ValueError(
            f"{name}: num_samples is {num_samples}; a standard deviation needs at "
            "least 2."
        )
