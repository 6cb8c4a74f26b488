"""Likelihoods of 8-bit pixels: distributions over the 256 levels, and their heads.

Like those of `vaejax.distributions` they are normalized, in nats, summed over one
event. Pixels are intensities k / 255 in [0, 1], as everywhere else.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import check_bounds, check_count, check_event
from vaejax.base import Array, Head, Key, Params, Support
from vaejax.distributions._shared import (
    SampleThenLogProb,
    draw_around,
    log1mexp,
    no_parameters,
)
from vaejax.distributions.heads import parameter_free_head, soft_clip

LEVELS = 256
PIXELS = Support(
    "8-bit intensities k / 255",
    lambda x: (x >= 0) & (x <= 1) & (abs(255 * x - (255 * x + 0.5) // 1) < 1e-3),
)


class _Levels(SampleThenLogProb):
    """What distributions over the 256 levels k / 255 share; they give
    `_log_probs(event)`, `[*event]`, and `_real`.
    """

    @property
    def _shape(self) -> tuple[int, ...]:
        return jnp.shape(self.location)

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, self._shape)
        return jnp.sum(self._log_probs(event))

    def sample(self, key: Key) -> Array:
        # A level takes the mass within half a step of it, the first and the last the
        # tails.
        return jnp.clip(jnp.round(self._real(key) * (LEVELS - 1)), 0, LEVELS - 1) / (
            LEVELS - 1
        )

    @property
    def mean(self) -> Array:
        return self._over_levels(
            jnp.zeros(self._shape), lambda total, x, log_p: total + x * jnp.exp(log_p)
        )

    @property
    def mode(self) -> Array:
        def better(
            best: tuple[Array, Array], x: Array, log_p: Array
        ) -> tuple[Array, Array]:
            level, log_best = best
            return jnp.where(log_p > log_best, x, level), jnp.maximum(log_p, log_best)

        return self._over_levels(
            (jnp.zeros(self._shape), jnp.full(self._shape, -jnp.inf)), better
        )[0]

    def _over_levels(self, start, combine: Callable):
        # One level at a time: all at once would take 256 times an image.
        def body(carry, level: Array):
            x = jnp.full(self._shape, level / (LEVELS - 1))
            return combine(carry, x, self._log_probs(x)), None

        return jax.lax.scan(body, start, jnp.arange(LEVELS, dtype=jnp.float32))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedLogistic(_Levels):
    """8-bit pixels: P(x = k / 255) is the mass of a logistic within half a level of it;
    the ends take the tails.

    Use it for images as they are stored: probabilities, so that nats are bits a
    dimension in disguise (`bits_per_dimension`), and a scale that is learned cannot
    make them infinite.

    Attributes:
      location: `[*event]`, in intensities: 0 is black and 1 white.
      log_scale: `[*event]`, or a scalar; the logistic's standard deviation is pi /
        sqrt(3) exp(log_scale).

    Source: Kingma et al. 2016 (inverse autoregressive flow); with tails at the ends
    Salimans et al. 2017, section 2.1.
    """

    location: Array
    log_scale: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = PIXELS

    def _log_probs(self, event: Array) -> Array:
        return _log_logistic_levels(event, self.location, self.log_scale)

    def _real(self, key: Key) -> Array:
        return draw_around(jax.random.logistic, key, self.location, self.log_scale)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedLogisticMixture(_Levels):
    """8-bit pixels, each an independent mixture of discretized logistics.

    Use it where one logistic is too simple: pixels that are either dark or bright.
    Colors are independent given z; the published one also makes green depend on red,
    and blue on both.

    Attributes:
      logits: `[*event, components]`, unnormalized log-weights.
      location: `[*event, components]`, in intensities.
      log_scale: `[*event, components]`.

    Source: Salimans et al. 2017 (PixelCNN++), section 2.1.
    """

    logits: Array
    location: Array
    log_scale: Array

    support: ClassVar[Support] = PIXELS

    @property
    def _shape(self) -> tuple[int, ...]:
        return jnp.shape(self.location)[:-1]

    def _log_probs(self, event: Array) -> Array:
        components = _log_logistic_levels(
            event[..., None], self.location, self.log_scale
        )
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + components, axis=-1)

    def _real(self, key: Key) -> Array:
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, self.logits)[..., None]
        location, log_scale = (
            jnp.take_along_axis(leaf, component, axis=-1)[..., 0]
            for leaf in (self.location, self.log_scale)
        )
        return draw_around(jax.random.logistic, noise_key, location, log_scale)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedNormal(_Levels):
    """8-bit pixels: P(x = k / 255) is the mass of a Normal within half a level of it;
    the ends take the tails.

    Use it to say in bits what a Gaussian decoder is worth, whose density can be had as
    high as one likes where pixels repeat.

    Attributes:
      location: `[*event]`, in intensities.
      log_variance: `[*event]`, or a scalar.
    """

    location: Array
    log_variance: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = PIXELS

    def _log_probs(self, event: Array) -> Array:
        lower, upper, is_first, is_last = _edges(
            event, self.location, jnp.exp(-self.log_variance / 2)
        )
        # On the side of the smaller tail: log[Phi(high) - Phi(low)] with both below 0,
        # or around it.
        flip = lower + upper > 0
        low, high = jnp.where(flip, -upper, lower), jnp.where(flip, -lower, upper)
        log_high = jax.scipy.stats.norm.logcdf(high)
        ratio = jnp.maximum(log_high - jax.scipy.stats.norm.logcdf(low), 1e-30)
        # Narrow ones as the density in the middle times the width and sinh(a) / a,
        # which takes no difference.
        width, middle = upper - lower, (upper + lower) / 2
        density = (
            jax.scipy.stats.norm.logpdf(middle)
            + jnp.log(width)
            + _log_sinhc(width * middle / 2)
        )
        between = jnp.where(width < 0.02, density, log_high + log1mexp(ratio))
        tails = jax.scipy.stats.norm.logcdf(jnp.where(is_first, upper, -lower))
        return jnp.where(is_first | is_last, tails, between)

    def _real(self, key: Key) -> Array:
        return draw_around(jax.random.normal, key, self.location, self.log_variance / 2)


def _edges(
    event: Array, location: Array, inverse_scale: Array
) -> tuple[Array, Array, Array, Array]:
    """Both edges of each level's interval in units of the scale, and whether it is the
    first or the last level.
    """
    half = 0.5 / (LEVELS - 1)
    lower, upper = ((event + side - location) * inverse_scale for side in (-half, half))
    return lower, upper, event < half, event > 1 - half


def _log_sinhc(x: Array) -> Array:
    """log(sinh(x) / x)."""
    size = jnp.maximum(jnp.abs(x), 0.01)
    return jnp.where(
        jnp.abs(x) < 0.01,
        jnp.square(x) / 6,
        size + log1mexp(2 * size) - jnp.log(2 * size),
    )


def _log_logistic_levels(event: Array, location: Array, log_scale: Array) -> Array:
    inverse_scale = jnp.exp(-log_scale)
    lower, upper, is_first, is_last = _edges(event, location, inverse_scale)
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for the sigmoid s: no difference is
    # taken. The ends keep one factor.
    below = jnp.where(is_last, 0, jax.nn.softplus(-upper))
    above = jnp.where(is_first, 0, jax.nn.softplus(lower))
    width = jnp.where(is_first | is_last, 0, log1mexp(inverse_scale / (LEVELS - 1)))
    return width - below - above


def discretized_logistic_head(
    min_log_scale: float = -10.0, max_log_scale: float = 5.0
) -> Head:
    """DiscretizedLogistic for each pixel; the network puts out `[*event, 2]`.

    The location is 1/2 at an output of 0. The log-scale starts two below 0 and is
    bounded softly; below -10 all mass is on one level.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return parameter_free_head(
        lambda location, log_scale: DiscretizedLogistic(
            0.5 + location, soft_clip(log_scale - 2, min_log_scale, max_log_scale)
        ),
        num_parameters=2,
    )


def discretized_logistic_mixture_head(
    num_components: int, min_log_scale: float = -7.0, max_log_scale: float = 5.0
) -> Head:
    """DiscretizedLogisticMixture for each pixel; the network puts out `[*event, 3 *
    num_components]`.

    The components' locations start evenly between black and white, since equal ones
    would stay equal; their log-scales two below 0, bounded softly.
    """
    check_count("num_components", num_components)
    check_bounds("log_scale", min_log_scale, max_log_scale)

    def apply(params: Params, outputs: Array) -> DiscretizedLogisticMixture:
        del params
        logits, location, log_scale = jnp.split(outputs, 3, axis=-1)
        spread = (
            jnp.arange(num_components, dtype=outputs.dtype) + 0.5
        ) / num_components
        spread = jnp.broadcast_to(spread, jnp.shape(location))
        log_scale = soft_clip(log_scale - 2, min_log_scale, max_log_scale)
        return DiscretizedLogisticMixture(logits, spread + location, log_scale)

    return Head(3 * num_components, no_parameters, apply)


def discretized_normal_head(
    min_log_variance: float = -20.0, max_log_variance: float = 10.0
) -> Head:
    """DiscretizedNormal for each pixel, its location 1/2 at an output of 0; the network
    puts out `[*event, 2]`.
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)
    return parameter_free_head(
        lambda location, log_variance: DiscretizedNormal(
            0.5 + location,
            soft_clip(log_variance - 3, min_log_variance, max_log_variance),
        ),
        num_parameters=2,
    )


def bits_per_dimension(nats: Array | float, num_dimensions: int) -> Array | float:
    """nats / (num_dimensions log 2), of a probability over 8-bit pixels; of a density
    in [0, 1], add log2 255 bits.

    The latter holds for dequantized data, as a bound; for data that repeat their levels
    a density means nothing in bits.
    """
    check_count("num_dimensions", num_dimensions)
    return nats / (num_dimensions * math.log(2))


DiscretizedLogistic.head = discretized_logistic_head()
DiscretizedNormal.head = discretized_normal_head()
