"""Distributions of real values: Normal, and on [0, 1] the continuous Bernoulli.

`Normal` is the usual posterior and prior. Distributions with heavier tails are in
`heavy_tailed.py`.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import (
    as_numbers,
    check_bounds,
    check_in_range,
    check_key,
    check_not_gray_levels,
)
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._shared import (
    REAL,
    SampleThenLogProb,
    drawn,
    log1mexp,
    scored_as_vectors,
    shape_of,
    standardized,
)
from vaejax.distributions.heads import parameter_free_head, soft_clip

_LOG_2_PI = math.log(2 * math.pi)
_INTENSITIES = Support("values in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def reparameterize(key: Key, mean: Array, log_variance: Array) -> Array:
    """Draw z = mean + exp(log_variance / 2) * eps with eps ~ N(0, I).

    The draw is differentiable in `mean` and `log_variance`.

    Args:
      key: a typed key; it alone decides eps.
      mean: `[*event]`.
      log_variance: `[*event]` or a scalar; the logarithm of the variance, not of the
        standard deviation.

    Returns:
      z, `[*event]`.

    Raises:
      ValueError: the shapes differ and `log_variance` is not a scalar.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vaejax.reparameterize(jax.random.key(0), jnp.zeros(3), jnp.zeros(3)).shape
      (3,)

    Source: Kingma & Welling 2014, section 2.4.
    """
    mean = jnp.asarray(as_numbers("reparameterize: mean", mean))
    log_variance = jnp.asarray(as_numbers("reparameterize: log_variance", log_variance))
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
    """Normal distribution with independent dimensions, N(mean, diag exp(log_variance)).

    log p(x) = -1/2 sum_i [log 2 pi + log_variance_i
    + (x_i - mean_i)^2 / exp(log_variance_i)].

    Use it for real-valued data and as the usual posterior and prior. With a fixed
    variance, log p(x) is minus the squared error over twice the variance, up to a
    constant. It is exact for whatever it is given: bounds on a network's log-variance
    belong to `normal_head`.

    Attributes:
      mean: `[*event]`.
      log_variance: `[*event]`, or a scalar shared by all dimensions.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> standard = vaejax.Normal(mean=jnp.zeros(2), log_variance=jnp.zeros(2))
      >>> round(float(standard.log_prob(jnp.zeros(2))), 3)  # -log(2 pi)
      -1.838

    Source: Kingma & Welling 2014, equation 12.
    """

    mean: Array
    log_variance: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        return _log_normal(
            self.log_variance, standardized(event, self.mean, self.log_variance / 2)
        )

    def sample(self, key: Key) -> Array:
        return self._event_and_noise(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        event, noise = self._event_and_noise(key)
        # From the noise, not from (event - mean) / stddev, which cancels when the
        # variance is tiny.
        scores, noise = scored_as_vectors(self, noise)
        return event, _log_normal(scores.log_variance, noise)

    @property
    def mode(self) -> Array:
        return jnp.broadcast_to(self.mean, shape_of(self))

    def _event_and_noise(self, key: Key) -> tuple[Array, Array]:
        check_key(key)
        self, shape, dtype = drawn(self)
        noise = jax.random.normal(key, shape, dtype)
        return self.mean + jnp.exp(self.log_variance / 2) * noise, noise


def _log_normal(log_variance: Array, noise: Array) -> Array:
    return -0.5 * jnp.sum(_LOG_2_PI + log_variance + jnp.square(noise))


def normal_head(
    *, min_log_variance: float = -20.0, max_log_variance: float = 20.0
) -> Head:
    """Build a head that makes a Normal with a mean and a log-variance per dimension.

    The log-variance is bounded softly, since one of 90 already makes the KL infinite in
    single precision. Where a paper bounds it otherwise, or not at all, give its bounds
    (`-math.inf` and `math.inf` for none).

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
      >>> normal = vaejax.normal_head().apply((), jnp.zeros((3, 2)))
      >>> normal.mean.shape, normal.log_variance.shape
      ((3,), (3,))

    Source: Kingma & Welling 2014, equation 12.
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)
    return parameter_free_head(
        lambda mean, log_variance: Normal(
            mean, soft_clip(log_variance, min_log_variance, max_log_variance)
        ),
        num_parameters=2,
    )


def fixed_variance_normal_head(*, variance: float = 1.0) -> Head:
    """Build a head that makes a Normal of a known variance.

    -log p(x) = squared error / (2 variance) + event size / 2 * log(2 pi variance).

    Args:
      variance: the variance of every dimension, positive and finite.

    Returns:
      A head of 1 parameter, the mean: the network outputs `[*event]`.

    Raises:
      ValueError: the variance is not positive and finite.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.fixed_variance_normal_head(variance=0.5)
      >>> normal = head.apply((), jnp.zeros(2))
      >>> round(float(normal.log_prob(jnp.ones(2))), 3)  # -2 - log(pi)
      -3.145
    """
    check_in_range("fixed_variance_normal_head: variance", variance, 0, open_low=True)
    return parameter_free_head(
        lambda mean: Normal(mean, jnp.full((), math.log(variance), mean.dtype))
    )


def shared_variance_normal_head(
    *,
    log_variance: float = 0.0,
    min_log_variance: float = -20.0,
    max_log_variance: float = 20.0,
) -> Head:
    """Build a head that makes a Normal with one learned variance for all dimensions.

    The variance is a parameter of the head, shared by all dimensions and examples; its
    best value is the mean squared error.

    Args:
      log_variance: the initial log-variance, finite.
      min_log_variance: lower bound of the log-variance, soft.
      max_log_variance: upper bound of the log-variance, above the lower one.

    Returns:
      A head of 1 parameter, the mean: the network outputs `[*event]`.

    Raises:
      ValueError: the bounds are not in increasing order, or `log_variance` is not
        finite.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.shared_variance_normal_head()
      >>> params = head.init(jax.random.key(0))
      >>> head.apply(params, jnp.zeros(3)).log_variance.shape
      ()

    Source: Rybkin et al. 2021 (sigma-VAE), section 3.1.
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)
    check_in_range("shared_variance_normal_head: log_variance", log_variance)

    def init(key: Key) -> Array:
        del key
        return jnp.asarray(log_variance, jnp.float32)

    def apply(params: Array, outputs: Array) -> Normal:
        return Normal(outputs, soft_clip(params, min_log_variance, max_log_variance))

    return Head(1, init, apply)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContinuousBernoulli(SampleThenLogProb):
    """Continuous Bernoulli distribution, a density on [0, 1].

    log p(x) = sum_i [l_i x_i - log((exp(l_i) - 1) / l_i)].

    Use it for intensities that are not binary, where the cross-entropy would not be a
    density. The density is highest at one of the two ends, so that draws are rarely in
    the middle of the gray scale. Events of unsigned integers raise TypeError while they
    are traced, and ValueError where one is above 1.

    Attributes:
      logits: `[*event]`, l = log lambda / (1 - lambda).

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import ContinuousBernoulli
      >>> uniform = ContinuousBernoulli(logits=jnp.zeros(1))
      >>> round(float(uniform.mean[0]), 3)
      0.5

    Source: Loaiza-Ganem & Cunningham 2019, equations 4 and 5, with C(lambda) written in
    terms of l.
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = _INTENSITIES

    def log_prob(self, event: Array) -> Array:
        check_not_gray_levels(self, event, "divide gray levels by 255")
        self, event = scored_as_vectors(self, event)
        is_outside = (event < 0) | (event > 1)
        event = jnp.where(is_outside, 0, event)
        # l x - log((exp(l) - 1) / l) = log(|l| / (1 - exp(-|l|))) - |l| w, w the
        # distance of x from the end where the density is highest; around 0, where that
        # is 0 / 0, the series of the logarithm.
        small, near_zero, safe = self._around_zero()
        series = small / 2 + small**2 / 24 - small**4 / 2880 + small**6 / 181440
        steepness = jnp.abs(safe)
        distance = jnp.where(safe > 0, 1 - event, event)
        fall = jnp.where(distance == 0, 0, steepness) * distance
        far = jnp.where(
            fall < jnp.inf, jnp.log(steepness) - log1mexp(steepness) - fall, -fall
        )
        log_probs = jnp.where(near_zero, small * event - series, far)
        return jnp.sum(jnp.where(is_outside, -jnp.inf, log_probs))

    def sample(self, key: Key) -> Array:
        check_key(key)
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
        """Expected value, 1 / (1 - exp(-l)) - 1 / l."""
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

    def _around_zero(self) -> tuple[Array, Array, Array]:
        """Return the logits near zero, where they are near zero, and the other logits.

        The first are 0 and the last 1 wherever they do not apply.
        """
        near_zero = jnp.abs(self.logits) < 0.5
        return (
            jnp.where(near_zero, self.logits, 0),
            near_zero,
            jnp.where(near_zero, 1, self.logits),
        )


Normal.head = normal_head()
ContinuousBernoulli.head = parameter_free_head(ContinuousBernoulli)
