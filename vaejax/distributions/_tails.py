"""Logarithms of a Normal's mass below a point, and within an interval."""

import jax
import jax.numpy as jnp

from vaejax.base import Array
from vaejax.distributions._shared import log1mexp

# Standard deviations below the mean from which the series of the tail is exact.
_FAR = 10.0
# Widths in standard deviations below which a mass is the density times the width.
_NARROW = 0.1


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


def log_normal_mass(
    lower: Array, upper: Array, width: Array, log_width: Array
) -> Array:
    """Return log[Phi(upper) - Phi(lower)], where width = exp(log_width) is between.

    The width is given beside the edges, whose difference loses it.
    """
    # On the side of the smaller tail: log[Phi(high) - Phi(low)] with both below 0,
    # or around it.
    flip = lower + upper > 0
    low, high = jnp.where(flip, -upper, lower), jnp.where(flip, -lower, upper)
    is_narrow = width < _NARROW
    ratio = log_ratio_of_tails(low, high, jnp.where(is_narrow, _NARROW, width))
    wide = log_normal_cdf(high) + log1mexp(ratio)
    # Narrow ones as the density in the middle times the width, and the mean of
    # exp(-m s - s^2 / 2) over |s| < width / 2, which takes no difference.
    middle = jnp.where(is_narrow, (upper + lower) / 2, 0)
    width = jnp.where(is_narrow, width, 0)
    half = width * middle / 2
    curvature = jnp.square(width) / 8 * _mean_square_at(half)
    narrow = jax.scipy.stats.norm.logpdf(middle) + log_width
    narrow += log_sinhc(half) - curvature
    return jnp.where(is_narrow, narrow, wide)


def _mean_square_at(a: Array) -> Array:
    """Return the mean of t^2 under a density on [-1, 1] proportional to exp(a t)."""
    is_small = jnp.abs(a) < 0.3
    small, large = jnp.where(is_small, a, 0), jnp.where(is_small, 1, a)
    square = jnp.square(small)
    series = 1 / 3 + square * (2 / 45 - 4 / 945 * square)
    direct = 1 + 2 / jnp.square(large) - 2 / (large * jnp.tanh(large))
    return jnp.where(is_small, series, direct)
