"""The Normal of full covariance, by its Cholesky factor."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from vaejax._checks import check_bounds, check_count, check_event, check_key
from vaejax.base import Array, Head, Key, Params, Support
from vaejax.distributions._shared import (
    REAL,
    density_dtype,
    no_parameters,
    with_parameters,
    without_infinite,
)
from vaejax.distributions.heads import soft_clip

_LOG_2_PI = math.log(2 * math.pi)
# The scale of the off-diagonal entries in units of the network's outputs.
_OFF_DIAGONAL_SCALE = 0.1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultivariateNormal:
    """Normal distribution of a vector with full covariance, N(mean, L L^T).

    log p(x) = -1/2 [D log 2 pi + |L^-1 (x - mean)|^2] - sum_i log |L_ii|.

    Use it as a posterior whose dimensions are correlated. Its divergence from another,
    and from or to a `Normal`, has a closed form.

    Attributes:
      mean: `[D]`.
      scale_tril: `[D, D]`, L with a diagonal that is not 0; entries above the diagonal
        are not read.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import MultivariateNormal
      >>> normal = MultivariateNormal(jnp.zeros(2), jnp.array([[2.0, 0.0], [1.0, 1.0]]))
      >>> normal.covariance.tolist()
      [[4.0, 2.0], [2.0, 2.0]]
      >>> round(float(normal.log_prob(jnp.zeros(2))), 3)  # -log(2 pi) - log(2)
      -2.531

    Source: Kingma & Welling 2019, section 2.5.1.
    """

    mean: Array
    scale_tril: Array

    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        event = jnp.asarray(check_event(self, event, jnp.shape(self.mean)))
        dtype = density_dtype(self.mean, self.scale_tril)
        self = with_parameters(self, dtype, ())
        finite, outside = without_infinite(event.astype(dtype))
        noise = solve_triangular(self.scale_tril, finite - self.mean, lower=True)
        return jnp.where(outside, -jnp.inf, self._log_prob_of_noise(noise))

    def sample(self, key: Key) -> Array:
        return self._event_and_noise(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        event, noise = self._event_and_noise(key)
        dtype = density_dtype(self.mean, self.scale_tril)
        scores = with_parameters(self, dtype, ())
        return event, scores._log_prob_of_noise(noise.astype(dtype))

    @property
    def mode(self) -> Array:
        return self.mean

    @property
    def covariance(self) -> Array:
        """`[D, D]`, L L^T."""
        factor = jnp.tril(self.scale_tril)
        return factor @ factor.T

    def _event_and_noise(self, key: Key) -> tuple[Array, Array]:
        check_key(key)
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(self.mean, self.scale_tril)
        self = with_parameters(self, dtype, ())
        noise = jax.random.normal(key, jnp.shape(self.mean), dtype)
        return self.mean + jnp.tril(self.scale_tril) @ noise, noise

    def _log_prob_of_noise(self, noise: Array) -> Array:
        return -0.5 * jnp.sum(_LOG_2_PI + jnp.square(noise)) - jnp.sum(
            jnp.log(jnp.abs(jnp.diagonal(self.scale_tril)))
        )


def full_covariance_normal_head(
    latent_size: int,
    *,
    min_log_variance: float = -20.0,
    max_log_variance: float = 20.0,
) -> Head:
    """Build a head that makes a Normal with full covariance of every example's own.

    The network's outputs for dimension i are its mean, the logarithm of L_ii^2, and
    row i of L left of the diagonal in units of a tenth: a network starts near a
    diagonal covariance, without which training ends at worse bounds.

    Args:
      latent_size: D, the number of dimensions of z, at least 1.
      min_log_variance: lower bound of log L_ii^2, soft.
      max_log_variance: upper bound of log L_ii^2, above the lower one.

    Returns:
      A head of D + 1 parameters: the network outputs `[D, D + 1]`.

    Raises:
      ValueError: `latent_size` is not a positive integer, or the bounds are not in
        increasing order.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import full_covariance_normal_head
      >>> head = full_covariance_normal_head(3)
      >>> normal = head.apply((), jnp.ones((3, head.num_parameters)))
      >>> factor = normal.scale_tril
      >>> factor.shape, round(float(factor[1, 0]), 3), round(float(factor[1, 1]), 3)
      ((3, 3), 0.1, 1.649)

    Source: Kingma & Welling 2019, equations 2.31 to 2.33.
    """
    check_count("full_covariance_normal_head: latent_size", latent_size)
    check_bounds("log_variance", min_log_variance, max_log_variance)

    def apply(params: Params, outputs: Array) -> MultivariateNormal:
        del params
        if jnp.shape(outputs) != (latent_size, latent_size + 1):
            raise ValueError(
                f"full_covariance_normal_head: the outputs are {jnp.shape(outputs)} "
                f"for latent_size={latent_size}; give the head the latent_size of the "
                f"model, and a network that outputs {(latent_size, latent_size + 1)}."
            )
        log_variance = soft_clip(outputs[:, 1], min_log_variance, max_log_variance)
        left = jnp.pad(_OFF_DIAGONAL_SCALE * outputs[:, 2:], ((0, 0), (0, 1)))
        scale_tril = jnp.tril(left, -1) + jnp.diag(jnp.exp(log_variance / 2))
        return MultivariateNormal(outputs[:, 0], scale_tril)

    return Head(latent_size + 1, no_parameters, apply)
