"""One-hot choices among classes, and their continuous relaxations.

An event is `[*event, classes]`: one vector for each variable. `OneHotCategorical` draws
corners of the simplex, `RelaxedCategorical` points inside it through which gradients
flow, and `ExpRelaxedCategorical` the logarithms of such points.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from vaejax._checks import check_event, check_key
from vaejax.base import Array, Key, Support
from vaejax.distributions._shared import SampleThenLogProb, density_dtype, log_softmax


def _of_sum_one(
    is_entry: Callable[[Any], Any], share: Callable[[Any], Any] = np.asarray
) -> Callable[[Any], Any]:
    """Return whether vectors on the last axis have such entries, of shares of one."""

    def contains(x: Any) -> Any:
        inside = is_entry(x)
        if not np.ndim(x):
            return inside
        excess = np.sum(np.where(inside, share(x), np.nan), axis=-1) - 1
        return np.broadcast_to((np.abs(excess) < 1e-3)[..., None], np.shape(x))

    return contains


_ONE_HOT = Support(
    "vectors of zeros and a single one",
    _of_sum_one(lambda x: (x == 0) | (x == 1)),
    is_convex=False,
)
_SIMPLEX = Support(
    "vectors of positive numbers of sum one",
    _of_sum_one(lambda x: (x >= 0) & (x <= 1)),
    is_convex=True,
)
_LOG_SIMPLEX = Support(
    "logarithms of positive numbers of sum one",
    _of_sum_one(lambda x: x <= 0, np.exp),
    is_convex=False,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OneHotCategorical(SampleThenLogProb):
    """Distribution of independent choices among classes, each a one-hot vector.

    log p(x) = sum_i x_i . log softmax(logits_i). It is `Categorical` over vectors, for
    latents that a decoder multiplies by a matrix. Draws carry no gradient.

    Attributes:
      logits: `[*event, classes]`, unnormalized log-probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import OneHotCategorical
      >>> uniform = OneHotCategorical(logits=jnp.zeros((2, 4)))
      >>> round(float(uniform.log_prob(jnp.eye(4)[:2])), 3)  # 2 log(1/4)
      -2.773

    Source: Bishop 2006 (Pattern Recognition and Machine Learning), equation 2.26.
    """

    logits: Array

    support: ClassVar[Support] = _ONE_HOT

    def log_prob(self, event: Array) -> Array:
        event, log_probs = _vectors(self, event), log_softmax(_logits(self))
        # A class that is ruled out and not chosen counts as 0.
        is_left = (log_probs == -jnp.inf) & (event == 0)
        terms = event * jnp.where(is_left, 0, log_probs)
        is_one_hot = jnp.all((event == 0) | (event == 1), axis=-1) & (
            jnp.sum(event, axis=-1) == 1
        )
        is_event = jnp.all(is_one_hot | jnp.any(jnp.isnan(event), axis=-1))
        return jnp.where(is_event, jnp.sum(terms), -jnp.inf)

    def sample(self, key: Key) -> Array:
        check_key(key)
        logits = _logits(self)
        event = _one_hot(jax.random.categorical(key, logits), logits)
        return event.astype(jnp.asarray(self.logits).dtype)

    @property
    def mean(self) -> Array:
        return jax.nn.softmax(self.logits)

    @property
    def mode(self) -> Array:
        logits = jnp.asarray(self.logits)
        return _one_hot(jnp.argmax(logits, axis=-1), logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelaxedCategorical:
    """Concrete (Gumbel-softmax) distribution: points of a simplex near its corners.

    y = softmax((logits + g) / temperature) with Gumbel noise g, for each variable. The
    largest entry of y is where the one-hot draw of the same noise has its one, and
    y tends to it as the temperature falls to 0. With l the logits and n classes, the
    density of the first n - 1 entries is

      log p(y) = log Gamma(n) + (n - 1) log t + sum_k [l_k - (t + 1) log y_k]
                 - n log sum_k exp(l_k - t log y_k).

    With `straight_through` the event is the one-hot vector itself, `log_prob` is that
    of `OneHotCategorical`, and only the gradient is that of y, which is biased.

    Entries of y below the smallest normal float32, 1e-38, are raised to it; at
    temperatures below 0.2 `ExpRelaxedCategorical` is exact where this matters.

    Attributes:
      logits: `[*event, classes]`, unnormalized log-probabilities of the choice.
      temperature: scalar, above 0; may be traced, as a schedule is.
      straight_through: whether draws are one-hot.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import RelaxedCategorical
      >>> uniform = RelaxedCategorical(jnp.zeros((2, 3)), temperature=1.0)
      >>> round(float(uniform.log_prob(jnp.full((2, 3), 1 / 3))), 3)  # 2 log(2)
      1.386
      >>> uniform.categorical.mean.shape
      (2, 3)

    Source: Maddison et al. 2017, definition 1; straight-through: Jang et al. 2017,
    section 2.2.
    """

    logits: Array
    temperature: Array | float
    straight_through: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def support(self) -> Support:
        return _ONE_HOT if self.straight_through else _SIMPLEX

    @property
    def categorical(self) -> OneHotCategorical:
        """The choice that is relaxed, which has a mean and a mode."""
        return OneHotCategorical(self.logits)

    def log_prob(self, event: Array) -> Array:
        if self.straight_through:
            return self.categorical.log_prob(event)
        event = _vectors(self, event)
        log_event = jnp.log(_at_least_tiny(event))
        log_prob = _log_density_of_logs(self, log_event) - jnp.sum(log_event)
        return jnp.where(_sums_to_one(event), log_prob, -jnp.inf)

    def sample(self, key: Key) -> Array:
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        log_event, dtype = _log_relaxed(self, key), jnp.asarray(self.logits).dtype
        relaxed = _at_least_tiny(jnp.exp(log_event))
        if not self.straight_through:
            # From the logarithms, which keep what the event rounds off.
            log_prob = _log_density_of_logs(self, log_event) - jnp.sum(log_event)
            return relaxed.astype(dtype), log_prob
        chosen = _one_hot(jnp.argmax(log_event, axis=-1), relaxed)
        # The difference is 0, so that the entries are 0 and 1 exactly.
        event = chosen + (relaxed - jax.lax.stop_gradient(relaxed))
        return event.astype(dtype), self.categorical.log_prob(event)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpRelaxedCategorical:
    """Distribution of the logarithms of a relaxed choice (ExpConcrete).

    x = log y for y of a `RelaxedCategorical`. With l the logits, n classes and
    temperature t, log p(x) = log Gamma(n) + (n - 1) log t + sum_k [l_k - t x_k]
    - n log sum_k exp(l_k - t x_k): finite in float32 at any temperature, where entries
    of y underflow. The decoder of such a latent begins with exp(x). Differences of two
    log-densities are those of y, so every bound is the same.

    Attributes:
      logits: `[*event, classes]`, unnormalized log-probabilities of the choice.
      temperature: scalar, above 0; may be traced.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import ExpRelaxedCategorical
      >>> uniform = ExpRelaxedCategorical(jnp.zeros((1, 3)), temperature=1.0)
      >>> x = jnp.log(jnp.full((1, 3), 1 / 3))
      >>> round(float(uniform.log_prob(x)), 3)  # log 2 - 3 log 3
      -2.603

    Source: Maddison et al. 2017, appendix C.3.
    """

    logits: Array
    temperature: Array | float

    support: ClassVar[Support] = _LOG_SIMPLEX

    @property
    def categorical(self) -> OneHotCategorical:
        """The choice that is relaxed, which has a mean and a mode."""
        return OneHotCategorical(self.logits)

    def log_prob(self, event: Array) -> Array:
        event = _vectors(self, event)
        log_prob = _log_density_of_logs(self, event)
        return jnp.where(_sums_to_one(jnp.exp(event)), log_prob, -jnp.inf)

    def sample(self, key: Key) -> Array:
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        event = _log_relaxed(self, key)
        log_prob = _log_density_of_logs(self, event)
        return event.astype(jnp.asarray(self.logits).dtype), log_prob


def _logits(distribution: Any) -> Array:
    # In half precision many classes would draw the same noise.
    logits = jnp.asarray(distribution.logits)
    return logits.astype(density_dtype(logits))


def _temperature(distribution: Any) -> Array:
    return jnp.asarray(distribution.temperature, _logits(distribution).dtype)


def _vectors(distribution: Any, event: Any) -> Array:
    event = check_event(distribution, event, jnp.shape(distribution.logits))
    return jnp.asarray(event).astype(_logits(distribution).dtype)


def _one_hot(classes: Array, like: Array) -> Array:
    one_hot = jax.nn.one_hot(classes, like.shape[-1], dtype=like.dtype)
    missing = jnp.any(jnp.isnan(like), axis=-1, keepdims=True)
    return jnp.where(missing, jnp.nan, one_hot)


def _log_relaxed(distribution: Any, key: Key) -> Array:
    check_key(key)
    logits = _logits(distribution)
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return log_softmax((logits + noise) / _temperature(distribution))


def _log_density_of_logs(distribution: Any, event: Array) -> Array:
    """Return the ExpConcrete log-density of `[*event, classes]`, summed."""
    logits, temperature = _logits(distribution), _temperature(distribution)
    num = logits.shape[-1]
    # The density does not change where a number is added to the logits.
    terms = log_softmax(logits) - temperature * event
    each = jnp.sum(terms, axis=-1) - num * jax.nn.logsumexp(terms, axis=-1)
    constant = gammaln(jnp.asarray(num, logits.dtype)) + (num - 1) * jnp.log(
        temperature
    )
    return jnp.sum(each) + each.size * constant


def _at_least_tiny(event: Array) -> Array:
    tiny = jnp.asarray(jnp.finfo(jnp.float32).tiny, event.dtype)
    return jnp.where(event < tiny, tiny, event)


def _sums_to_one(event: Array) -> Array:
    """Return whether all vectors are on the simplex, or NaN, up to rounding."""
    # Events of models in half precision have 3 digits.
    off = jnp.abs(jnp.sum(event, axis=-1) - 1)
    return ~jnp.any(off > 0.02) & ~jnp.any(event < 0)
