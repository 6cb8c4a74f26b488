"""Parts that several distributions share."""

import math
from collections.abc import Callable

import jax.numpy as jnp

from vaejax.base import Array, Key, Params


class SampleThenLogProb:
    """Gives a distribution its `sample_and_log_prob` where nothing is gained by
    computing the two together.
    """

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        event = self.sample(key)
        return event, self.log_prob(event)


def no_parameters(key: Key) -> Params:
    """The `init` of a head without parameters of its own."""
    del key
    return ()


def draw_around(
    draw: Callable[..., Array], key: Key, location: Array, log_scale: Array
) -> Array:
    """location + exp(log_scale) * noise, the noise by `draw(key, shape=..., dtype=...)`
    of `jax.random`.
    """
    noise = draw(key, shape=jnp.shape(location), dtype=jnp.result_type(location))
    return location + jnp.exp(log_scale) * noise


def log1mexp(x: Array) -> Array:
    """log(1 - exp(-x)) for x > 0, exact near 0 and far from it. Source: Mächler 2012,
    equation 7.
    """
    # Each branch gets an argument of its own side, since the gradient of the one not
    # taken must be finite too.
    is_small = x < math.log(2)
    small, large = jnp.where(is_small, x, 1.0), jnp.where(is_small, 1.0, x)
    return jnp.where(is_small, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))


def stirling_rest(x: Array) -> Array:
    """What Stirling's formula leaves over of log Gamma, for large x."""
    return 1 / (12 * x) - 1 / (360 * x**3)
