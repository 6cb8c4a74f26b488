"""The logarithm of the Normal distribution function, also far in its tail."""

import jax
import jax.numpy as jnp

from vaejax.base import Array
from vaejax.distributions._shared import log1mexp

# Standard deviations below the mean from which the series of the tail is exact.
_FAR = 10.0


@jax.custom_jvp
def log_normal_cdf(x: Array) -> Array:
    """Return log Phi(x)."""
    return jax.scipy.special.log_ndtr(x)


@log_normal_cdf.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # phi(x) / Phi(x); in the far tail the two logarithms are equal to all digits.
    (x,), (x_dot,) = primals, tangents
    is_far = x < -_FAR
    near, far = jnp.where(is_far, 0, x), jnp.where(is_far, x, -_FAR)
    log_density = jax.scipy.stats.norm.logpdf(near)
    ratio = jnp.exp(log_density - log_normal_cdf(near))
    ratio = jnp.where(is_far, -far / _mills_series(far), ratio)
    return log_normal_cdf(x), ratio * x_dot


def _mills_series(x: Array) -> Array:
    """Return -x Phi(x) / phi(x) for x far below 0: 1 - 1 / x^2 + 3 / x^4 - ..."""
    y = 1 / jnp.square(x)
    return 1 - y * (1 - 3 * y * (1 - 5 * y * (1 - 7 * y * (1 - 9 * y * (1 - 11 * y)))))


def log_ratio_of_tails(low: Array, high: Array, width: Array) -> Array:
    """Return log Phi(high) - log Phi(low), where high = low + width <= -low."""
    is_far = high < -_FAR
    direct = log_normal_cdf(jnp.where(is_far, -1, high)) - log_normal_cdf(
        jnp.where(is_far, -2, low)
    )
    # (low^2 - high^2) / 2 first, since the two logarithms lose it.
    low, high = jnp.where(is_far, low, -2 * _FAR), jnp.where(is_far, high, -_FAR)
    corrections = _mills_series(high) / _mills_series(low) * (low / high)
    series = width * -(low + high) / 2 + jnp.log(corrections)
    ratio = jnp.where(is_far, series, direct)
    return jnp.where(ratio > 1e-30, ratio, 1e-30)


def log_sinhc(x: Array) -> Array:
    """Return log(sinh(x) / x)."""
    is_small = jnp.abs(x) < 0.01
    small, size = jnp.where(is_small, x, 0), jnp.where(is_small, 1, jnp.abs(x))
    return jnp.where(
        is_small,
        jnp.square(small) / 6,
        size + log1mexp(2 * size) - jnp.log(2 * size),
    )
