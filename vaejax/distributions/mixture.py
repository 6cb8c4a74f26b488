"""A mixture of distributions of one family."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_key, log_prob_of
from vaejax.base import Array, Distribution, Event, Key, Support, draw
from vaejax.distributions._shared import SampleThenLogProb, density_dtype, log_softmax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture(SampleThenLogProb):
    """Mixture of K distributions of one family.

    log p(x) = log sum_k softmax(logits)_k p_k(x).

    Use it as a prior with clusters, or as a likelihood with several modes. A draw is
    differentiable in the components and not in the logits, so that a posterior of this
    class would not learn its weights. Where the components have a mean, it has one; its
    KL to any other distribution is estimated by `kl_monte_carlo`.

    Attributes:
      components: one distribution, every leaf of which has a leading axis `[K]`.
      logits: `[K]`, the weights before their softmax.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Mixture
      >>> means = jnp.array([[-2.0], [2.0]])
      >>> mixture = Mixture(vaejax.Normal(means, jnp.zeros((2, 1))), jnp.zeros(2))
      >>> mixture.mean.tolist(), mixture.responsibilities(jnp.zeros(1)).tolist()
      ([0.0], [0.5, 0.5])
      >>> round(float(mixture.log_prob(jnp.zeros(1))), 3)  # -2 - 1/2 log(2 pi)
      -2.919

    Source: Bishop 2006 (Pattern Recognition and Machine Learning), equations 9.7 and
    9.13.
    """

    components: Distribution
    logits: Array

    def log_prob(self, event: Event) -> Array:
        log_joint = self._log_joint(event)
        # Without mass at the event the derivative would be 0 / 0.
        is_outside = jnp.all(log_joint == -jnp.inf)
        log_prob = jax.nn.logsumexp(jnp.where(is_outside, 0, log_joint))
        return jnp.where(is_outside, -jnp.inf, log_prob)

    def responsibilities(self, event: Event) -> Array:
        """Return p(k|x) `[K]`, NaN where no component has mass at the event."""
        return jax.nn.softmax(self._log_joint(event))

    def sample(self, key: Key) -> Event:
        check_key(key)
        component_key, event_key = jax.random.split(key)
        index = jax.random.categorical(component_key, self._log_weights())
        component = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], self.components)
        return draw(event_key, component)

    @property
    def mean(self) -> Event:
        """Expected event, sum_k softmax(logits)_k mean_k."""
        weights = jnp.exp(self._log_weights())

        def average(means: Array) -> Array:
            total = jnp.tensordot(weights, means.astype(weights.dtype), axes=1)
            return total.astype(means.dtype)

        means = jax.vmap(lambda component: component.mean)(self.components)
        return jax.tree.map(average, means)

    @property
    def support(self) -> Support:
        components: Any = self.components  # the protocol leaves it open
        return components.support

    def _log_joint(self, event: Event) -> Array:
        """Return log [softmax(logits)_k p_k(x)], `[K]`."""
        log_weights = self._log_weights()
        log_probs = jax.vmap(lambda component: log_prob_of(component, event))(
            self.components
        )
        dtype = density_dtype(log_weights, log_probs)
        return log_weights.astype(dtype) + log_probs.astype(dtype)

    def _log_weights(self) -> Array:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(self)]
        if any(len(shape) == 0 or shape[0] != shapes[-1][0] for shape in shapes):
            raise ValueError(
                f"Mixture: the leaves of components have shapes {shapes[:-1]} and "
                f"logits {shapes[-1]}; give all of them one leading axis, that of the "
                "components."
            )
        return log_softmax(jnp.asarray(self.logits).astype(density_dtype(self.logits)))
