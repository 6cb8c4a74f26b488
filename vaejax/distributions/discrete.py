"""Distributions over classes: Bernoulli and Categorical."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import check_event
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._shared import SampleThenLogProb, no_parameters
from vaejax.distributions.heads import parameter_free_head

BINARY = Support("0 and 1", lambda x: (x == 0) | (x == 1))
CLASSES = Support("classes 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))


@jax.custom_jvp
def _cross_entropy(logits: Array, x: Array) -> Array:
    # -log p = max(l, 0) - x l + log(1 + exp(-|l|)): finite at any logit.
    return jnp.maximum(logits, 0) - x * logits + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@_cross_entropy.defjvp
def _(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    # d/dl = sigmoid(l) - x from the exponential that the value needs, which half of the
    # work of a likelihood is. JAX takes the derivative of |l| at 0 to be 1, and new
    # networks put out zeros: sigmoid(0) is 1/2 here.
    (logits, x), (logits_dot, x_dot) = primals, tangents
    exponential = jnp.exp(-jnp.abs(logits))
    sigmoid = jnp.where(logits > 0, 1, exponential) / (1 + exponential)
    value = jnp.maximum(logits, 0) - x * logits + jnp.log1p(exponential)
    return value, (sigmoid - x) * logits_dot - logits * x_dot


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bernoulli(SampleThenLogProb):
    """Independent binary dimensions: log p(x) = sum_i [x_i log sigmoid(l_i) + (1 - x_i)
    log sigmoid(-l_i)].

    A density on {0, 1}; on gray values in [0, 1] the same expression is the
    cross-entropy, which is not normalized. The negative is the binary cross-entropy.
    Use it for binary or binarized images.

    Attributes:
      logits: `[*event]`, l = log p / (1 - p).
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = BINARY

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits))
        return -jnp.sum(_cross_entropy(self.logits, event))

    def sample(self, key: Key) -> Array:
        return jax.random.bernoulli(key, self.mean).astype(self.logits.dtype)

    @property
    def mean(self) -> Array:
        return jax.nn.sigmoid(self.logits)

    @property
    def mode(self) -> Array:
        return (self.logits > 0).astype(self.logits.dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical(SampleThenLogProb):
    """Independent choices among classes: log p(x) = sum_i log softmax(logits_i)[x_i],
    x_i an integer class.

    Use it for tokens and labels. It has a `mode` but no `mean`: classes are not
    numbers.

    Attributes:
      logits: `[*event, classes]`, unnormalized log-probabilities.
    """

    logits: Array

    support: ClassVar[Support] = CLASSES

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits)[:-1])
        log_probabilities = jax.nn.log_softmax(self.logits)
        return jnp.sum(
            jnp.take_along_axis(log_probabilities, event[..., None], axis=-1)
        )

    def sample(self, key: Key) -> Array:
        return jax.random.categorical(key, self.logits)

    @property
    def mode(self) -> Array:
        return jnp.argmax(self.logits, axis=-1)


Bernoulli.head = parameter_free_head(Bernoulli)


def categorical_head(num_classes: int) -> Head:
    """Categorical over `num_classes`; the network puts out `[*event, num_classes]`."""
    if num_classes < 2:
        raise ValueError(
            f"categorical_head: num_classes is {num_classes}; give at least 2."
        )
    return Head(
        num_classes, no_parameters, lambda params, outputs: Categorical(outputs)
    )
