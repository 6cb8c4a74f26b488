"""More likelihoods: for intensities, for real values with outliers, for 8-bit pixels, for counts; and their heads.

Like those of `vaejax.distributions` they are normalised, in nats, summed over one event. `HEADS` is the table of all.
Pixels are intensities k / 255 in [0, 1], as everywhere else, also where the distribution is over the 256 levels.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from vaejax.base import Array, Distribution, Head, Key, Params, Support, check_count
from vaejax.distributions import (
    REAL,
    Bernoulli,
    SampleThenLogProb,
    as_head,
    check_bounds,
    check_event,
    draw_around,
    fixed_variance_normal_head,
    log1mexp,
    no_parameters,
    normal_head,
    shared_variance_normal_head,
    simple_head,
    soft_bounds,
)

LEVELS = 256
INTENSITIES = Support("values in [0, 1]", lambda x: (x >= 0) & (x <= 1))
PIXELS = Support(
    "8-bit intensities k / 255", lambda x: (x >= 0) & (x <= 1) & (abs(255 * x - (255 * x + 0.5) // 1) < 1e-3)
)
COUNTS = Support("counts 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContinuousBernoulli(SampleThenLogProb):
    """A density on [0, 1]: log p(x) = sum_i [l_i x_i - log((exp(l_i) - 1) / l_i)].

    Use it for intensities that are not binary, where the cross-entropy would be no density. Its density is highest at
    one of the ends: few grey values are generated.

    Attributes:
      logits: `[*event]`, l = log lambda / (1 - lambda).

    Source: Loaiza-Ganem & Cunningham 2019, equations 4 and 5, with C(lambda) written in terms of l.
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = INTENSITIES

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits))
        return jnp.sum(self.logits * event - self._log_normaliser())

    def sample(self, key: Key) -> Array:
        # By the inverse of the cumulative distribution function, from the decreasing side, where it cannot overflow.
        steepness = jnp.abs(self.logits)
        uniform = jax.random.uniform(key, jnp.shape(self.logits), jnp.result_type(self.logits))
        safe = jnp.maximum(steepness, 1e-4)
        decreasing = jnp.where(steepness < 1e-4, uniform, -jnp.log1p(uniform * jnp.expm1(-safe)) / safe)
        return jnp.clip(jnp.where(self.logits > 0, 1 - decreasing, decreasing), 0, 1)

    @property
    def mean(self) -> Array:
        """The derivative of the log-normaliser: 1 / (1 - exp(-l)) - 1 / l."""
        small, near_zero, safe = self._around_zero()
        series = 0.5 + small / 12 - small**3 / 720 + small**5 / 30240
        steepness = jnp.abs(safe)
        decreasing = 1 / steepness - jnp.exp(-steepness) / -jnp.expm1(-steepness)
        return jnp.where(near_zero, series, jnp.where(safe > 0, 1 - decreasing, decreasing))

    @property
    def mode(self) -> Array:
        return (self.logits > 0).astype(self.logits.dtype)

    def _log_normaliser(self) -> Array:
        # log((exp(l) - 1) / l) = max(l, 0) + log((1 - exp(-|l|)) / |l|); around 0, where that is 0 / 0, its series.
        small, near_zero, safe = self._around_zero()
        series = small / 2 + small**2 / 24 - small**4 / 2880 + small**6 / 181440
        steepness = jnp.abs(safe)
        return jnp.where(near_zero, series, jnp.maximum(safe, 0) + log1mexp(steepness) - jnp.log(steepness))

    def _around_zero(self) -> tuple[Array, Array, Array]:
        """The logits where they are small (0 elsewhere), where that is, and the logits where they are not (1 there)."""
        near_zero = jnp.abs(self.logits) < 0.5
        return jnp.where(near_zero, self.logits, 0), near_zero, jnp.where(near_zero, 1, self.logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laplace(SampleThenLogProb):
    """log p(x) = -sum_i [log 2 + log_scale_i + |x_i - mean_i| / exp(log_scale_i)].

    Use it where errors are sparse: the loss is the absolute error, whose best mean is the median.

    Attributes:
      mean: `[*event]`.
      log_scale: `[*event]`, or a scalar; the variance is 2 exp(2 log_scale).
    """

    mean: Array
    log_scale: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.mean))
        return -jnp.sum(math.log(2) + self.log_scale + jnp.abs(event - self.mean) * jnp.exp(-self.log_scale))

    def sample(self, key: Key) -> Array:
        return draw_around(jax.random.laplace, key, self.mean, self.log_scale)

    @property
    def mode(self) -> Array:
        return self.mean


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StudentT(SampleThenLogProb):
    """Student's t with location, scale and degrees of freedom nu: p(x_i) ~ (1 + t_i^2 / nu)^(-(nu + 1) / 2).

    t_i = (x_i - location_i) / exp(log_scale_i). Use it for real values with outliers, or to learn a variance safely:
    its tails forgive a scale that is too small (Takahashi et al. 2018, equation 9).

    Attributes:
      location: `[*event]`.
      log_scale: `[*event]`, or a scalar.
      log_degrees_of_freedom: likewise. There is a mean only above one degree of freedom, a variance only above two.
    """

    location: Array
    log_scale: Array
    log_degrees_of_freedom: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.location))
        nu = jnp.exp(self.log_degrees_of_freedom)
        # log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2
        constant = _log_rising(nu / 2, 0.5) - 0.5 * (self.log_degrees_of_freedom + math.log(math.pi))
        t = (event - self.location) * jnp.exp(-self.log_scale)
        return jnp.sum(constant - self.log_scale - (nu + 1) / 2 * jnp.log1p(jnp.square(t) / nu))

    def sample(self, key: Key) -> Array:
        nu = jnp.broadcast_to(jnp.exp(self.log_degrees_of_freedom), jnp.shape(self.location))
        return draw_around(partial(jax.random.t, df=nu), key, self.location, self.log_scale)

    @property
    def mean(self) -> Array:
        """The location; NaN where there is no mean."""
        return jnp.where(self.log_degrees_of_freedom > 0, self.location, jnp.nan)

    @property
    def mode(self) -> Array:
        return self.location


class _Levels(SampleThenLogProb):
    """What distributions over the 256 levels k / 255 share; they give `_log_probs(event)`, `[*event]`, and `_real`."""

    @property
    def _shape(self) -> tuple[int, ...]:
        return jnp.shape(self.location)

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, self._shape)
        return jnp.sum(self._log_probs(event))

    def sample(self, key: Key) -> Array:
        # A level takes the mass within half a step of it, the first and the last the tails.
        return jnp.clip(jnp.round(self._real(key) * (LEVELS - 1)), 0, LEVELS - 1) / (LEVELS - 1)

    @property
    def mean(self) -> Array:
        return self._over_levels(jnp.zeros(self._shape), lambda total, x, log_p: total + x * jnp.exp(log_p))

    @property
    def mode(self) -> Array:
        def better(best: tuple[Array, Array], x: Array, log_p: Array) -> tuple[Array, Array]:
            level, log_best = best
            return jnp.where(log_p > log_best, x, level), jnp.maximum(log_p, log_best)

        return self._over_levels((jnp.zeros(self._shape), jnp.full(self._shape, -jnp.inf)), better)[0]

    def _over_levels(self, start, combine: Callable):
        # One level at a time: all at once would take 256 times an image.
        def body(carry, level: Array):
            x = jnp.full(self._shape, level / (LEVELS - 1))
            return combine(carry, x, self._log_probs(x)), None

        return jax.lax.scan(body, start, jnp.arange(LEVELS, dtype=jnp.float32))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedLogistic(_Levels):
    """8-bit pixels: P(x = k / 255) is the mass of a logistic within half a level of it; the ends take the tails.

    Use it for images as they are stored: probabilities, so that nats are bits a dimension in disguise
    (`bits_per_dimension`), and a scale that is learned cannot make them infinite.

    Attributes:
      location: `[*event]`, in intensities: 0 is black and 1 white.
      log_scale: `[*event]`, or a scalar; the logistic's standard deviation is pi / sqrt(3) exp(log_scale).

    Source: Kingma et al. 2016 (inverse autoregressive flow); with tails at the ends Salimans et al. 2017, section 2.1.
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
    """8-bit pixels, each an independent mixture of discretised logistics.

    Use it where one logistic is too simple: pixels that are either dark or bright. Colours are independent given z;
    the published one also makes green depend on red, and blue on both.

    Attributes:
      logits: `[*event, components]`, unnormalised log-weights.
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
        components = _log_logistic_levels(event[..., None], self.location, self.log_scale)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + components, axis=-1)

    def _real(self, key: Key) -> Array:
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, self.logits)[..., None]
        location, log_scale = (
            jnp.take_along_axis(leaf, component, axis=-1)[..., 0] for leaf in (self.location, self.log_scale)
        )
        return draw_around(jax.random.logistic, noise_key, location, log_scale)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscretizedNormal(_Levels):
    """8-bit pixels: P(x = k / 255) is the mass of a Normal within half a level of it; the ends take the tails.

    Use it to say in bits what a Gaussian decoder is worth, whose density can be had as high as one likes where pixels
    repeat.

    Attributes:
      location: `[*event]`, in intensities.
      log_variance: `[*event]`, or a scalar.
    """

    location: Array
    log_variance: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = PIXELS

    def _log_probs(self, event: Array) -> Array:
        lower, upper, is_first, is_last = _edges(event, self.location, jnp.exp(-self.log_variance / 2))
        # On the side of the smaller tail: log[Phi(high) - Phi(low)] with both below 0, or around it.
        flip = lower + upper > 0
        low, high = jnp.where(flip, -upper, lower), jnp.where(flip, -lower, upper)
        log_high = jax.scipy.stats.norm.logcdf(high)
        ratio = jnp.maximum(log_high - jax.scipy.stats.norm.logcdf(low), 1e-30)
        # Narrow ones as the density in the middle times the width and sinh(a) / a, which takes no difference.
        width, middle = upper - lower, (upper + lower) / 2
        density = jax.scipy.stats.norm.logpdf(middle) + jnp.log(width) + _log_sinhc(width * middle / 2)
        between = jnp.where(width < 0.02, density, log_high + log1mexp(ratio))
        tails = jax.scipy.stats.norm.logcdf(jnp.where(is_first, upper, -lower))
        return jnp.where(is_first | is_last, tails, between)

    def _real(self, key: Key) -> Array:
        return draw_around(jax.random.normal, key, self.location, self.log_variance / 2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Poisson(SampleThenLogProb):
    """Counts: log p(x) = sum_i [x_i log_rate_i - exp(log_rate_i) - log x_i!].

    Use it for counts whose variance is about their mean; `NegativeBinomial` where it is larger.

    Attributes:
      log_rate: `[*event]`.
    """

    log_rate: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = COUNTS

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.log_rate))
        event = jnp.asarray(event).astype(self.log_rate.dtype)
        some = jnp.maximum(event, 1)
        # Around the mode the terms are far larger than their sum, so that they are taken as a distance from it.
        log_p = (
            -_stirling_error(some) - _deviance(some, self.log_rate - jnp.log(some)) - 0.5 * jnp.log(2 * math.pi * some)
        )
        return jnp.sum(jnp.where(event > 0, log_p, -jnp.exp(self.log_rate)))

    def sample(self, key: Key) -> Array:
        return jax.random.poisson(key, jnp.exp(self.log_rate)).astype(self.log_rate.dtype)

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_rate)

    @property
    def mode(self) -> Array:
        return jnp.floor(jnp.exp(self.log_rate))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NegativeBinomial(SampleThenLogProb):
    """Counts that vary more than a Poisson's: mean m, variance m + m^2 / r with concentration r.

    log p(x) = sum_i [log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + m)) + x log(m / (r + m))]; the Poisson
    is its limit for large r. Use it for counts of events that cluster, such as those of words or of sequenced genes.

    Attributes:
      log_mean: `[*event]`.
      log_concentration: `[*event]`, or a scalar.

    Source: Lopez et al. 2018 (scVI), online methods; computed after Loader 2000.
    """

    log_mean: Array
    log_concentration: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = COUNTS

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.log_mean))
        event = jnp.asarray(event).astype(self.log_mean.dtype)
        log_r = jnp.broadcast_to(self.log_concentration, jnp.shape(self.log_mean))
        mean, r, some = jnp.exp(self.log_mean), jnp.exp(log_r), jnp.maximum(event, 1)
        # r / (r + x) times a binomial of r among r + x, which is taken as a distance from its mode as in the Poisson.
        log_ratio = jnp.log1p((some - mean) / (r + mean))
        distance = _deviance(r, log_ratio) + _deviance(some, log_ratio + self.log_mean - jnp.log(some))
        errors = _stirling_error(r + some) - _stirling_error(r) - _stirling_error(some)
        log_p = 0.5 * (log_r - jnp.log(r + some) - jnp.log(2 * math.pi * some)) + errors - distance
        none = r * jax.nn.softplus(self.log_mean - log_r)
        return jnp.sum(jnp.where(event > 0, log_p, -none))

    def sample(self, key: Key) -> Array:
        rate_key, count_key = jax.random.split(key)
        shape, dtype = jnp.shape(self.log_mean), self.log_mean.dtype
        concentration = jnp.broadcast_to(jnp.exp(self.log_concentration), shape)
        log_gamma = jax.random.loggamma(rate_key, concentration, shape, dtype)
        rate = jnp.exp(self.log_mean - self.log_concentration + log_gamma)
        return jax.random.poisson(count_key, rate).astype(dtype)

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_mean)

    @property
    def mode(self) -> Array:
        return jnp.floor(jnp.exp(self.log_mean) * jnp.maximum(1 - jnp.exp(-self.log_concentration), 0))


def _edges(event: Array, location: Array, inverse_scale: Array) -> tuple[Array, Array, Array, Array]:
    """Both edges of each level's interval in units of the scale, and whether it is the first or the last level."""
    half = 0.5 / (LEVELS - 1)
    lower, upper = ((event + side - location) * inverse_scale for side in (-half, half))
    return lower, upper, event < half, event > 1 - half


def _log_sinhc(x: Array) -> Array:
    """log(sinh(x) / x)."""
    size = jnp.maximum(jnp.abs(x), 0.01)
    return jnp.where(jnp.abs(x) < 0.01, jnp.square(x) / 6, size + log1mexp(2 * size) - jnp.log(2 * size))


def _log_logistic_levels(event: Array, location: Array, log_scale: Array) -> Array:
    inverse_scale = jnp.exp(-log_scale)
    lower, upper, is_first, is_last = _edges(event, location, inverse_scale)
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for the sigmoid s: no difference is taken. The ends keep one factor.
    below = jnp.where(is_last, 0, jax.nn.softplus(-upper))
    above = jnp.where(is_first, 0, jax.nn.softplus(lower))
    width = jnp.where(is_first | is_last, 0, log1mexp(inverse_scale / (LEVELS - 1)))
    return width - below - above


def _log_rising(a: Array, b: float) -> Array:
    """log Gamma(a + b) - log Gamma(a), whose terms cancel where a is large."""
    # Stirling's series of both, with their difference taken by hand: (a + b - 1/2) log(1 + b / a) - b + b log a + ...
    large, small = jnp.maximum(a, 10), jnp.minimum(a, 10)
    series = (large + b - 0.5) * jnp.log1p(b / large) - b + b * jnp.log(large)
    series += _stirling_rest(large + b) - _stirling_rest(large)
    return jnp.where(a > 10, series, gammaln(small + b) - gammaln(small))


def _stirling_error(x: Array) -> Array:
    """log Gamma(x + 1) less Stirling's (x + 1/2) log x - x + log(2 pi) / 2, for x > 0."""
    small = jnp.minimum(x, 10)
    direct = gammaln(small + 1) - (small + 0.5) * jnp.log(small) + small - 0.5 * math.log(2 * math.pi)
    return jnp.where(x > 10, _stirling_rest(jnp.maximum(x, 10)), direct)


def _stirling_rest(x: Array) -> Array:
    return 1 / (12 * x) - 1 / (360 * x**3)


def _deviance(x: Array, log_ratio: Array) -> Array:
    """x log(x / m) + m - x, from log(m / x): how far m is from x."""
    return x * (jnp.expm1(log_ratio) - log_ratio)


def laplace_head(min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """Laplace with a mean and a log-scale for each dimension, bounded softly; the network puts out `[*event, 2]`."""
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return simple_head(
        lambda mean, log_scale: Laplace(mean, soft_bounds(log_scale, min_log_scale, max_log_scale)), num_parameters=2
    )


def student_t_head(min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """StudentT with location, log-scale and degrees of freedom for each dimension: the network puts out `[*event, 3]`.

    The log-scale is bounded softly, and the degrees of freedom between 1 and 1,000, so that there is a mean.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)

    def make(location: Array, log_scale: Array, log_degrees: Array) -> StudentT:
        log_scale = soft_bounds(log_scale, min_log_scale, max_log_scale)
        # Starts at exp(2), about seven degrees.
        return StudentT(location, log_scale, soft_bounds(log_degrees + 2, 0.0, math.log(1000)))

    return simple_head(make, num_parameters=3)


def discretized_logistic_head(min_log_scale: float = -10.0, max_log_scale: float = 5.0) -> Head:
    """DiscretizedLogistic for each pixel; the network puts out `[*event, 2]`.

    The location is 1/2 at an output of 0. The log-scale starts two below 0 and is bounded softly; below -10 all mass is
    on one level.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return simple_head(
        lambda location, log_scale: DiscretizedLogistic(
            0.5 + location, soft_bounds(log_scale - 2, min_log_scale, max_log_scale)
        ),
        num_parameters=2,
    )


def discretized_logistic_mixture_head(
    num_components: int, min_log_scale: float = -7.0, max_log_scale: float = 5.0
) -> Head:
    """DiscretizedLogisticMixture for each pixel; the network puts out `[*event, 3 * num_components]`.

    The components' locations start evenly between black and white, since equal ones would stay equal; their log-scales
    two below 0, bounded softly.
    """
    check_count("num_components", num_components)
    check_bounds("log_scale", min_log_scale, max_log_scale)

    def apply(params: Params, outputs: Array) -> DiscretizedLogisticMixture:
        del params
        logits, location, log_scale = jnp.split(outputs, 3, axis=-1)
        spread = (jnp.arange(num_components, dtype=outputs.dtype) + 0.5) / num_components
        spread = jnp.broadcast_to(spread, jnp.shape(location))
        log_scale = soft_bounds(log_scale - 2, min_log_scale, max_log_scale)
        return DiscretizedLogisticMixture(logits, spread + location, log_scale)

    return Head(3 * num_components, no_parameters, apply)


def discretized_normal_head(min_log_variance: float = -20.0, max_log_variance: float = 10.0) -> Head:
    """DiscretizedNormal for each pixel, its location 1/2 at an output of 0; the network puts out `[*event, 2]`."""
    check_bounds("log_variance", min_log_variance, max_log_variance)
    return simple_head(
        lambda location, log_variance: DiscretizedNormal(
            0.5 + location, soft_bounds(log_variance - 3, min_log_variance, max_log_variance)
        ),
        num_parameters=2,
    )


def poisson_head(min_log_rate: float = -15.0, max_log_rate: float = 15.0) -> Head:
    """Poisson with a log-rate for each dimension, bounded softly; the network puts out `[*event]`."""
    check_bounds("log_rate", min_log_rate, max_log_rate)
    return simple_head(lambda outputs: Poisson(soft_bounds(outputs, min_log_rate, max_log_rate)))


def negative_binomial_head(min_log_mean: float = -15.0, max_log_mean: float = 15.0) -> Head:
    """NegativeBinomial with log-mean and log-concentration for each dimension; the network puts out `[*event, 2]`.

    Both are bounded softly, the log-concentration between -10 and 10.
    """
    check_bounds("log_mean", min_log_mean, max_log_mean)
    return simple_head(
        lambda log_mean, log_concentration: NegativeBinomial(
            soft_bounds(log_mean, min_log_mean, max_log_mean), soft_bounds(log_concentration, -10.0, 10.0)
        ),
        num_parameters=2,
    )


def with_initial_outputs(likelihood: Head | type, outputs: Array) -> Head:
    """The likelihood whose head adds a learned bias to what the network puts out, starting at `outputs`.

    A network that starts near zero then starts at the data: at their log-odds for a Bernoulli,
    `jax.scipy.special.logit(jnp.clip(mean, 0.001, 0.999))` (Burda et al. 2016 start there), at their mean for a Normal.

    Args:
      likelihood: a `Head`, or a distribution class that carries one.
      outputs: what the network ought to put out at first: `[*event]`, or `[*event, num_parameters]`.
    """
    head = as_head(likelihood)

    def init(key: Key) -> Params:
        return {"head": head.init(key), "bias": jnp.asarray(outputs, jnp.float32)}

    def apply(params: Params, from_network: Array) -> Distribution:
        if from_network.shape != params["bias"].shape:
            raise ValueError(
                f"with_initial_outputs: the network puts out {from_network.shape} and `outputs` has shape "
                f"{params['bias'].shape}; give them the same."
            )
        return head.apply(params["head"], from_network + params["bias"])

    return Head(head.num_parameters, init, apply)


def bits_per_dimension(nats: Array | float, num_dimensions: int) -> Array | float:
    """nats / (num_dimensions log 2), of a probability over 8-bit pixels; of a density in [0, 1], add log2 255 bits.

    The latter holds for dequantised data, as a bound; for data that repeat their levels a density means nothing in
    bits.
    """
    check_count("num_dimensions", num_dimensions)
    return nats / (num_dimensions * math.log(2))


def support_of(likelihood: Head | type) -> Support:
    """Where the distribution that a head makes has any mass."""
    head = as_head(likelihood)
    outputs = jnp.zeros(1 if head.num_parameters == 1 else (1, head.num_parameters))
    return head.apply(head.init(jax.random.key(0)), outputs).support


ContinuousBernoulli.head = simple_head(ContinuousBernoulli)
Laplace.head = laplace_head()
StudentT.head = student_t_head()
DiscretizedLogistic.head = discretized_logistic_head()
DiscretizedNormal.head = discretized_normal_head()
Poisson.head = poisson_head()
NegativeBinomial.head = negative_binomial_head()

# Every likelihood of one number a dimension, by the name that programs give it.
HEADS: dict[str, Head] = {
    "bernoulli": Bernoulli.head,
    "continuous_bernoulli": ContinuousBernoulli.head,
    "normal": normal_head(),
    "fixed_variance_normal": fixed_variance_normal_head(),
    "shared_variance_normal": shared_variance_normal_head(),
    "laplace": Laplace.head,
    "student_t": StudentT.head,
    "discretized_logistic": DiscretizedLogistic.head,
    "discretized_logistic_mixture": discretized_logistic_mixture_head(5),
    "discretized_normal": DiscretizedNormal.head,
    "poisson": Poisson.head,
    "negative_binomial": NegativeBinomial.head,
}
