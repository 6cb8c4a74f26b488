"""Distributions with heavier tails than a Normal: Laplace and Student's t."""

import dataclasses
import math
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from vaejax._checks import check_bounds, check_key
from vaejax._reals import symmetric_abs
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._shared import (
    REAL,
    SampleThenLogProb,
    draw_around,
    drawn,
    inverse_scale,
    scored_as_vectors,
    shape_of,
    standardized,
    stirling_rest,
)
from vaejax.distributions.heads import parameter_free_head, soft_clip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laplace(SampleThenLogProb):
    """Laplace distribution with independent dimensions.

    log p(x) = -sum_i [log 2 + log_scale_i + |x_i - mean_i| / exp(log_scale_i)].

    Use it where errors are sparse: the loss is the absolute error, whose best mean is
    the median.

    Attributes:
      mean: `[*event]`.
      log_scale: `[*event]`, or a scalar; the variance is 2 exp(2 log_scale).

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Laplace
      >>> laplace = Laplace(mean=jnp.zeros(2), log_scale=jnp.zeros(2))
      >>> round(float(laplace.log_prob(jnp.ones(2))), 3)  # -2 (log 2 + 1)
      -3.386

    Source: Johnson et al. 1995 (Continuous Univariate Distributions 2), chapter 24.
    """

    mean: Array
    log_scale: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        # The derivative by the mean is 0 at the mean, the symmetric one of its kink.
        error = symmetric_abs(standardized(event, self.mean, self.log_scale))
        return -jnp.sum(math.log(2) + self.log_scale + error)

    def sample(self, key: Key) -> Array:
        check_key(key)
        self, shape, _ = drawn(self)
        return draw_around(jax.random.laplace, key, self.mean, self.log_scale, shape)

    @property
    def mode(self) -> Array:
        return jnp.broadcast_to(self.mean, shape_of(self))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StudentT(SampleThenLogProb):
    """Student's t distribution with independent dimensions.

    p(x_i) is proportional to (1 + t_i^2 / nu)^(-(nu + 1) / 2) with nu degrees of
    freedom and t_i = (x_i - location_i) / exp(log_scale_i). Use it for real values with
    outliers, or to learn a variance safely: its tails forgive a scale that is too
    small.

    Attributes:
      location: `[*event]`.
      log_scale: `[*event]`, or a scalar.
      log_degrees_of_freedom: `[*event]`, or a scalar, log nu. There is a mean only
        where nu is above 1, a variance only above 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import StudentT
      >>> cauchy = StudentT(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
      >>> round(float(cauchy.log_prob(jnp.zeros(1))), 3)  # -log(pi)
      -1.145

    Source: Takahashi et al. 2018, equation 9.
    """

    location: Array
    log_scale: Array
    log_degrees_of_freedom: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        # Beyond exp(60) degrees of freedom it is a Normal to the last digit.
        log_nu = jnp.where(
            self.log_degrees_of_freedom > 60, 60, self.log_degrees_of_freedom
        )
        log_kernel = -(jnp.exp(log_nu) + 1) / 2 * self._log1p_square(event, log_nu)
        return jnp.sum(_log_constant(log_nu) - self.log_scale + log_kernel)

    def sample(self, key: Key) -> Array:
        check_key(key)
        self, shape, _ = drawn(self)
        nu = jnp.broadcast_to(jnp.exp(self.log_degrees_of_freedom), shape)
        draw = partial(jax.random.t, df=nu)
        return draw_around(draw, key, self.location, self.log_scale, shape)

    @property
    def mean(self) -> Array:
        """The location; NaN where there is no mean."""
        self, shape, _ = drawn(self)
        mean = jnp.where(self.log_degrees_of_freedom > 0, self.location, jnp.nan)
        return jnp.broadcast_to(mean, shape)

    @property
    def mode(self) -> Array:
        return jnp.broadcast_to(self.location, shape_of(self))

    def _log1p_square(self, event: Array, log_nu: Array) -> Array:
        """Return log(1 + t^2 / nu), t^2 of which would overflow."""
        error = event - self.location
        scale = inverse_scale(self.log_scale + log_nu / 2)
        # Beyond 1e8 the 1 is lost.
        is_far = jnp.abs(error * scale) > 1e8
        near, far = jnp.where(is_far, 0, error), jnp.where(is_far, jnp.abs(error), 1)
        log_square = 2 * (jnp.log(far) - self.log_scale) - log_nu
        return jnp.where(is_far, log_square, jnp.log1p(jnp.square(near * scale)))


def _log_constant(log_nu: Array) -> Array:
    """Return log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2."""
    a = jnp.exp(log_nu) / 2
    is_large = a > 10
    # Stirling's series of both, with their difference taken by hand.
    large, small = jnp.where(is_large, a, 20), jnp.where(is_large, 1, a)
    series = large * jnp.log1p(0.5 / large) - 0.5
    series += stirling_rest(large + 0.5) - stirling_rest(large)
    # log Gamma(a) = log Gamma(a + 1) - log a: finite where a is 0.
    direct = gammaln(small + 0.5) - gammaln(small + 1) + (log_nu - math.log(2)) / 2
    return jnp.where(is_large, series, direct) - 0.5 * math.log(2 * math.pi)


def laplace_head(*, min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """Build a head that makes a Laplace with a mean and a log-scale per dimension.

    Args:
      min_log_scale: lower bound of the log-scale, soft.
      max_log_scale: upper bound of the log-scale, above the lower one.

    Returns:
      A head of 2 parameters: the network outputs `[*event, 2]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> laplace = vaejax.distributions.laplace_head().apply((), jnp.zeros((3, 2)))
      >>> laplace.mean.shape, laplace.log_scale.shape
      ((3,), (3,))
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return parameter_free_head(
        lambda mean, log_scale: Laplace(
            mean, soft_clip(log_scale, min_log_scale, max_log_scale)
        ),
        num_parameters=2,
    )


def student_t_head(
    *, min_log_scale: float = -10.0, max_log_scale: float = 10.0
) -> Head:
    """Build a head that makes a StudentT with three parameters per dimension.

    The log-scale is bounded softly. The degrees of freedom start at exp(2) for an
    output of 0 and stay between 1 and 1,000, so that there is a mean.

    Args:
      min_log_scale: lower bound of the log-scale.
      max_log_scale: upper bound of the log-scale, above the lower one.

    Returns:
      A head of 3 parameters, location, log-scale and log-degrees of freedom: the
      network outputs `[*event, 3]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> student = vaejax.distributions.student_t_head().apply((), jnp.zeros((3, 3)))
      >>> student.log_degrees_of_freedom.shape
      (3,)
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)

    def make(location: Array, log_scale: Array, log_degrees: Array) -> StudentT:
        log_scale = soft_clip(log_scale, min_log_scale, max_log_scale)
        # Starts at exp(2), about seven degrees.
        return StudentT(
            location, log_scale, soft_clip(log_degrees + 2, 0.0, math.log(1000))
        )

    return parameter_free_head(make, num_parameters=3)


Laplace.head = laplace_head()
StudentT.head = student_t_head()
