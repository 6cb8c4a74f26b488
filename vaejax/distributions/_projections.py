"""The von Mises-Fisher distribution along its mean direction mu.

Only t = mu . z is not uniform. Its density on [-1, 1] is proportional to
exp(k t) (1 - t^2)^((n - 3) / 2), with k the concentration and n the number of
coordinates of z. Here is y = 1 - t, which keeps its digits where z is close to mu: its
moments, draws, and the derivative of a draw by k.

With t = tanh(u) the density of u is exp(g(u)), g(u) = -k y - (n - 1) log cosh u, which
is analytic and falls exponentially, so that sums over equally spaced nodes converge
exponentially too.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._programs import run
from vaejax.base import Array, Key

_NUM_NODES = 201
# Half of the draws at least are accepted, so that all of a batch are by then.
_MAX_TRIES = 200


class _Center(NamedTuple):
    """The mode u of exp(g), and the width of its peak there."""

    mode: Array
    width: Array


def _center(concentration: Array, size: int) -> _Center:
    # g' = 0 where t = k / c; g'' = -(1 - t^2) (2 c - n + 1).
    m = size - 1
    c = (m + jnp.hypot(jnp.full_like(concentration, m), 2 * concentration)) / 2
    is_finite = c < jnp.inf
    c = jnp.where(is_finite, c, 1)
    t = jnp.where(is_finite, concentration / c, 1)
    width = 1 / jnp.sqrt(jnp.where(is_finite, m / c * (2 * c - m), 2 * m))
    return _Center(jnp.log1p(t) + 0.5 * jnp.log(c / m), width)


def _distance(u: Array) -> Array:
    """Return y = 1 - tanh(u)."""
    return 2 * jax.nn.sigmoid(-2 * u)


def _log_density(u: Array, concentration: Array, size: int) -> Array:
    """Return g(u)."""
    log_cosh = jnp.abs(u) + jnp.log1p(jnp.exp(-2 * jnp.abs(u))) - math.log(2)
    return -concentration * _distance(u) - (size - 1) * log_cosh


def _nodes(concentration: Array, size: int) -> tuple[Array, Array, Array]:
    """Return y and g at equally spaced nodes, and the logarithm of their spacing."""
    center = jax.lax.stop_gradient(_center(concentration, size))
    # 6.5 widths of a Normal, and tails that fall like exp(-(n - 1) u).
    half_range = 6.5 * center.width + 20 / (size - 1)
    steps = jnp.asarray(np.linspace(-1, 1, _NUM_NODES), concentration.dtype)
    u = center.mode + half_range * steps
    log_spacing = jnp.log(half_range * (2 / (_NUM_NODES - 1)))
    return _distance(u), _log_density(u, concentration, size), log_spacing


def log_mean_exp(concentration: Array, size: int) -> Array:
    """Return log E[exp(-k y)] over the uniform distribution on the sphere."""
    _, log_density, log_spacing = _nodes(concentration, size)
    # The integral at k = 0, B((n - 1) / 2, 1 / 2).
    at_zero = math.lgamma((size - 1) / 2) - math.lgamma(size / 2)
    at_zero += 0.5 * math.log(math.pi)
    return jax.nn.logsumexp(log_density) + log_spacing - at_zero


def mean_distance(concentration: Array, size: int) -> Array:
    """Return E[y], minus the derivative of `log_mean_exp`."""
    y, log_density, _ = _nodes(concentration, size)
    return jnp.sum(jax.nn.softmax(log_density) * y)


def draw_distance(key: Key, concentration: Array, size: int) -> Array:
    """Return a draw of y, with its derivative by the concentration."""
    fixed = jax.lax.stop_gradient(concentration)
    accepted = run(_accepted_distance, (size,), key, fixed)
    return _with_derivative(size, accepted, concentration)


def _accepted_distance(size: int, key: Key, concentration: Array) -> Array:
    # Wood 1994, VM*, by y: t = (1 - (1 + b) Z) / (1 - (1 - b) Z) of a beta variate Z is
    # y = 2 b G / (H + b G) of two gamma variates. They are sums of squares of Normals.
    m = size - 1
    k = concentration
    b = m / (2 * k + jnp.hypot(jnp.full_like(k, m), 2 * k))

    def attempt(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tries, _, _ = state
        noise_key, accept_key = jax.random.split(jax.random.fold_in(key, tries))
        g, h = jnp.sum(jnp.square(jax.random.normal(noise_key, (2, m), k.dtype)), 1)
        y = 2 * b * g / (h + b * g)
        y_0 = 2 * b / (1 + b)
        log_ratio = jnp.log((2 * b + (1 - b) * y) * (1 + b) / (4 * b))
        log_acceptance = -k * (y - y_0) + m * log_ratio
        log_uniform = jnp.log(jax.random.uniform(accept_key, (), k.dtype))
        # What is no number is returned as it is.
        return tries + 1, y, ~(log_uniform > log_acceptance)

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        tries, _, is_accepted = state
        return ~is_accepted & (tries < _MAX_TRIES)

    start = jnp.zeros((), jnp.uint32), jnp.zeros_like(k), jnp.zeros((), bool)
    return jax.lax.while_loop(goes_on, attempt, start)[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_derivative(size: int, distance: Array, concentration: Array) -> Array:
    del size, concentration
    return distance


@_with_derivative.defjvp
def _(
    size: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (y, k), (y_dot, k_dot) = primals, tangents
    return _with_derivative(size, y, k), y_dot + _derivative(y, k, size) * k_dot


def _derivative(y: Array, concentration: Array, size: int) -> Array:
    """Return dy/dk at a fixed value F of the cumulative distribution, -F_k / F_y.

    With the density exp(g) of u, F_k is an integral of (E[y] - y) exp(g) from u outward
    on the side away from the mode, since over all u it is 0.
    """
    center = _center(concentration, size)
    u = 0.5 * (jnp.log(2 - y) - jnp.log(y))
    side = jnp.where(u > center.mode, 1, -1).astype(y.dtype)
    # exp(x - exp(-x)) takes equally spaced x to distances, ever denser near 0.
    x = np.linspace(-3.2, 4.2, 75)
    steps = np.exp(x - np.exp(-x))
    weights = steps * (1 + np.exp(-x)) * (x[1] - x[0])
    outward = u + side * center.width * jnp.asarray(steps, y.dtype)
    fall = _log_density(outward, concentration, size)
    fall = jnp.exp(fall - _log_density(u, concentration, size))
    excess = mean_distance(concentration, size) - _distance(outward)
    integral = center.width * jnp.sum(jnp.asarray(weights, y.dtype) * excess * fall)
    return jnp.where(y > 0, -side * y * (2 - y) * integral, 0)
