"""Distributions on the unit sphere: von Mises-Fisher, and the uniform one.

z holds n coordinates with |z| = 1. `_projections.py` has the one dimension of z in
which a von Mises-Fisher distribution is not uniform.
"""

import dataclasses
import math
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_event, check_in_range, check_key
from vaejax.base import Array, Head, Key, Support
from vaejax.distributions._projections import (
    draw_distance,
    log_mean_exp,
    mean_distance,
)
from vaejax.distributions._shared import density_dtype
from vaejax.distributions.heads import parameter_free_head, soft_clip


def _is_unit(z: Any, numpy: Any = jnp) -> Any:
    """Return whether vectors are of length 1, to the precision of their dtype."""
    dtype = z.dtype if jnp.issubdtype(z.dtype, jnp.floating) else jnp.float32
    eps = max(float(jnp.finfo(dtype).eps), float(jnp.finfo(jnp.float32).eps))
    wide = z.astype(density_dtype(z))
    length = numpy.sqrt(numpy.sum(numpy.square(wide), axis=-1, keepdims=True))
    return numpy.abs(length - 1) < 10 * eps * math.sqrt(z.shape[-1])


def _contains(x: Any) -> Any:
    x = np.asarray(x)
    if not x.ndim:
        return np.abs(x) == 1
    return np.broadcast_to(_is_unit(x, np), x.shape)


_SPHERE = Support("vectors of length 1", _contains)


def _log_area(size: int) -> float:
    """Return the logarithm of 2 pi^(n / 2) / Gamma(n / 2)."""
    return math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["dimension"])
@dataclasses.dataclass(frozen=True)
class UniformSphere:
    """Uniform distribution on the unit sphere.

    log p(z) = log Gamma(n / 2) - log 2 - n / 2 log pi, a density by area, for |z| = 1.

    Use it as the prior of a `VonMisesFisher` posterior.

    Attributes:
      dimension: n, the number of coordinates of z, at least 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import UniformSphere
      >>> z = jnp.array([0.6, 0.0, 0.8])
      >>> round(float(UniformSphere(3).log_prob(z)), 3)  # -log(4 pi)
      -2.531

    Source: Davidson et al. 2018, section 3.
    """

    dimension: int

    support: ClassVar[Support] = _SPHERE

    def log_prob(self, event: Array) -> Array:
        event = jnp.asarray(check_event(self, event, (self.dimension,)))
        return _on_sphere(event, jnp.full((), -_log_area(self.dimension)))

    def sample(self, key: Key) -> Array:
        check_key(key)
        noise = jax.random.normal(key, (self.dimension,))
        return noise / jnp.linalg.norm(noise)

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        return self.sample(key), jnp.full((), -_log_area(self.dimension))

    @property
    def mean(self) -> Array:
        return jnp.zeros(self.dimension)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VonMisesFisher:
    """Von Mises-Fisher distribution on the unit sphere, around a mean direction mu.

    p(z) = exp(k mu . z) k^(n / 2 - 1) / [(2 pi)^(n / 2) I_(n / 2 - 1)(k)], a density by
    area, with concentration k and |z| = 1.

    Use it as a posterior with the prior `UniformSphere`, for latents that are
    directions. Draws are exact, by rejection; they are differentiable in both
    parameters, in the concentration by implicit reparameterization, which is unbiased.

    Attributes:
      mean_direction: `[n]`, n at least 2, not 0; only its direction counts.
      concentration: scalar, k, at least 0; at 0 the distribution is uniform.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import VonMisesFisher
      >>> up = VonMisesFisher(jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0))
      >>> round(float(up.mean[2]), 3)  # coth(1) - 1
      0.313
      >>> round(float(up.log_prob(jnp.array([1.0, 0.0, 0.0]))), 3)  # -log(4 pi sinh(1))
      -2.692

    Source: Davidson et al. 2018, section 3; the draws: Wood 1994; their derivative:
    Figurnov et al. 2018, section 3.
    """

    mean_direction: Array
    concentration: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = _SPHERE

    def log_prob(self, event: Array) -> Array:
        event = jnp.asarray(check_event(self, event, jnp.shape(self.mean_direction)))
        mu, k = self._unit_and_concentration()
        # 1 - mu . z, which would lose the digits of z close to mu.
        distance = jnp.sum(jnp.square(event.astype(mu.dtype) - mu)) / 2
        return _on_sphere(event, self._log_density(distance, k))

    def sample(self, key: Key) -> Array:
        return self._event_and_distance(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        event, distance = self._event_and_distance(key)
        _, k = self._unit_and_concentration()
        return event, self._log_density(distance, k)

    @property
    def mean(self) -> Array:
        """The expected event, within the sphere."""
        mu, k = self._unit_and_concentration()
        mean = (1 - mean_distance(k, mu.size)) * mu
        return mean.astype(self.mean_direction.dtype)

    @property
    def mode(self) -> Array:
        """The mean direction, of length 1."""
        mu, _ = self._unit_and_concentration()
        return mu.astype(self.mean_direction.dtype)

    def kl_divergence(self, p: Any) -> Array:
        """Return KL(self || p) in nats, of a UniformSphere or a VonMisesFisher."""
        if not isinstance(p, UniformSphere | VonMisesFisher):
            raise TypeError(
                f"kl_divergence: no closed form for KL(VonMisesFisher || "
                f"{type(p).__name__}); give the model the prior UniformSphere, by "
                "vaejax.priors.with_spherical_prior."
            )
        mu, k = self._unit_and_concentration()
        is_uniform = isinstance(p, UniformSphere)
        size = p.dimension if is_uniform else jnp.shape(p.mean_direction)[-1]
        if size != mu.size:
            raise ValueError(
                f"kl_divergence: q is over vectors of {mu.size} coordinates and p of "
                f"{size}; give both the latent_size of the model."
            )
        distance = mean_distance(k, size)
        own = -k * distance - log_mean_exp(k, size)
        if is_uniform:
            return own
        p_mu, p_k = p._unit_and_concentration()
        # E_q[1 - mu_p . z] = E[y] + (1 - mu_q . mu_p) (1 - E[y]).
        apart = jnp.sum(jnp.square(mu - p_mu)) / 2
        to_p = distance + apart * (1 - distance)
        return own + p_k * to_p + log_mean_exp(p_k, size)

    def _log_density(self, distance: Array, concentration: Array) -> Array:
        size = self.mean_direction.shape[-1]
        log_mean = log_mean_exp(concentration, size)
        return -concentration * distance - log_mean - _log_area(size)

    def _unit_and_concentration(self) -> tuple[Array, Array]:
        dtype = density_dtype(self.mean_direction, self.concentration)
        mu = jnp.asarray(self.mean_direction).astype(dtype)
        return mu / jnp.linalg.norm(mu), jnp.asarray(self.concentration).astype(dtype)

    def _event_and_distance(self, key: Key) -> tuple[Array, Array]:
        check_key(key)
        distance_key, noise_key = jax.random.split(key)
        mu, k = self._unit_and_concentration()
        y = draw_distance(distance_key, k, mu.size)
        first = jnp.zeros_like(mu).at[0].set(1)
        noise = jax.random.normal(noise_key, mu.shape, mu.dtype) * (1 - first)
        # sin of the angle between z and mu.
        is_off = y > 0
        sine = jnp.where(is_off, jnp.sqrt(jnp.where(is_off, y * (2 - y), 1)), 0)
        across = sine * noise / jnp.linalg.norm(noise)
        # (1 - y) e + across, with e the first axis on the side away from mu, reflected
        # so that e becomes mu: smooth in mu but where e changes sides.
        share = jnp.sum(mu * across) / (1 + jnp.abs(mu[0]))
        side = jnp.where(mu[0] > 0, -1, 1).astype(mu.dtype)
        event = across + (1 - y - share) * mu + share * side * first
        return event.astype(self.mean_direction.dtype), y


def _on_sphere(event: Array, log_prob: Array) -> Array:
    """Return -inf of an event that is not of length 1, and NaN of NaN."""
    is_number = ~jnp.any(jnp.isnan(event))
    log_prob = jnp.where(_is_unit(event)[0], log_prob, -jnp.inf)
    return jnp.where(is_number, log_prob, jnp.nan)


def von_mises_fisher_head(*, min_concentration: float = 1.0) -> Head:
    """Build a head that makes a VonMisesFisher of two arrays.

    The mean direction is that of the first array. The concentration comes from the sum
    of the second over sqrt(n), one linear function of the network's features: it is
    1.54 above its lower bound for an output of 0, and linear in large outputs.

    Args:
      min_concentration: lower bound of the concentration, soft, at least 0.

    Returns:
      A head of 2 parameters: the network outputs `[n, 2]`.

    Raises:
      ValueError: `min_concentration` is negative or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.von_mises_fisher_head()
      >>> posterior = head.apply((), jnp.ones((4, 2)))
      >>> posterior.mode.tolist(), posterior.concentration.shape
      ([0.5, 0.5, 0.5, 0.5], ())

    Source: Davidson et al. 2018, who add 1 to a softplus.
    """
    check_in_range("von_mises_fisher_head: min_concentration", min_concentration, 0)

    def make(direction: Array, sharpness: Array) -> VonMisesFisher:
        # Outputs of zeros have no direction.
        is_zero = jnp.all(direction == 0)
        first = jnp.zeros_like(direction).at[0].set(1)
        direction = jnp.where(is_zero, first, direction)
        share = jnp.sum(sharpness) / math.sqrt(sharpness.size)
        share = soft_clip(share + min_concentration + 1, min_concentration, math.inf)
        return VonMisesFisher(direction, share)

    return parameter_free_head(make, num_parameters=2)


VonMisesFisher.head = von_mises_fisher_head()
