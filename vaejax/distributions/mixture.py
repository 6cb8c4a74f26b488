"""A mixture of distributions of one family."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_key, log_prob_of
from vaejax._programs import run
from vaejax.base import Array, Distribution, Event, Key, Support, draw
from vaejax.distributions._shared import (
    SampleThenLogProb,
    density_dtype,
    log_softmax,
    scored,
)
from vaejax.distributions.continuous import Normal

# From this number on, a CPU scores Normals one dimension after another.
_MANY = 100


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
        if isinstance(self.components, Normal) and len(log_weights) >= _MANY:
            log_probs = _log_probs_of_normals(self.components, event)
        else:
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


def _log_probs_of_normals(normals: Normal, event: Event) -> Array:
    """Return log p_k(x) `[K]` of many Normals."""
    normals, event = jax.vmap(partial(scored, event=event), out_axes=(0, None))(normals)
    # K comes last, so that inner loops are long.
    columns = jax.tree.map(
        lambda leaf: (
            jnp.broadcast_to(leaf.reshape(len(leaf), -1), (len(leaf), event.size)).T
        ),
        normals,
    )
    return run(_sum_over_dimensions, (), columns, event.ravel())


def _sum_over_dimensions(columns: Normal, event: Array) -> Array:
    """Return the sum of log N(x_d; mean_dk, exp(log_variance_dk)) over d, `[K]`."""
    return jax.lax.platform_dependent(columns, event, cpu=_in_turn, default=_at_once)


def _at_once(columns: Normal, event: Array) -> Array:
    return jnp.sum(jax.vmap(_log_probs_of_dimension)(columns, event), axis=0)


def _in_turn(columns: Normal, event: Array) -> Array:
    """Return the sum without holding the terms of all dimensions.

    Held for a whole batch, with what their gradient needs, they make a CPU slower.
    """
    start = jnp.zeros_like(columns.mean[0])
    return jax.lax.scan(_add_dimension, start, (columns, event))[0]


@partial(jax.checkpoint, prevent_cse=False)
def _add_dimension(total: Array, dimension: tuple[Normal, Array]) -> tuple[Array, None]:
    return total + _log_probs_of_dimension(*dimension), None


def _log_probs_of_dimension(column: Normal, x: Array) -> Array:
    return jax.vmap(lambda normal: normal.log_prob(x))(column)
