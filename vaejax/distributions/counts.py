"""Distributions of counts: Poisson and negative binomial.

Their log-densities keep their digits at large counts, where the textbook sums of
log Gamma functions cancel.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from vaejax._checks import check_bounds, check_key
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._shared import (
    SampleThenLogProb,
    density_dtype,
    drawn,
    expm1_less,
    scored_as_vectors,
    shape_of,
    stirling_rest,
    with_parameters,
)
from vaejax.distributions.heads import parameter_free_head, soft_clip

_COUNTS = Support("counts 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Poisson(SampleThenLogProb):
    """Poisson distribution with independent dimensions.

    log p(x) = sum_i [x_i log_rate_i - exp(log_rate_i) - log x_i!].

    Use it for counts whose variance is about their mean; `NegativeBinomial` where the
    variance is larger.

    Attributes:
      log_rate: `[*event]`, the logarithm of the mean.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Poisson
      >>> poisson = Poisson(log_rate=jnp.zeros(2))
      >>> round(float(poisson.log_prob(jnp.array([0.0, 2.0]))), 3)  # -2 - log 2
      -2.693

    Source: Johnson et al. 2005 (Univariate Discrete Distributions), chapter 4; computed
    after Loader 2000.
    """

    log_rate: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = _COUNTS

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        no_count, some = _no_count(event), _at_least_one(event)
        # Each branch gets a rate of its own side: exp overflows on the other.
        is_zero = event == 0
        log_excess = jnp.where(is_zero, 0, self.log_rate - jnp.log(some))
        none = -jnp.exp(jnp.where(is_zero, self.log_rate, 0))
        # Around the mode the terms are far larger than their sum, so that they are
        # taken as a distance from it.
        log_p = (
            -_stirling_error(some)
            - _deviance(some, log_excess)
            - 0.5 * jnp.log(2 * math.pi * some)
        )
        log_p = jnp.where(is_zero, none, log_p)
        return jnp.sum(jnp.where(no_count, -jnp.inf, log_p))

    def sample(self, key: Key) -> Array:
        check_key(key)
        self, shape, dtype = drawn(self)
        rate = jnp.exp(self.log_rate.astype(density_dtype(self.log_rate)))
        return jax.random.poisson(key, rate, shape).astype(dtype)

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_rate)

    @property
    def mode(self) -> Array:
        return jnp.floor(jnp.exp(self.log_rate))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NegativeBinomial(SampleThenLogProb):
    """Negative binomial distribution of counts that vary more than a Poisson's.

    With mean m and concentration r the variance is m + m^2 / r, and
    log p(x) = sum_i [log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + m))
    + x log(m / (r + m))]; the Poisson is its limit for large r. Use it for counts of
    events that cluster, such as those of words or of sequenced genes.

    Attributes:
      log_mean: `[*event]`.
      log_concentration: `[*event]`, or a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import NegativeBinomial
      >>> geometric = NegativeBinomial(jnp.zeros(1), jnp.zeros(1))
      >>> round(float(geometric.log_prob(jnp.array([2.0]))), 3)  # 3 log(1/2)
      -2.079

    Source: Lopez et al. 2018 (scVI), online methods; computed after Loader 2000.
    """

    log_mean: Array
    log_concentration: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = _COUNTS

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        no_count, some = _no_count(event), _at_least_one(event)
        # Beyond these bounds it is a Poisson, and nothing but zeros, to the last digit;
        # their exponentials are finite, as the mean must be.
        log_r = jnp.clip(self.log_concentration, -80, 80)
        # Each branch gets a mean of its own side, which is infinite on the other.
        is_zero = event == 0
        log_mean = jnp.where(is_zero, 0, self.log_mean)
        none = -jax.nn.softplus(jnp.where(is_zero, self.log_mean, 0) - log_r)
        mean = jnp.exp(jnp.where(log_mean > 87, 87, log_mean))
        r, log_x = jnp.exp(log_r), jnp.log(some)
        # r / (r + x) times a binomial of r among r + x, which is taken as a distance
        # from its mode as in the Poisson.
        log_ratio_of_sums = _log1p_or(  # log((r + x) / (r + m))
            (some - mean) / (r + mean),
            jnp.logaddexp(log_r, log_x) - jnp.logaddexp(log_r, log_mean),
        )
        log_ratio = _log1p_or(  # log((r + x) m / ((r + m) x))
            (mean - some) / some * (r / (r + mean)),
            jax.nn.softplus(log_r - log_x) - jax.nn.softplus(log_r - log_mean),
        )
        distance = _deviance(r, log_ratio_of_sums) + _deviance(some, log_ratio)
        errors = _stirling_error(r + some) - _stirling_error(r) - _stirling_error(some)
        log_p = (
            0.5 * (log_r - jnp.log(r + some) - log_x - math.log(2 * math.pi))
            + errors
            - distance
        )
        log_p = jnp.where(is_zero, r * none, log_p)
        return jnp.sum(jnp.where(no_count, -jnp.inf, log_p))

    def sample(self, key: Key) -> Array:
        check_key(key)
        rate_key, count_key = jax.random.split(key)
        self, shape, dtype = drawn(self)
        self = with_parameters(self, full := density_dtype(self.log_mean), shape)
        concentration = jnp.broadcast_to(jnp.exp(self.log_concentration), shape)
        log_gamma = jax.random.loggamma(rate_key, concentration, shape, full)
        rate = jnp.exp(self.log_mean - self.log_concentration + log_gamma)
        return jax.random.poisson(count_key, rate).astype(dtype)

    @property
    def mean(self) -> Array:
        return jnp.exp(jnp.broadcast_to(self.log_mean, shape_of(self)))

    @property
    def mode(self) -> Array:
        self, _, _ = drawn(self)
        shrinkage = jnp.maximum(1 - jnp.exp(-self.log_concentration), 0)
        return jnp.floor(jnp.exp(self.log_mean) * shrinkage)


def _no_count(event: Array) -> Array:
    # False for NaN, which is NaN in the log-density too.
    return (event < 0) | (event - jnp.floor(event) > 0) | (event == jnp.inf)


def _at_least_one(event: Array) -> Array:
    return jnp.where((event < 1) | (event == jnp.inf), 1, event)


def _log1p_or(x: Array, far: Array) -> Array:
    """Return log(1 + x), which the caller computes otherwise where x is not near 0."""
    is_near = jnp.abs(x) < 0.5
    return jnp.where(is_near, jnp.log1p(jnp.where(is_near, x, 0)), far)


def _stirling_error(x: Array) -> Array:
    """Return log Gamma(x + 1) - [(x + 1/2) log x - x + log(2 pi) / 2] for x > 0."""
    small = jnp.where(x > 10, 10, x)
    direct = (
        gammaln(small + 1)
        - (small + 0.5) * jnp.log(small)
        + small
        - 0.5 * math.log(2 * math.pi)
    )
    return jnp.where(x > 10, stirling_rest(jnp.where(x > 10, x, 10)), direct)


def _deviance(x: Array, log_ratio: Array) -> Array:
    """Return x log(x / m) + m - x from log(m / x): a distance of m from x."""
    return x * expm1_less(log_ratio)


def poisson_head(*, min_log_rate: float = -15.0, max_log_rate: float = 15.0) -> Head:
    """Build a head that makes a Poisson with a log-rate per dimension.

    Args:
      min_log_rate: lower bound of the log-rate, soft.
      max_log_rate: upper bound of the log-rate, above the lower one.

    Returns:
      A head of 1 parameter: the network outputs `[*event]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> poisson = vaejax.distributions.poisson_head().apply((), jnp.zeros(3))
      >>> round(float(poisson.mean[0]), 3)
      1.0
    """
    check_bounds("log_rate", min_log_rate, max_log_rate)
    return parameter_free_head(
        lambda outputs: Poisson(soft_clip(outputs, min_log_rate, max_log_rate))
    )


def negative_binomial_head(
    *, min_log_mean: float = -15.0, max_log_mean: float = 15.0
) -> Head:
    """Build a head that makes a NegativeBinomial with two parameters per dimension.

    Both parameters are bounded softly, the log-concentration between -10 and 10.

    Args:
      min_log_mean: lower bound of the log-mean.
      max_log_mean: upper bound of the log-mean, above the lower one.

    Returns:
      A head of 2 parameters, log-mean and log-concentration: the network outputs
      `[*event, 2]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.negative_binomial_head()
      >>> head.apply((), jnp.zeros((3, 2))).mean.shape
      (3,)
    """
    check_bounds("log_mean", min_log_mean, max_log_mean)
    return parameter_free_head(
        lambda log_mean, log_concentration: NegativeBinomial(
            soft_clip(log_mean, min_log_mean, max_log_mean),
            soft_clip(log_concentration, -10.0, 10.0),
        ),
        num_parameters=2,
    )


Poisson.head = poisson_head()
NegativeBinomial.head = negative_binomial_head()
