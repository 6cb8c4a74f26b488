"""A distribution shifted and scaled: the same one in other units."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vaejax._checks import as_event
from vaejax._supports import is_all_reals, require_support
from vaejax.base import Array, Distribution, Event, Key, Support
from vaejax.distributions._shared import REAL, density_dtype


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["distribution", "shift", "scale"],
    meta_fields=["is_mass"],
)
@dataclasses.dataclass(frozen=True)
class Affine:
    """Distribution of shift + scale * y, for a distribution of y.

    log p(x) = log p_y((x - shift) / scale) - sum_i log scale_i for a density of y;
    masses of discrete values are the same in any units.

    Use it to state a density in the units of the data, when its parameters suit a
    network better in units of their standard deviation. The event is subtracted from
    first, so that a large offset costs no digits.

    Attributes:
      distribution: that of y, over `[*event]`.
      shift: `[*event]`, or a scalar.
      scale: `[*event]`, or a scalar, above 0.
      is_mass: whether y is discrete, so that its log-probability is that of x.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Affine, Laplace
      >>> standard = Laplace(mean=jnp.zeros(1), log_scale=jnp.zeros(1))
      >>> dollars = Affine(standard, shift=jnp.full(1, 2e4), scale=jnp.full(1, 1e4))
      >>> round(float(dollars.mean[0]))
      20000
      >>> round(float(dollars.log_prob(jnp.full(1, 2e4))), 3)  # -log(2e4)
      -9.903

    Source: Papamakarios et al. 2021 (flows), equation 3, for an affine map.
    """

    distribution: Distribution
    shift: Array | float
    scale: Array | float
    is_mass: bool = False

    def log_prob(self, event: Event) -> Array:
        event = jnp.asarray(as_event(self, event))
        dtype = density_dtype(*jax.tree.leaves(self))
        shift, scale = self._units(dtype, jnp.shape(event))
        standard = (event.astype(dtype) - shift) / scale
        return self._less_jacobian(self.distribution.log_prob(standard), standard)

    def sample(self, key: Key) -> Event:
        return self._moved(self.distribution.sample(key))

    def sample_and_log_prob(self, key: Key) -> tuple[Event, Array]:
        standard, log_prob = self.distribution.sample_and_log_prob(key)
        return self._moved(standard), self._less_jacobian(log_prob, standard)

    @property
    def mean(self) -> Event:
        return self._moved(self.distribution.mean)

    @property
    def mode(self) -> Event:
        return self._moved(self.distribution.mode)

    @property
    def support(self) -> Support:
        inner = require_support(self.distribution)
        # All numbers are still all numbers; the scale may be abstract.
        if is_all_reals(inner, ()):
            return inner
        if isinstance(self.shift, jax.ShapeDtypeStruct):
            return REAL
        shift, scale = np.asarray(self.shift), np.asarray(self.scale)
        return Support(
            f"{inner.description}, times a scale and shifted",
            lambda x: inner.contains((x - shift) / scale),
        )

    def _less_jacobian(self, log_prob: Array, standard: Array) -> Array:
        if self.is_mass:
            return log_prob
        _, scale = self._units(log_prob.dtype, jnp.shape(standard))
        return log_prob - jnp.sum(jnp.broadcast_to(jnp.log(scale), jnp.shape(standard)))

    def _units(self, dtype: DTypeLike, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return shift and scale in a dtype, each a scalar or of the event's rank."""

        def fit(number: Array | float) -> Array:
            number = jnp.asarray(number).astype(dtype)
            return jnp.broadcast_to(number, shape) if number.ndim else number

        return fit(self.shift), fit(self.scale)

    def _moved(self, standard: Array) -> Array:
        dtype = density_dtype(*jax.tree.leaves(self))
        shift, scale = self._units(dtype, jnp.shape(standard))
        return (shift + scale * standard.astype(dtype)).astype(standard.dtype)
