"""Distributions over classes: Bernoulli over two, Categorical over any number."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from vaejax._checks import (
    check_count,
    check_event,
    check_key,
    check_not_gray_levels,
)
from vaejax.base import Array, Head, Key, Params, Support
from vaejax.distributions._shared import (
    SampleThenLogProb,
    density_dtype,
    no_parameters,
    scored_as_vectors,
    shifted_logits,
)
from vaejax.distributions.heads import parameter_free_head

_BINARY = Support("0 and 1", lambda x: (x == 0) | (x == 1))
# How many classes there are is not known here.
_CLASSES = Support("classes 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))


@jax.custom_jvp
def _sigmoid(logits: Array) -> Array:
    exponential = jnp.exp(-jnp.abs(logits))
    return jnp.where(logits > 0, 1, exponential) / (1 + exponential)


@_sigmoid.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # s'(l) = e / (1 + e)^2 for e = exp(-|l|), even in l. JAX would take d|l|/dl to be 1
    # at l = 0, where new networks start.
    (logits,), (logits_dot,) = primals, tangents
    exponential = jnp.exp(-jnp.abs(logits))
    return _sigmoid(logits), exponential / jnp.square(1 + exponential) * logits_dot


@jax.custom_jvp
def _log_prob(logits: Array, x: Array) -> Array:
    # -log p = max(l, 0) - x l + log(1 + exp(-|l|)): finite at any logit, that of the
    # largest number included. Comparisons would keep it out of XLA's fused products.
    largest = jnp.finfo(logits.dtype).max
    size = jnp.clip(logits, -largest, largest)
    against = jnp.maximum(size, 0) - jnp.clip(x, 0, 1) * size
    log_prob = -jnp.sum(against + jnp.log1p(jnp.exp(-jnp.abs(logits))))
    # An infinite logit against the event counts as the largest number.
    is_impossible = (log_prob < -1e-6 * largest) | jnp.any((x < 0) | (x > 1))
    return jnp.where(is_impossible, -jnp.inf, log_prob)


@partial(_log_prob.defjvp, symbolic_zeros=True)
def _(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    # The same by element, where the exponential is that of the derivative too:
    # -log p = |l| w + log(1 + exp(-|l|)), w the weight of the class against the logit.
    (logits, x), (logits_dot, x_dot) = primals, tangents
    size, weight = jnp.abs(logits), jnp.where(logits > 0, 1 - x, x)
    # A weight of 0 is kept from an infinite logit.
    value = jnp.where(weight == 0, 0, size) * weight + jnp.log1p(jnp.exp(-size))
    log_prob = -jnp.sum(jnp.where((x < 0) | (x > 1), jnp.inf, value))
    # d/dl = x - sigmoid(l).
    terms = []
    if not isinstance(logits_dot, SymbolicZero):
        terms.append(jnp.sum((x - _sigmoid(logits)) * logits_dot))
    if not isinstance(x_dot, SymbolicZero):
        terms.append(jnp.sum(logits * x_dot))
    return log_prob, sum(terms[1:], start=terms[0])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bernoulli(SampleThenLogProb):
    """Distribution of independent binary dimensions.

    log p(x) = sum_i [x_i log sigmoid(l_i) + (1 - x_i) log sigmoid(-l_i)].

    It is a density on {0, 1}; on gray values in [0, 1] the same expression is minus the
    cross-entropy, which is not normalized, and outside it is -inf. Use it for binary or
    binarized images. Events of unsigned integers, which may be gray levels, raise
    TypeError while they are traced, and ValueError where one is above 1.

    Attributes:
      logits: `[*event]`, l = log p / (1 - p).

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> fair = vaejax.Bernoulli(logits=jnp.zeros(3))
      >>> round(float(fair.log_prob(jnp.ones(3))), 3)  # 3 log(1/2)
      -2.079

    Source: Kingma & Welling 2014, equation 11.
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = _BINARY

    def log_prob(self, event: Array) -> Array:
        check_not_gray_levels(
            self,
            event,
            "gray levels: with_transform(objective, binarize); 0/1 data: astype(bool)",
        )
        self, event = scored_as_vectors(self, event)
        return _log_prob(self.logits, event)

    def sample(self, key: Key) -> Array:
        check_key(key)
        logits = jnp.asarray(self.logits)
        # In half precision the uniform draw would have 8 or 11 bits.
        mean = jax.nn.sigmoid(logits.astype(density_dtype(logits)))
        event = jax.random.bernoulli(key, mean).astype(mean.dtype)
        return jnp.where(jnp.isnan(mean), mean, event).astype(logits.dtype)

    @property
    def mean(self) -> Array:
        return jax.nn.sigmoid(self.logits)

    @property
    def mode(self) -> Array:
        return (self.logits > 0).astype(self.logits.dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical(SampleThenLogProb):
    """Distribution of independent choices among classes.

    log p(x) = sum_i log softmax(logits_i)[x_i], x_i an integer class.

    Use it for tokens and labels. It has a `mode` but no `mean`: classes are not
    numbers.

    Attributes:
      logits: `[*event, classes]`, unnormalized log-probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> uniform = vaejax.Categorical(logits=jnp.zeros((2, 4)))
      >>> round(float(uniform.log_prob(jnp.array([0, 3]))), 3)  # 2 log(1/4)
      -2.773

    Source: Bishop 2006 (Pattern Recognition and Machine Learning), equation 2.26.
    """

    logits: Array

    support: ClassVar[Support] = _CLASSES

    def log_prob(self, event: Array) -> Array:
        event = check_event(self, event, jnp.shape(self.logits)[:-1])
        logits = jnp.asarray(self.logits).astype(density_dtype(self.logits))
        return jnp.sum(log_probs_of(logits, as_classes(self, event)))

    def sample(self, key: Key) -> Array:
        check_key(key)
        # In half precision many classes would draw the same noise.
        logits = jnp.asarray(self.logits).astype(density_dtype(self.logits))
        return jax.random.categorical(key, logits)

    @property
    def mode(self) -> Array:
        return jnp.argmax(self.logits, axis=-1)


def as_classes(distribution: Any, event: Any, noun: str = "classes") -> Array:
    """Return an event of classes as signed integers, or raise TypeError."""
    event = jnp.asarray(event)
    if event.dtype != bool and not jnp.issubdtype(event.dtype, jnp.integer):
        raise TypeError(
            f"{type(distribution).__name__}.log_prob: {noun} are {event.dtype}; give "
            "integers, such as x.astype(int)."
        )
    # One that is too large for the signed dtype becomes negative: no class either.
    return event.astype(jnp.int64 if event.dtype.itemsize > 4 else jnp.int32)


def log_probs_of(logits: Array, classes: Array) -> Array:
    """Return the log-probability of each class on the last axis, -inf of no class."""
    is_class = (classes >= 0) & (classes < logits.shape[-1])
    index = jnp.where(is_class, classes, 0)[..., None]
    # Normalized after the choice, since all log-probabilities are not needed.
    shifted, log_total = shifted_logits(logits)
    log_prob = jnp.take_along_axis(shifted, index, axis=-1) - log_total
    return jnp.where(is_class, log_prob[..., 0], -jnp.inf)


def categorical_head(num_classes: int) -> Head:
    """Build a head that makes a Categorical for each dimension.

    Args:
      num_classes: the number of classes, at least 2.

    Returns:
      A head of `num_classes` parameters: the network outputs `[*event, num_classes]`.

    Raises:
      ValueError: there are fewer than two classes.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.categorical_head(10)
      >>> head.apply((), jnp.zeros((3, 10))).mode.shape
      (3,)
    """
    check_count("categorical_head: num_classes", num_classes)
    if num_classes < 2:
        raise ValueError(
            f"categorical_head: num_classes is {num_classes}; give at least 2."
        )

    def apply(params: Params, outputs: Array) -> Any:  # has a mode, and no mean
        return Categorical(outputs)

    return Head(num_classes, no_parameters, apply)


Bernoulli.head = parameter_free_head(Bernoulli)
