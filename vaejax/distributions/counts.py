"""Likelihoods of counts, and their heads.

Like those of `vaejax.distributions` they are normalized, in nats, summed over one
event.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from vaejax._checks import check_bounds, check_event
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._shared import SampleThenLogProb, stirling_rest
from vaejax.distributions.heads import parameter_free_head, soft_clip

COUNTS = Support("counts 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Poisson(SampleThenLogProb):
    """Counts: log p(x) = sum_i [x_i log_rate_i - exp(log_rate_i) - log x_i!].

    Use it for counts whose variance is about their mean; `NegativeBinomial` where it is
    larger.

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
        # Around the mode the terms are far larger than their sum, so that they are
        # taken as a distance from it.
        log_p = (
            -_stirling_error(some)
            - _deviance(some, self.log_rate - jnp.log(some))
            - 0.5 * jnp.log(2 * math.pi * some)
        )
        return jnp.sum(jnp.where(event > 0, log_p, -jnp.exp(self.log_rate)))

    def sample(self, key: Key) -> Array:
        return jax.random.poisson(key, jnp.exp(self.log_rate)).astype(
            self.log_rate.dtype
        )

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_rate)

    @property
    def mode(self) -> Array:
        return jnp.floor(jnp.exp(self.log_rate))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NegativeBinomial(SampleThenLogProb):
    """Counts that vary more than a Poisson's: mean m, variance m + m^2 / r with
    concentration r.

    log p(x) = sum_i [log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + m)) + x
    log(m / (r + m))]; the Poisson is its limit for large r. Use it for counts of events
    that cluster, such as those of words or of sequenced genes.

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
        # r / (r + x) times a binomial of r among r + x, which is taken as a distance
        # from its mode as in the Poisson.
        log_ratio = jnp.log1p((some - mean) / (r + mean))
        distance = _deviance(r, log_ratio) + _deviance(
            some, log_ratio + self.log_mean - jnp.log(some)
        )
        errors = _stirling_error(r + some) - _stirling_error(r) - _stirling_error(some)
        log_p = (
            0.5 * (log_r - jnp.log(r + some) - jnp.log(2 * math.pi * some))
            + errors
            - distance
        )
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
        return jnp.floor(
            jnp.exp(self.log_mean)
            * jnp.maximum(1 - jnp.exp(-self.log_concentration), 0)
        )


def _stirling_error(x: Array) -> Array:
    """log Gamma(x + 1) less Stirling's (x + 1/2) log x - x + log(2 pi) / 2, for x > 0."""
    small = jnp.minimum(x, 10)
    direct = (
        gammaln(small + 1)
        - (small + 0.5) * jnp.log(small)
        + small
        - 0.5 * math.log(2 * math.pi)
    )
    return jnp.where(x > 10, stirling_rest(jnp.maximum(x, 10)), direct)


def _deviance(x: Array, log_ratio: Array) -> Array:
    """x log(x / m) + m - x, from log(m / x): how far m is from x."""
    return x * (jnp.expm1(log_ratio) - log_ratio)


def poisson_head(min_log_rate: float = -15.0, max_log_rate: float = 15.0) -> Head:
    """Poisson with a log-rate for each dimension, bounded softly; the network puts out
    `[*event]`.
    """
    check_bounds("log_rate", min_log_rate, max_log_rate)
    return parameter_free_head(
        lambda outputs: Poisson(soft_clip(outputs, min_log_rate, max_log_rate))
    )


def negative_binomial_head(
    min_log_mean: float = -15.0, max_log_mean: float = 15.0
) -> Head:
    """NegativeBinomial with log-mean and log-concentration for each dimension; the
    network puts out `[*event, 2]`.

    Both are bounded softly, the log-concentration between -10 and 10.
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
