"""Counts with more zeros than a negative binomial has, and means by library size."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import as_numbers, check_bounds, check_key
from vaejax.base import Array, Distribution, Head, HeadLike, Key, Params, Support
from vaejax.distributions._shared import (
    SampleThenLogProb,
    drawn,
    log_softmax,
    scored_as_vectors,
    shape_of,
)
from vaejax.distributions.counts import NegativeBinomial, negative_binomial_head
from vaejax.distributions.heads import as_head, parameter_free_head


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(SampleThenLogProb):
    """Negative binomial distribution of counts, some of which are replaced by zero.

    With pi = sigmoid(zero_logits), p(0) = pi + (1 - pi) NB(0) and p(x) = (1 - pi) NB(x)
    for x > 0. The mean is (1 - pi) exp(log_mean). Use it where zeros stand for counts
    that were missed, as in sequenced cells; compare it with `NegativeBinomial`, which
    has many zeros of its own at low means.

    Attributes:
      log_mean: `[*event]`, the logarithm of the mean of counts that are not replaced.
      log_concentration: `[*event]`, or a scalar.
      zero_logits: `[*event]`, or a scalar: log-odds of being replaced by zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import ZeroInflatedNegativeBinomial
      >>> inflated = ZeroInflatedNegativeBinomial(
      ...     jnp.zeros(1), jnp.zeros(1), zero_logits=jnp.zeros(1)
      ... )
      >>> round(float(inflated.log_prob(jnp.array([0.0]))), 3)  # log(1/2 + 1/4)
      -0.288

    Source: Lopez et al. 2018 (scVI), online methods; Lambert 1992.
    """

    log_mean: Array
    log_concentration: Array
    zero_logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = NegativeBinomial.support

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        of_count, replaced = self._parts(event)
        # log(pi + (1 - pi) NB(0)) at zero; the other branch gets no infinity from it.
        is_zero = event == 0
        at_zero = jnp.logaddexp(replaced, jnp.where(is_zero, of_count, 0))
        return jnp.sum(jnp.where(is_zero, at_zero, of_count))

    def _parts(self, event: Array) -> tuple[Array, Array]:
        """Return log((1 - pi) NB(x)) and log pi of each dimension."""
        shape = shape_of(self)
        parts = (self.log_mean, self.log_concentration, self.zero_logits, event)
        mean, concentration, logits, event = (
            jnp.broadcast_to(part, shape) for part in parts
        )
        one = _log_prob_of_one
        for _ in shape:
            one = jax.vmap(one)
        counted = one(mean, concentration, event)
        logits = logits.astype(counted.dtype)
        return counted - jax.nn.softplus(logits), -jax.nn.softplus(-logits)

    def sample(self, key: Key) -> Array:
        check_key(key)
        count_key, zero_key = jax.random.split(key)
        self, shape, _ = drawn(self)
        zeros = jax.random.bernoulli(zero_key, jax.nn.sigmoid(self.zero_logits), shape)
        mean = jnp.broadcast_to(self.log_mean, shape)
        counts = NegativeBinomial(mean, self.log_concentration).sample(count_key)
        return jnp.where(zeros, jnp.zeros((), counts.dtype), counts)

    @property
    def mean(self) -> Array:
        self, shape, _ = drawn(self)
        mean = jnp.exp(self.log_mean) * jax.nn.sigmoid(-self.zero_logits)
        return jnp.broadcast_to(mean, shape)

    @property
    def mode(self) -> Array:
        self, shape, _ = drawn(self)
        counts = NegativeBinomial(self.log_mean, self.log_concentration)
        mode = jnp.broadcast_to(counts.mode, shape)
        at_mode, replaced = self._parts(mode)
        at_zero, _ = self._parts(jnp.zeros_like(mode))
        is_zero = jnp.logaddexp(replaced, at_zero) >= at_mode
        return jnp.where(is_zero, 0, mode)


def _log_prob_of_one(log_mean: Array, log_concentration: Array, count: Array) -> Array:
    return NegativeBinomial(log_mean, log_concentration).log_prob(count)


def zero_inflated_negative_binomial_head(
    *, min_log_mean: float = -15.0, max_log_mean: float = 15.0
) -> Head:
    """Build a head that makes a ZeroInflatedNegativeBinomial, of three parameters.

    The log-mean and the log-concentration are bounded softly, as in
    `negative_binomial_head`.

    Args:
      min_log_mean: lower bound of the log-mean.
      max_log_mean: upper bound of the log-mean, above the lower one.

    Returns:
      A head of 3 parameters, log-mean, log-concentration and log-odds of a replaced
      count: the network outputs `[*event, 3]`.

    Raises:
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.zero_inflated_negative_binomial_head()
      >>> float(head.apply((), jnp.zeros((3, 3))).mean[0])
      0.5
    """
    check_bounds("log_mean", min_log_mean, max_log_mean)
    counts = negative_binomial_head(
        min_log_mean=min_log_mean, max_log_mean=max_log_mean
    )

    def make(log_mean: Array, log_concentration: Array, logits: Array) -> Distribution:
        plain: Any = counts.apply((), jnp.stack([log_mean, log_concentration], axis=-1))
        return ZeroInflatedNegativeBinomial(
            plain.log_mean, plain.log_concentration, logits
        )

    return parameter_free_head(make, num_parameters=3)


def with_library_size(likelihood: HeadLike, log_library_size: Array) -> Head:
    """Return a head of counts whose means are shares of a library size.

    The first output of every dimension becomes log library size + log softmax over all
    dimensions, and then the log-mean of the count. An example that was measured with
    twice the depth has twice the counts, and a decoder need not know it: it describes
    the composition only. The library size is a condition, such as the logarithm of the
    sum of the counts of the example.

    Args:
      likelihood: a head whose first parameter is a log-mean, or a class that carries
        one: `Poisson`, `NegativeBinomial` or `ZeroInflatedNegativeBinomial`. Its bounds
        hold for the log-mean; within them, means of counts that are not replaced by
        zero add up to the library size.
      log_library_size: scalar, the natural logarithm of the library size.

    Returns:
      A head of as many parameters.

    Raises:
      TypeError: `likelihood` is no head and carries none.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Poisson, with_library_size
      >>> head = with_library_size(Poisson, jnp.log(1200.0))
      >>> head.apply((), jnp.zeros(4)).mean.round(2).tolist()
      [300.0, 300.0, 300.0, 300.0]

    Source: Lopez et al. 2018 (scVI), online methods.
    """
    head = as_head(likelihood)
    log_library_size = as_numbers(
        "with_library_size: log_library_size", log_library_size
    )

    def apply(params: Params, outputs: Array) -> Distribution:
        several = head.num_parameters > 1
        first = outputs[..., 0] if several else outputs
        shares = jnp.reshape(log_softmax(first.ravel()), first.shape)
        log_means = shares + jnp.asarray(log_library_size).astype(shares.dtype)
        if several:
            log_means = jnp.concatenate([log_means[..., None], outputs[..., 1:]], -1)
        return head.apply(params, log_means)

    return Head(head.num_parameters, head.init, apply)


ZeroInflatedNegativeBinomial.head = zero_inflated_negative_binomial_head()
