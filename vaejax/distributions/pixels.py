"""Distributions of 8-bit pixels: probabilities of the 256 levels.

Pixels are intensities k / 255 in [0, 1], as everywhere else; events of integers raise
TypeError.
"""

import dataclasses
import math
import numbers
from typing import ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import as_numbers, check_bounds, check_count, check_in_range
from vaejax.base import Array, Head, Key, Params, Support
from vaejax.distributions._levels import LAST, PIXELS, Levels, edges
from vaejax.distributions._shared import (
    density_dtype,
    draw_around,
    inverse_scale,
    log1mexp,
    log_softmax,
    no_parameters,
    shape_of,
)
from vaejax.distributions._tails import log_normal_cdf, log_normal_mass
from vaejax.distributions.heads import parameter_free_head, soft_clip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedLogistic(Levels):
    """Distribution of 8-bit pixels whose levels take the mass of a logistic.

    P(x = k / 255) is the mass within half a level of k / 255; the first and the last
    level take the tails. Use it for images as they are stored: it is a probability,
    whose nats convert to bits (`bits_per_dimension`), and a learned scale cannot make
    it infinite as it can a density.

    Attributes:
      location: `[*event]`, in intensities: 0 is black and 1 white.
      log_scale: `[*event]`, or a scalar; the standard deviation of the logistic is
        pi / sqrt(3) exp(log_scale).

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import DiscretizedLogistic
      >>> edge = jnp.full(1, 0.5 / 255)
      >>> pixel = DiscretizedLogistic(location=edge, log_scale=jnp.zeros(1))
      >>> round(float(pixel.log_prob(jnp.zeros(1))), 3)  # log(1/2)
      -0.693

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
        return draw_around(
            jax.random.logistic, key, self.location, self.log_scale, self._shape
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedLogisticMixture(Levels):
    """Distribution of 8-bit pixels, each a mixture of discretized logistics.

    Use it where one logistic is too simple: pixels that are either dark or bright.
    Colors are independent given z; in the paper green also depends on red, and blue on
    both.

    Attributes:
      logits: `[*event, components]`, unnormalized log-weights.
      location: `[*event, components]`, in intensities.
      log_scale: `[*event, components]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import DiscretizedLogisticMixture
      >>> edges, zeros = jnp.full((1, 5), 0.5 / 255), jnp.zeros((1, 5))
      >>> pixel = DiscretizedLogisticMixture(zeros, location=edges, log_scale=zeros)
      >>> round(float(pixel.log_prob(jnp.zeros(1))), 3)  # log(1/2)
      -0.693

    Source: Salimans et al. 2017 (PixelCNN++), section 2.1.
    """

    logits: Array
    location: Array
    log_scale: Array

    support: ClassVar[Support] = PIXELS
    _own_axes: ClassVar[int] = 1

    def _log_probs(self, event: Array) -> Array:
        components = _log_logistic_levels(
            event[..., None], self.location, self.log_scale
        )
        return jax.nn.logsumexp(log_softmax(self.logits) + components, axis=-1)

    def _real(self, key: Key) -> Array:
        component_key, noise_key = jax.random.split(key)
        logits, location, log_scale = (
            jnp.broadcast_to(leaf, shape_of(self))
            for leaf in (self.logits, self.location, self.log_scale)
        )
        logits = logits.astype(density_dtype(logits))
        component = jax.random.categorical(component_key, logits)[..., None]
        location, log_scale = (
            jnp.take_along_axis(leaf, component, axis=-1)[..., 0]
            for leaf in (location, log_scale)
        )
        return draw_around(
            jax.random.logistic, noise_key, location, log_scale, self._shape
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedNormal(Levels):
    """Distribution of 8-bit pixels whose levels take the mass of a Normal.

    P(x = k / 255) is the mass within half a level of k / 255; the first and the last
    level take the tails. Use it to compare a Gaussian decoder in bits: its density
    alone grows without bound where pixels repeat their levels.

    Attributes:
      location: `[*event]`, in intensities.
      log_variance: `[*event]`, or a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import DiscretizedNormal
      >>> edge = jnp.full(1, 0.5 / 255)
      >>> pixel = DiscretizedNormal(location=edge, log_variance=jnp.zeros(1))
      >>> round(float(pixel.log_prob(jnp.zeros(1))), 3)  # log(1/2)
      -0.693

    Source: Ho et al. 2020 (DDPM), equation 13.
    """

    location: Array
    log_variance: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = PIXELS

    def _log_probs(self, event: Array) -> Array:
        lower, upper, is_first, is_last = edges(
            event, self.location, self.log_variance / 2
        )
        width = inverse_scale(self.log_variance / 2) / LAST
        log_width = -(self.log_variance / 2 + math.log(LAST))
        between = log_normal_mass(lower, upper, width, log_width)
        tails = log_normal_cdf(jnp.where(is_first, upper, -lower))
        return jnp.where(is_first | is_last, tails, between)

    def _real(self, key: Key) -> Array:
        log_scale = self.log_variance / 2
        return draw_around(
            jax.random.normal, key, self.location, log_scale, self._shape
        )


def _log_logistic_levels(event: Array, location: Array, log_scale: Array) -> Array:
    """Return the log-mass of a logistic within half a level of each pixel."""
    lower, upper, is_first, is_last = edges(event, location, log_scale)
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for the sigmoid s: no difference is
    # taken. The ends keep one factor.
    below = jnp.where(is_last, 0, jax.nn.softplus(-upper))
    above = jnp.where(is_first, 0, jax.nn.softplus(lower))
    is_wide = log_scale > 20
    narrow = log1mexp(inverse_scale(jnp.where(is_wide, 0, log_scale)) / LAST)
    width = jnp.where(is_wide, -log_scale - math.log(LAST), narrow)
    return jnp.where(is_first | is_last, 0, width) - below - above


def discretized_logistic_head(
    *, min_log_scale: float = -10.0, max_log_scale: float = 5.0
) -> Head:
    """Build a head that makes a DiscretizedLogistic with two parameters per pixel.

    The location is 1/2 at an output of 0. The log-scale is two below its output and is
    bounded softly; below -10 all mass is on one level.

    Args:
      min_log_scale: lower bound of the log-scale.
      max_log_scale: upper bound of the log-scale, above the lower one.

    Returns:
      A head of 2 parameters: the network outputs `[*event, 2]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.discretized_logistic_head()
      >>> head.apply((), jnp.zeros((4, 4, 2))).location.shape
      (4, 4)
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return parameter_free_head(
        lambda location, log_scale: DiscretizedLogistic(
            0.5 + location, soft_clip(log_scale - 2, min_log_scale, max_log_scale)
        ),
        num_parameters=2,
    )


def discretized_logistic_mixture_head(
    num_components: int, *, min_log_scale: float = -7.0, max_log_scale: float = 5.0
) -> Head:
    """Build a head that makes a DiscretizedLogisticMixture per pixel.

    At outputs of 0 the locations of the components are spaced evenly between black and
    white, since equal components would stay equal. Their log-scales are two below the
    outputs, bounded softly.

    Args:
      num_components: the number of logistics per pixel, at least 1.
      min_log_scale: lower bound of the log-scales.
      max_log_scale: upper bound of the log-scales, above the lower one.

    Returns:
      A head of `3 * num_components` parameters: the network outputs
      `[*event, 3 * num_components]`.

    Raises:
      ValueError: the count is not a positive integer, or the bounds are not in
        increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.discretized_logistic_mixture_head(5)
      >>> head.num_parameters
      15
      >>> head.apply((), jnp.zeros((4, 4, 15))).location.shape
      (4, 4, 5)
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
    *, min_log_variance: float = -20.0, max_log_variance: float = 10.0
) -> Head:
    """Build a head that makes a DiscretizedNormal with two parameters per pixel.

    The location is 1/2 at an output of 0. The log-variance is three below its output
    and is bounded softly.

    Args:
      min_log_variance: lower bound of the log-variance.
      max_log_variance: upper bound of the log-variance, above the lower one.

    Returns:
      A head of 2 parameters: the network outputs `[*event, 2]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.discretized_normal_head()
      >>> head.apply((), jnp.zeros((4, 4, 2))).log_variance.shape
      (4, 4)
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)
    return parameter_free_head(
        lambda location, log_variance: DiscretizedNormal(
            0.5 + location,
            soft_clip(log_variance - 3, min_log_variance, max_log_variance),
        ),
        num_parameters=2,
    )


def bits_per_dimension(
    nats: Array | float, num_dimensions: int, *, level_width: float = 1.0
) -> Array | float:
    """Convert nats per example to bits per dimension of 8-bit pixels.

    nats / (num_dimensions log 2) - log2(level_width). With the default the nats are of
    a probability over the 256 levels. Of a density of dequantized data, the mass of a
    level is the density times the width of the level, averaged over it: give 1/256 for
    (x + u) / 256, which adds 8 bits, or 1/255 for (x + u - 1/2) / 255, which adds
    log2 255. The result is then an upper bound. For data that repeat their levels a
    density has no meaning in bits.

    Args:
      nats: a negative log-probability, or a negative log-density of dequantized data,
        of any shape.
      num_dimensions: the number of pixels times channels, at least 1.
      level_width: the width of a level in the units of the density, a positive number;
        1 for a probability.

    Returns:
      Bits per dimension, of the shape of `nats`.

    Raises:
      ValueError: `num_dimensions` is not a positive integer, or `level_width` is not
        positive and finite.

    Example:
      >>> import math
      >>> from vaejax.distributions import bits_per_dimension
      >>> round(bits_per_dimension(10 * math.log(256), num_dimensions=10), 3)
      8.0
      >>> bits_per_dimension(0.0, 10, level_width=1 / 256)  # uniform on [0, 1]
      8.0

    Source: Theis et al. 2016, section 3.1.
    """
    check_count("num_dimensions", num_dimensions)
    check_in_range("bits_per_dimension: level_width", level_width, 0, open_low=True)
    if not isinstance(nats, numbers.Real):
        nats = as_numbers("bits_per_dimension: nats", nats)
    return nats / (num_dimensions * math.log(2)) - math.log2(level_width)


DiscretizedLogistic.head = discretized_logistic_head()
DiscretizedNormal.head = discretized_normal_head()
