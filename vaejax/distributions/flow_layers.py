"""Layers of a `Flow`: invertible maps of a vector and their log-determinants.

Every layer is valid whatever real numbers its arrays hold, so that they may be outputs
of a network, or be optimized, without constraints. Log-determinants are scalars, in
float32 for arrays in half precision.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._programs import run
from vaejax.base import Array
from vaejax.distributions._shared import density_dtype
from vaejax.distributions.heads import soft_clip

# Scales of a coupling layer are within exp(-5) and exp(5).
_MAX_LOG_SCALE = 5.0
# Where m(x) = log(1 + exp(x + c)) - 1 passes through 0, c = log(e - 1).
_SOFTPLUS_SHIFT = 0.541324854612918


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlanarLayer:
    """Planar layer f(z) = z + u' tanh(w.z + b), which moves z along one direction.

    u' = u + [m(w.u) - w.u] w / |w|^2 with m(x) = log(1 + (e - 1) exp(x)) - 1 > -1 keeps
    f invertible; the paper's m is not 0 at 0, which makes u' infinite where w tends to
    0. There is no inverse in closed form.

    Attributes:
      step: `[D]`, u.
      direction: `[D]`, w.
      bias: scalar, b.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import PlanarLayer
      >>> layer = PlanarLayer(jnp.zeros(2), jnp.array([3.0, 4.0]), jnp.zeros(()))
      >>> z, log_determinant = layer.forward(jnp.ones(2))
      >>> z.tolist(), float(log_determinant)
      ([1.0, 1.0], 0.0)

    Source: Rezende & Mohamed 2015, equations 10 to 12 and appendix A.1.
    """

    step: Array
    direction: Array
    bias: Array

    def forward(self, z: Array) -> tuple[Array, Array]:
        product = jnp.dot(self.direction, self.step)
        # m(w.u) + 1, which is w.u' + 1.
        positive = jax.nn.softplus(product + _SOFTPLUS_SHIFT)
        square = jnp.dot(self.direction, self.direction)
        has_direction = square > jnp.finfo(square.dtype).tiny
        correction = (positive - 1 - product) / jnp.where(has_direction, square, 1)
        step = self.step + jnp.where(has_direction, correction, 0) * self.direction
        activation = jnp.tanh(jnp.dot(self.direction, z) + self.bias)
        # 1 + tanh' w.u' = tanh^2 + tanh' (1 + w.u'), a sum of positive terms.
        dtype = density_dtype(z)
        square = jnp.square(activation.astype(dtype))
        log_determinant = jnp.log(square + (1 - square) * positive.astype(dtype))
        return z + step * activation, log_determinant


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SylvesterLayer:
    """Sylvester layer f(z) = z + Q R tanh(S Q^T z + b), planar layers side by side.

    Q is orthogonal, a product of Householder reflections; R and S are upper triangular
    with diagonals r = tanh(.) and s = tanh(.) within (-1, 1), so that r s > -1 and f is
    invertible. log |det| = sum_i log(1 + r_i s_i tanh'(.)_i). There is no inverse in
    closed form.

    Attributes:
      reflections: `[H, D]`, the vectors v of the reflections I - 2 v v^T / |v|^2.
      matrix: `[D, D]`: above the diagonal R, below it the transpose of S.
      diagonals: `[D, 2]`, the diagonals of R and S before tanh.
      bias: `[D]`, b.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import SylvesterLayer
      >>> layer = SylvesterLayer(
      ...     jnp.ones((1, 2)), jnp.zeros((2, 2)), jnp.full((2, 2), 9.0), jnp.zeros(2)
      ... )
      >>> z, log_determinant = layer.forward(jnp.zeros(2))  # the Jacobian is 2 I
      >>> z.tolist(), round(float(log_determinant), 3)
      ([0.0, 0.0], 1.386)

    Source: van den Berg et al. 2018, equations 13 to 15 and section 4.2.
    """

    reflections: Array
    matrix: Array
    diagonals: Array
    bias: Array

    def forward(self, z: Array) -> tuple[Array, Array]:
        first, second = jnp.tanh(self.diagonals[:, 0]), jnp.tanh(self.diagonals[:, 1])
        rotated = self._rotated(z, transposed=True)
        inner = jnp.triu(self.matrix.T, 1) @ rotated + second * rotated + self.bias
        activation = jnp.tanh(inner)
        outer = jnp.triu(self.matrix, 1) @ activation + first * activation
        dtype = density_dtype(z)
        slope = 1 - jnp.square(activation.astype(dtype))
        product = first.astype(dtype) * second.astype(dtype)
        log_determinant = jnp.sum(jnp.log1p(product * slope))
        return z + self._rotated(outer), log_determinant

    def _rotated(self, z: Array, *, transposed: bool = False) -> Array:
        """Return Q z, or Q^T z: the reflections in the other order."""
        vectors = self.reflections if transposed else self.reflections[::-1]
        for vector in vectors:
            square = jnp.dot(vector, vector)
            # A vector of 0 reflects nothing.
            square = jnp.where(square > jnp.finfo(square.dtype).tiny, square, 1)
            z = z - 2 * jnp.dot(vector, z) / square * vector
        return z


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AffineCoupling:
    """Coupling layer of RealNVP: one part of z scales and shifts the other.

    f(z) = (z_1, z_2 exp(s(z_1)) + t(z_1)), of which z_1 are the first half of the
    dimensions. The inverse costs as much as f.

    Attributes:
      network: `z_1 -> [D - D // 2, 2]`, shift t and log-scale s, which is bounded
        softly within -5 and 5; a `jax.tree_util.Partial`, so that it crosses jit.
      flipped: whether z_1 are the last D - D // 2 dimensions instead, and the network
        outputs `[D // 2, 2]`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.distributions import AffineCoupling
      >>> network = jax.tree_util.Partial(
      ...     lambda kept: jnp.stack([kept, jnp.ones(1)], axis=1)
      ... )
      >>> layer = AffineCoupling(network)
      >>> z, log_determinant = layer.forward(jnp.array([3.0, 0.0]))
      >>> z.tolist(), float(log_determinant)
      ([3.0, 3.0], 1.0)
      >>> layer.inverse(z)[0].tolist()
      [3.0, 0.0]

    Source: Dinh et al. 2017, equations 4 to 8.
    """

    network: Callable[[Array], Array]
    flipped: bool = dataclasses.field(default=False, metadata={"static": True})

    def forward(self, z: Array) -> tuple[Array, Array]:
        kept, changed = self._parts(z)
        shift, log_scale = self._shift_and_log_scale(kept, changed)
        changed = changed * jnp.exp(log_scale) + shift
        return self._joined(kept, changed), _sum(log_scale)

    def inverse(self, z: Array) -> tuple[Array, Array]:
        kept, changed = self._parts(z)
        shift, log_scale = self._shift_and_log_scale(kept, changed)
        changed = (changed - shift) * jnp.exp(-log_scale)
        return self._joined(kept, changed), -_sum(log_scale)

    def _parts(self, z: Array) -> tuple[Array, Array]:
        first, last = z[: len(z) // 2], z[len(z) // 2 :]
        return (last, first) if self.flipped else (first, last)

    def _joined(self, kept: Array, changed: Array) -> Array:
        parts = [changed, kept] if self.flipped else [kept, changed]
        return jnp.concatenate(parts)

    def _shift_and_log_scale(self, kept: Array, changed: Array) -> tuple[Array, Array]:
        outputs = _checked(self, self.network(kept), changed)
        log_scale = soft_clip(outputs[:, 1], -_MAX_LOG_SCALE, _MAX_LOG_SCALE)
        return outputs[:, 0], log_scale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InverseAutoregressive:
    """Layer of the inverse autoregressive flow (IAF), gated.

    f(z)_i = g_i z_i + (1 - g_i) m_i with g = sigmoid(s), where m_i and s_i depend on
    z_1, ..., z_(i-1) alone. All dimensions are computed at once; the inverse goes
    through them one by one and costs D evaluations of the network.

    Attributes:
      network: `z -> [D, 2]`, m and s, of which row i depends on `z[:i]` alone, such as
        `vaejax.networks.MADE`; a `jax.tree_util.Partial`, so that it crosses jit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.distributions import InverseAutoregressive
      >>> network = jax.tree_util.Partial(
      ...     lambda z: jnp.stack([jnp.cumsum(z) - z, jnp.zeros(2)], axis=1)
      ... )
      >>> layer = InverseAutoregressive(network)
      >>> z, log_determinant = layer.forward(jnp.array([2.0, 4.0]))
      >>> z.tolist(), round(float(log_determinant), 3)  # 2 log(1/2)
      ([1.0, 3.0], -1.386)
      >>> layer.inverse(z)[0].tolist()
      [2.0, 4.0]

    Source: Kingma et al. 2016, equations 13 and 14.
    """

    network: Callable[[Array], Array]

    def forward(self, z: Array) -> tuple[Array, Array]:
        outputs = _checked(self, self.network(z), z)
        shift, gate = outputs[:, 0], jax.nn.sigmoid(outputs[:, 1])
        return gate * z + (1 - gate) * shift, _sum(jax.nn.log_sigmoid(outputs[:, 1]))

    def inverse(self, z: Array) -> tuple[Array, Array]:
        given = self.network
        network = given if isinstance(given, partial) else partial(given)
        z = run(_invert, (network.func,), network.args, network.keywords, z)
        return z, -_sum(jax.nn.log_sigmoid(network(z)[:, 1]))


def _invert(
    network: Callable[..., Array], arguments: tuple, keywords: dict, image: Array
) -> Array:
    """Return z of its image, dimension by dimension: each needs those before it."""

    def body(z: Array, i: Array) -> tuple[Array, None]:
        shift, logit = network(*arguments, z, **keywords)[i]
        # (image - (1 - g) m) / g, with 1 / g = 1 + exp(-s).
        odds = jnp.exp(-logit)
        return z.at[i].set(image[i] + odds * (image[i] - shift)), None

    return jax.lax.scan(body, jnp.zeros_like(image), jnp.arange(len(image)))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reversal:
    """Layer that reverses the order of the dimensions.

    Between two autoregressive layers it lets the dimensions that came first in one
    depend on all others in the next.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Reversal
      >>> Reversal().inverse(jnp.arange(3.0))[0].tolist()
      [2.0, 1.0, 0.0]

    Source: Kingma et al. 2016, section 4.
    """

    def forward(self, z: Array) -> tuple[Array, Array]:
        return z[::-1], jnp.zeros((), density_dtype(z))

    def inverse(self, z: Array) -> tuple[Array, Array]:
        return self.forward(z)


def _checked(layer: Any, outputs: Array, changed: Array) -> Array:
    """Return outputs, or raise ValueError where broadcasting would change z's size."""
    if jnp.shape(outputs) != (len(changed), 2):
        raise ValueError(
            f"{type(layer).__name__}: the network outputs {jnp.shape(outputs)} where "
            f"{(len(changed), 2)} are needed; give layers of the size of z."
        )
    return outputs


def _sum(values: Array) -> Array:
    return jnp.sum(values.astype(density_dtype(values)))
