"""Normalizing flows: a distribution of invertible layers on a base.

The layers are in `flow_layers.py`; what makes them of a network's outputs or of
parameters is in `vaejax.networks`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from vaejax._checks import check_event, require
from vaejax.base import Array, Distribution, Key, Support, draw
from vaejax.distributions._shared import REAL, density_dtype, without_infinite


class FlowLayer(Protocol):
    """An invertible map of a vector, as a pytree.

    Where the inverse has a closed form the layer has a method `inverse(z) -> (z,
    log_det)` too, of which log_det is that of the inverse map.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Reversal
      >>> z, log_determinant = Reversal().forward(jnp.arange(3.0))
      >>> z.tolist(), float(log_determinant)
      ([2.0, 1.0, 0.0], 0.0)
    """

    def forward(self, z: Array) -> tuple[Array, Array]:
        """Return the image of z `[D]` and log |det dz'/dz|, a scalar."""
        ...


class _MissingInverse(AttributeError, TypeError):
    """Error of a flow that has no density of given events: `hasattr` is False."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flow:
    """Distribution of z_K = f_K(... f_1(z_0)), a vector z_0 moved by invertible layers.

    log p(z_K) = log p_0(z_0) - sum_k log |det df_k/dz_(k-1)|.

    It can always be sampled with its log-density, which is all that a posterior needs.
    `log_prob` of a given event, which a prior needs, exists where every layer has an
    inverse; elsewhere it raises TypeError and names the layer. There is no `mean`.

    Attributes:
      base: the distribution of z_0, over `[D]`.
      layers: a tuple of `FlowLayer`, the first one applied first.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Flow, PlanarLayer
      >>> base = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
      >>> layer = PlanarLayer(jnp.ones(2), jnp.ones(2), jnp.zeros(()))
      >>> flow = Flow(base, (layer, layer))
      >>> z, log_prob = flow.sample_and_log_prob(jax.random.key(0))
      >>> z.shape, log_prob.shape, hasattr(flow, "log_prob")
      ((2,), (), False)

    Source: Rezende & Mohamed 2015, equation 13.
    """

    base: Distribution
    layers: tuple[FlowLayer, ...]

    support: ClassVar[Support] = REAL

    def sample(self, key: Key) -> Array:
        return self._forward(require(self.base, "sample")(key))[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        z, log_prob = require(self.base, "sample_and_log_prob")(key)
        z, log_determinant = self._forward(z)
        return z, log_prob.astype(log_determinant.dtype) - log_determinant

    @property
    def log_prob(self) -> Callable[[Array], Array]:
        """Function of an event, its log-density in nats."""
        for layer in self.layers:
            if not hasattr(layer, "inverse"):
                raise _MissingInverse(
                    f"Flow has no log_prob: {type(layer).__name__} has no inverse in "
                    "closed form, as an AffineCoupling has"
                )
        return self._log_prob

    def _log_prob(self, event: Array) -> Array:
        dtype = density_dtype(*jax.tree.leaves(self))
        key = jax.random.key(0)
        shape = jax.eval_shape(lambda: draw(key, self.base)).shape
        event = jnp.asarray(check_event(self, event, shape)).astype(dtype)
        z, outside = without_infinite(event)
        log_determinant = jnp.zeros((), dtype)
        for layer in reversed(_in_dtype(self.layers, dtype)):
            z, more = layer.inverse(z)
            log_determinant = log_determinant + more
        log_prob = require(self.base, "log_prob")(z).astype(dtype) + log_determinant
        return jnp.where(outside, -jnp.inf, log_prob)

    def _forward(self, z: Array) -> tuple[Array, Array]:
        """Return the image of z under all layers, and the sum of their log_det."""
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(z, *_floating(self.layers))
        z, log_determinant = z.astype(dtype), jnp.zeros((), density_dtype(dtype))
        for layer in _in_dtype(self.layers, dtype):
            z, more = layer.forward(z)
            log_determinant = log_determinant + more
        return z, log_determinant


def _floating(tree: Any) -> list[Array]:
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]


def _in_dtype(tree: Any, dtype: Any) -> Any:
    """Return layers whose floating leaves have one dtype."""
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf).astype(dtype)
            if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
            else leaf
        ),
        tree,
    )
