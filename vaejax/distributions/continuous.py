"""More likelihoods: for intensities and for real values with outliers; their heads; and
the table of all heads.

Like those of `vaejax.distributions` they are normalized, in nats, summed over one
event. `vaejax.pixels` and `vaejax.counts` have those of 8-bit pixels and of counts.
"""

import dataclasses
import math
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from vaejax._checks import check_bounds, check_event
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._shared import (
    SampleThenLogProb,
    draw_around,
    log1mexp,
    stirling_rest,
)
from vaejax.distributions.heads import parameter_free_head, soft_clip

_LOG_2_PI = math.log(2 * math.pi)

REAL = Support("finite numbers", lambda x: abs(x) < math.inf)


def reparameterize(key: Key, mean: Array, log_variance: Array) -> Array:
    """z = mean + exp(log_variance / 2) * eps with eps ~ N(0, I), differentiable in
    `mean` and `log_variance`.

    Args:
      key: a typed key; it alone decides eps.
      mean: `[*event]`.
      log_variance: `[*event]` or a scalar; the logarithm of the variance, not of the
        standard deviation.

    Returns:
      z, `[*event]`.

    Raises:
      ValueError: the shapes differ and `log_variance` is not a scalar.

    Source: Kingma & Welling 2014, section 2.4.
    """
    if jnp.ndim(log_variance) and jnp.shape(mean) != jnp.shape(log_variance):
        raise ValueError(
            f"reparameterize: mean has shape {jnp.shape(mean)} and log_variance "
            f"{jnp.shape(log_variance)}; "
            "give both the shape of z, or log_variance as a scalar."
        )
    return Normal(mean, log_variance).sample(key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normal:
    """N(mean, diag exp(log_variance)), independent in each dimension; exact for
    whatever it is given.

    log p(x) = -1/2 sum_i [log 2 pi + log_variance_i + (x_i - mean_i)^2 /
    exp(log_variance_i)].

    Use it for real-valued data and as the usual posterior and prior. With a fixed
    variance, log p(x) is minus the squared error over twice the variance, up to a
    constant. Bounds on a network's log-variance belong to `normal_head`.

    Attributes:
      mean: `[*event]`.
      log_variance: `[*event]`, or a scalar shared by all dimensions.
    """

    mean: Array
    log_variance: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.mean))
        squared_error = jnp.square(event - self.mean) * jnp.exp(-self.log_variance)
        return -0.5 * jnp.sum(_LOG_2_PI + self.log_variance + squared_error)

    def sample(self, key: Key) -> Array:
        return self.mean + jnp.exp(self.log_variance / 2) * self._noise(key)

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        noise = self._noise(key)
        event = self.mean + jnp.exp(self.log_variance / 2) * noise
        # From the noise, not from (event - mean) / stddev, which cancels when the
        # variance is tiny.
        return event, -0.5 * jnp.sum(_LOG_2_PI + self.log_variance + jnp.square(noise))

    @property
    def mode(self) -> Array:
        return self.mean

    def _noise(self, key: Key) -> Array:
        return jax.random.normal(key, jnp.shape(self.mean), jnp.result_type(self.mean))


def normal_head(
    min_log_variance: float = -20.0, max_log_variance: float = 20.0
) -> Head:
    """Normal with a mean and a log-variance for each dimension; the network puts out
    `[*event, 2]`.

    The log-variance is bounded softly, since one of 90 already makes the KL infinite in
    single precision. Where a paper bounds it otherwise, or not at all, give its bounds
    (`-math.inf` and `math.inf` for none).
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)
    return parameter_free_head(
        lambda mean, log_variance: Normal(
            mean, soft_clip(log_variance, min_log_variance, max_log_variance)
        ),
        num_parameters=2,
    )


def fixed_variance_normal_head(variance: float = 1.0) -> Head:
    """Normal of a known variance: -log p(x) = squared error / (2 variance) + event size
    / 2 * log(2 pi variance).
    """
    if not 0 < variance < math.inf:
        raise ValueError(
            f"fixed_variance_normal_head: variance is {variance}; give a positive "
            "number."
        )
    return parameter_free_head(
        lambda mean: Normal(mean, jnp.full((), math.log(variance), mean.dtype))
    )


def shared_variance_normal_head(
    log_variance: float = 0.0,
    min_log_variance: float = -20.0,
    max_log_variance: float = 20.0,
) -> Head:
    """Normal with one learned variance for all dimensions and examples; `log_variance`
    is where it starts.

    Source: Rybkin et al. 2021 (sigma-VAE), section 3.1.
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)

    def init(key: Key) -> Array:
        del key
        return jnp.asarray(log_variance, jnp.float32)

    def apply(params: Array, outputs: Array) -> Normal:
        return Normal(outputs, soft_clip(params, min_log_variance, max_log_variance))

    return Head(1, init, apply)


Normal.head = normal_head()

INTENSITIES = Support("values in [0, 1]", lambda x: (x >= 0) & (x <= 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContinuousBernoulli(SampleThenLogProb):
    """A density on [0, 1]: log p(x) = sum_i [l_i x_i - log((exp(l_i) - 1) / l_i)].

    Use it for intensities that are not binary, where the cross-entropy would be no
    density. Its density is highest at one of the ends: few gray values are generated.

    Attributes:
      logits: `[*event]`, l = log lambda / (1 - lambda).

    Source: Loaiza-Ganem & Cunningham 2019, equations 4 and 5, with C(lambda) written in
    terms of l.
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = INTENSITIES

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits))
        return jnp.sum(self.logits * event - self._log_normalizer())

    def sample(self, key: Key) -> Array:
        # By the inverse of the cumulative distribution function, from the decreasing
        # side, where it cannot overflow.
        steepness = jnp.abs(self.logits)
        uniform = jax.random.uniform(
            key, jnp.shape(self.logits), jnp.result_type(self.logits)
        )
        safe = jnp.maximum(steepness, 1e-4)
        decreasing = jnp.where(
            steepness < 1e-4, uniform, -jnp.log1p(uniform * jnp.expm1(-safe)) / safe
        )
        return jnp.clip(jnp.where(self.logits > 0, 1 - decreasing, decreasing), 0, 1)

    @property
    def mean(self) -> Array:
        """The derivative of the log-normalizer: 1 / (1 - exp(-l)) - 1 / l."""
        small, near_zero, safe = self._around_zero()
        series = 0.5 + small / 12 - small**3 / 720 + small**5 / 30240
        steepness = jnp.abs(safe)
        decreasing = 1 / steepness - jnp.exp(-steepness) / -jnp.expm1(-steepness)
        return jnp.where(
            near_zero, series, jnp.where(safe > 0, 1 - decreasing, decreasing)
        )

    @property
    def mode(self) -> Array:
        return (self.logits > 0).astype(self.logits.dtype)

    def _log_normalizer(self) -> Array:
        # log((exp(l) - 1) / l) = max(l, 0) + log((1 - exp(-|l|)) / |l|); around 0,
        # where that is 0 / 0, its series.
        small, near_zero, safe = self._around_zero()
        series = small / 2 + small**2 / 24 - small**4 / 2880 + small**6 / 181440
        steepness = jnp.abs(safe)
        return jnp.where(
            near_zero,
            series,
            jnp.maximum(safe, 0) + log1mexp(steepness) - jnp.log(steepness),
        )

    def _around_zero(self) -> tuple[Array, Array, Array]:
        """The logits where they are small (0 elsewhere), where that is, and the logits
        where they are not (1 there).
        """
        near_zero = jnp.abs(self.logits) < 0.5
        return (
            jnp.where(near_zero, self.logits, 0),
            near_zero,
            jnp.where(near_zero, 1, self.logits),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laplace(SampleThenLogProb):
    """log p(x) = -sum_i [log 2 + log_scale_i + |x_i - mean_i| / exp(log_scale_i)].

    Use it where errors are sparse: the loss is the absolute error, whose best mean is
    the median.

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
        return -jnp.sum(
            math.log(2)
            + self.log_scale
            + jnp.abs(event - self.mean) * jnp.exp(-self.log_scale)
        )

    def sample(self, key: Key) -> Array:
        return draw_around(jax.random.laplace, key, self.mean, self.log_scale)

    @property
    def mode(self) -> Array:
        return self.mean


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StudentT(SampleThenLogProb):
    """Student's t with location, scale and degrees of freedom nu: p(x_i) ~ (1 + t_i^2 /
    nu)^(-(nu + 1) / 2).

    t_i = (x_i - location_i) / exp(log_scale_i). Use it for real values with outliers,
    or to learn a variance safely: its tails forgive a scale that is too small
    (Takahashi et al. 2018, equation 9).

    Attributes:
      location: `[*event]`.
      log_scale: `[*event]`, or a scalar.
      log_degrees_of_freedom: likewise. There is a mean only above one degree of
        freedom, a variance only above two.
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
        constant = _log_rising(nu / 2, 0.5) - 0.5 * (
            self.log_degrees_of_freedom + math.log(math.pi)
        )
        t = (event - self.location) * jnp.exp(-self.log_scale)
        return jnp.sum(
            constant - self.log_scale - (nu + 1) / 2 * jnp.log1p(jnp.square(t) / nu)
        )

    def sample(self, key: Key) -> Array:
        nu = jnp.broadcast_to(
            jnp.exp(self.log_degrees_of_freedom), jnp.shape(self.location)
        )
        return draw_around(
            partial(jax.random.t, df=nu), key, self.location, self.log_scale
        )

    @property
    def mean(self) -> Array:
        """The location; NaN where there is no mean."""
        return jnp.where(self.log_degrees_of_freedom > 0, self.location, jnp.nan)

    @property
    def mode(self) -> Array:
        return self.location


def _log_rising(a: Array, b: float) -> Array:
    """log Gamma(a + b) - log Gamma(a), whose terms cancel where a is large."""
    # Stirling's series of both, with their difference taken by hand: (a + b - 1/2)
    # log(1 + b / a) - b + b log a + ...
    large, small = jnp.maximum(a, 10), jnp.minimum(a, 10)
    series = (large + b - 0.5) * jnp.log1p(b / large) - b + b * jnp.log(large)
    series += stirling_rest(large + b) - stirling_rest(large)
    return jnp.where(a > 10, series, gammaln(small + b) - gammaln(small))


def laplace_head(min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """Laplace with a mean and a log-scale for each dimension, bounded softly; the
    network puts out `[*event, 2]`.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return parameter_free_head(
        lambda mean, log_scale: Laplace(
            mean, soft_clip(log_scale, min_log_scale, max_log_scale)
        ),
        num_parameters=2,
    )


def student_t_head(min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """StudentT with location, log-scale and degrees of freedom for each dimension: the
    network puts out `[*event, 3]`.

    The log-scale is bounded softly, and the degrees of freedom between 1 and 1,000, so
    that there is a mean.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)

    def make(location: Array, log_scale: Array, log_degrees: Array) -> StudentT:
        log_scale = soft_clip(log_scale, min_log_scale, max_log_scale)
        # Starts at exp(2), about seven degrees.
        return StudentT(
            location, log_scale, soft_clip(log_degrees + 2, 0.0, math.log(1000))
        )

    return parameter_free_head(make, num_parameters=3)


ContinuousBernoulli.head = parameter_free_head(ContinuousBernoulli)
Laplace.head = laplace_head()
StudentT.head = student_t_head()
