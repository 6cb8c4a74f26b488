"""Distributions of NumPyro as distributions over one event.

NumPyro is imported only where a distribution of its is taken, so that `import vaejax`
does not load it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_event, check_key, described
from vaejax._supports import is_inside, read_support, standard_promotion
from vaejax.base import Array, Key, Support
from vaejax.distributions._shared import density_dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FromNumpyro:
    """Distribution of NumPyro over one event, its batch axes included.

    `mean` and `mode` exist where NumPyro has them. `support` is NumPyro's, None where
    its bounds are traced.

    Attributes:
      distribution: that of NumPyro.
    """

    distribution: Any

    def log_prob(self, event: Any) -> Array:
        event = jnp.asarray(check_event(self, event, _shape_of(self.distribution)))
        return self._scored(event, [])

    def sample(self, key: Key) -> Any:
        check_key(key)
        with standard_promotion():
            return self.distribution.sample(key)

    def sample_and_log_prob(self, key: Key) -> tuple[Any, Array]:
        check_key(key)
        # A flow scores its draw by what it has computed on the way.
        with standard_promotion():
            event, intermediates = self.distribution.sample_with_intermediates(key)
        return event, self._scored(event, intermediates)

    @property
    def mean(self) -> Any:
        return self._moment("mean")

    @property
    def mode(self) -> Any:
        return self._moment("mode")

    @property
    def support(self) -> Support | None:
        return read_support(self.distribution)

    def kl_divergence(self, p: Any) -> Array:
        """Return KL(self || p) in nats where NumPyro knows it in closed form."""
        from numpyro.distributions import kl_divergence

        unknown = TypeError(
            f"kl_divergence: no closed form in NumPyro for KL({self._name} || "
            f"{getattr(p, '_name', type(p).__name__)}); estimate it from samples with "
            "kl_fn=vaejax.kl_monte_carlo."
        )
        if not isinstance(p, FromNumpyro):
            raise unknown
        shapes = self.distribution.shape(), p.distribution.shape()
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"kl_divergence: q is over events of shape {shapes[0]} and p over "
                f"{shapes[1]}; both must be over the same event."
            )
        try:
            with standard_promotion():
                return jnp.sum(kl_divergence(self.distribution, p.distribution))
        except NotImplementedError as error:
            raise unknown from error

    @property
    def _name(self) -> str:
        return type(self.distribution).__name__

    def _scored(self, event: Array, intermediates: list) -> Array:
        inner = self.distribution
        # Sums over an event in half precision would lose whole nats.
        inner = jax.tree.map(_at_least_single, inner)
        with standard_promotion():
            log_probs = (
                inner.log_prob(_at_least_single(event), intermediates)
                if intermediates
                else inner.log_prob(_at_least_single(event))
            )
            log_prob = jnp.sum(log_probs)
        # Some densities of NumPyro are as high outside their support.
        inside = is_inside(inner, event)
        if inside is not None:
            log_prob = jnp.where(inside, log_prob, -jnp.inf)
        if not jnp.issubdtype(event.dtype, jnp.floating):
            return log_prob
        return jnp.where(jnp.any(jnp.isnan(event)), jnp.nan, log_prob)

    def _moment(self, name: str) -> Any:
        try:
            with standard_promotion():
                moment = getattr(self.distribution, name)
        except NotImplementedError as error:
            raise AttributeError(f"NumPyro's {self._name} has no {name}") from error
        return jnp.broadcast_to(moment, self.distribution.shape())


def _shape_of(distribution: Any) -> tuple[int, ...]:
    """Return the shape of an event, with the axes that the parameters have now.

    Under `jax.vmap` NumPyro's own account still has the axis that is mapped over.
    """
    constraints = getattr(distribution, "arg_constraints", {})
    own = {name: vars(distribution).get(name) for name in constraints}
    if not own or any(value is None for value in own.values()):
        return distribution.shape()
    batches = [
        np.shape(value)[: np.ndim(value) - constraints[name].event_dim]
        for name, value in own.items()
    ]
    inner = vars(distribution).get("base_dist")
    if inner is not None:
        shape = _shape_of(inner)
        batches.append(shape[: len(shape) - inner.event_dim])
    return (*np.broadcast_shapes(*batches), *distribution.event_shape)


def _at_least_single(leaf: Any) -> Any:
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        return leaf
    return jnp.asarray(leaf).astype(density_dtype(leaf))


def from_numpyro(distribution: Any) -> FromNumpyro:
    """Return a distribution of NumPyro as one of a posterior, prior or likelihood.

    One event has NumPyro's batch axes and event axes, so that `log_prob` is a scalar
    without `.to_event`. It is -inf outside NumPyro's support, and float32 for
    parameters in half precision. A prior or likelihood may be a NumPyro distribution
    as it is, with `.to_event`; a posterior needs `sample_and_log_prob`, which this has.

    Gradients flow through draws in those parameters that NumPyro reparameterizes
    (`distribution.reparametrized_params`), and not through the choice of a mixture's
    component, the concentration of a VonMises or a discrete draw.

    Args:
      distribution: an instance of `numpyro.distributions.Distribution`, made within the
        function that is mapped where it is one of a batch.

    Returns:
      A pytree with `log_prob`, `sample`, `sample_and_log_prob`, `support`, and `mean`
      and `mode` where NumPyro has them.

    Raises:
      ImportError: NumPyro is not installed.
      TypeError: the argument is no distribution of NumPyro.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpyro.distributions as numpyro
      >>> from vaejax.distributions import from_numpyro
      >>> student = from_numpyro(numpyro.StudentT(1.0, jnp.zeros(3), 1.0))
      >>> round(float(student.log_prob(jnp.zeros(3))), 3)  # -3 log(pi)
      -3.434

    Source: Phan et al. 2019 (NumPyro).
    """
    try:
        from numpyro.distributions import Distribution
    except ImportError as error:
        raise ImportError(
            "from_numpyro needs NumPyro: pip install 'vaejax[numpyro]'."
        ) from error
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"from_numpyro: distribution is {described(distribution)}; give an "
            "instance of a distribution of NumPyro, such as StudentT(3.0, loc, scale)."
        )
    return FromNumpyro(distribution)
