"""Likelihoods of arrays with missing cells, such as series of unequal length."""

import dataclasses

import jax
import jax.numpy as jnp

from vaejax._checks import check_event, check_key
from vaejax.base import Array, Distribution, Event, Head, HeadLike, Key, Params
from vaejax.columns import MaskedEvent
from vaejax.distributions._shared import SampleThenLogProb, shape_of
from vaejax.distributions.heads import as_head


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Masked(SampleThenLogProb):
    """Distribution of an array of independent cells, of which some are missing.

    log p(x) is the sum over the observed cells. An event is a `MaskedEvent` of the
    shape of the distribution, or an array, all of which is observed. What stands in a
    missing cell changes neither value nor gradient. A draw is a complete array.

    Attributes:
      distribution: a distribution whose parameters all have the shape of the event, or
        none, and that has mass at 0: `Normal`, `Laplace`, `StudentT`, `Bernoulli`,
        `Poisson`, `NegativeBinomial` and the like.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Masked, MaskedEvent
      >>> series = Masked(vaejax.Normal(jnp.zeros((3, 2)), jnp.zeros((3, 2))))
      >>> first_two = jnp.array([[True, True], [True, True], [False, False]])
      >>> x = MaskedEvent(jnp.zeros((3, 2)), first_two)
      >>> round(float(series.log_prob(x)), 3)  # -4/2 log(2 pi)
      -3.676

    Source: Mattei & Frellsen 2019 (MIWAE), on the likelihood of what is
    observed.
    """

    distribution: Distribution

    def log_prob(self, event: Event) -> Array:
        shape = shape_of(self.distribution)
        if not isinstance(event, MaskedEvent):
            return self.distribution.log_prob(event)
        values = jnp.asarray(check_event(self, event.values, shape))
        mask = jnp.asarray(check_event(self, event.mask, shape)).astype(bool).ravel()
        cells = jnp.where(mask, values.ravel(), jnp.zeros((), values.dtype))
        flat = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, shape).ravel(), self.distribution
        )
        log_probs = jax.vmap(lambda one, cell: one.log_prob(cell))(flat, cells)
        return jnp.sum(jnp.where(mask, log_probs, 0))

    def sample(self, key: Key) -> Array:
        check_key(key)
        return self.distribution.sample(key)

    @property
    def mean(self) -> Array:
        return self.distribution.mean

    @property
    def mode(self) -> Array:
        return self.distribution.mode


def masked_head(likelihood: HeadLike) -> Head:
    """Build a head whose distributions take a `MaskedEvent`, see `Masked`.

    Args:
      likelihood: a head of independent cells, or a distribution class that carries one.

    Returns:
      A head of as many parameters.

    Raises:
      TypeError: `likelihood` is no head and carries none.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import masked_head
      >>> head = masked_head(vaejax.Normal)
      >>> head.apply((), jnp.zeros((20, 3, head.num_parameters))).mean.shape
      (20, 3)
    """
    head = as_head(likelihood)

    def apply(params: Params, outputs: Array) -> Masked:
        return Masked(head.apply(params, outputs))

    return Head(head.num_parameters, head.init, apply)
