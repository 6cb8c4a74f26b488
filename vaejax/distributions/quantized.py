"""Quantized latents: vectors of a codebook, or of finitely many levels.

A quantizer has `num_codes`, `quantize(features)`, `indices(z)` and
`vectors_of(indices)`, for z of shape `[*positions, size]` and indices `[*positions]`.
`Quantized` is the posterior of such latents and `CodeVectors` their prior.
"""

import dataclasses
import math
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import as_numbers, check_count, check_event, check_key
from vaejax.base import Array, Key, Support
from vaejax.distributions._shared import SampleThenLogProb, density_dtype

# What the vectors are is known to the quantizer alone, whose arrays may be traced.
_CODES = Support("vectors of the quantizer", lambda x: x == x, is_convex=False)


class Quantizer(Protocol):
    """A finite set of vectors, and the map from features to one of them.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import FiniteScalars
      >>> quantizer = FiniteScalars(levels=(3, 3))
      >>> quantizer.indices(quantizer.quantize(jnp.zeros((4, 2)))).tolist()
      [4, 4, 4, 4]
    """

    @property
    def num_codes(self) -> int:
        """The number of vectors."""
        ...

    def quantize(self, features: Array) -> Array:
        """Return the vector of each position, with the gradient of the features."""
        ...

    def indices(self, z: Array) -> Array:
        """Return the index of the vector at each position, `[*positions]`."""
        ...

    def vectors_of(self, indices: Array) -> Array:
        """Return the vectors of indices, `[*positions, size]`."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Codebook:
    """Codebook of a VQ-VAE, kept as moving averages of what was assigned to each code.

    A vector is `sum / count`. Features are replaced by the nearest vector; the
    gradient passes straight through to them, and none reaches the codebook, which
    `vaejax.objectives.vector_quantization_terms` moves.

    Attributes:
      count: `[codes]`, the average number of positions per example that use the code.
      sum: `[codes, size]`, the average sum of their features.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Codebook
      >>> codebook = Codebook(jnp.ones(2), sum=jnp.array([[0.0, 0.0], [1.0, 1.0]]))
      >>> codebook.quantize(jnp.array([[0.9, 0.8], [0.2, -3.0]])).tolist()
      [[1.0, 1.0], [0.0, 0.0]]

    Source: van den Oord et al. 2017, equations 1 and 2 and appendix A.1.
    """

    count: Array
    sum: Array

    @property
    def vectors(self) -> Array:
        return self.sum / jnp.maximum(self.count, 1e-30)[:, None]

    @property
    def num_codes(self) -> int:
        return self.count.shape[-1]

    def quantize(self, features: Array) -> Array:
        nearest = self.vectors_of(self.indices(features))
        # Exact where features and vectors differ by orders of magnitude too.
        nearest = jax.lax.stop_gradient(nearest.astype(features.dtype))
        return nearest + (features - jax.lax.stop_gradient(features))

    def indices(self, z: Array) -> Array:
        # |z - c|^2 = |z|^2 + |c|^2 - 2 z.c, of which the first does not matter.
        vectors = jax.lax.stop_gradient(self.vectors)
        z = jax.lax.stop_gradient(z).astype(vectors.dtype)
        products = jnp.einsum("...d,kd->...k", z, vectors, precision="highest")
        size = jnp.sum(jnp.square(vectors), axis=-1)
        distances = size.reshape((1,) * (z.ndim - 1) + size.shape) - 2 * products
        return jnp.argmin(distances, axis=-1).astype(jnp.int32)

    def vectors_of(self, indices: Array) -> Array:
        return self.vectors[indices]

    def statistics(self, features: Array) -> dict[str, Array]:
        """Return the count and the sum of the features of one example, by code."""
        features = features.astype(self.sum.dtype)
        flat = features.reshape(-1, features.shape[-1])
        used = jax.nn.one_hot(self.indices(flat), self.num_codes, dtype=flat.dtype)
        return {"count": jnp.sum(used, axis=0), "sum": used.T @ flat}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class FiniteScalars:
    """Finite scalar quantization: each dimension is rounded to one of a few levels.

    A feature h of a dimension with L levels becomes round(b(h)) / floor(L / 2), where
    b squashes the real line by tanh to the width of the L levels; a vector has values
    in [-1, 1]. The gradient passes straight through the rounding. There is no codebook
    to learn: the codes are all combinations, prod(levels) of them.

    Attributes:
      levels: the number of levels of each dimension, each at least 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import FiniteScalars
      >>> quantizer = FiniteScalars(levels=(5, 4))
      >>> quantizer.num_codes
      20
      >>> quantizer.quantize(jnp.array([[9.0, -9.0], [0.6, 0.0]])).tolist()
      [[1.0, -1.0], [0.5, 0.0]]

    Source: Mentzer et al. 2024, section 3.1; an even number of levels is shifted as in
    their appendix A.1.
    """

    levels: tuple[int, ...]

    @property
    def num_codes(self) -> int:
        return math.prod(self.levels)

    def _of_dimensions(self, like: Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the levels and the half widths, each with the rank of an array."""
        levels = np.asarray(self.levels, np.int32)
        levels = levels.reshape((1,) * (like.ndim - 1) + (-1,))
        return levels, levels // 2

    def quantize(self, features: Array) -> Array:
        levels, half = self._of_dimensions(features)
        # Even numbers of levels have one more below 0 than above.
        offset = np.where(levels % 2 == 0, 0.5, 0.0)
        width = (levels - 1) * (1 + 1e-3) / 2
        shift, width, offset, half = (
            jnp.asarray(each, features.dtype)
            for each in (np.tan(offset / width), width, offset, half)
        )
        bounded = jnp.tanh(features + shift) * width - offset
        rounded = jax.lax.stop_gradient(jnp.round(bounded))
        return (rounded + (bounded - jax.lax.stop_gradient(bounded))) / half

    def indices(self, z: Array) -> Array:
        _, half = self._of_dimensions(z)
        digits = jnp.round(z * jnp.asarray(half, z.dtype)).astype(jnp.int32) + half
        return jnp.sum(digits * self._places(digits), axis=-1, dtype=jnp.int32)

    def vectors_of(self, indices: Array) -> Array:
        indices = jnp.asarray(indices, jnp.int32)[..., None]
        levels, half = self._of_dimensions(indices)
        digits = indices // self._places(indices) % levels
        return (digits - half).astype(jnp.float32) / jnp.asarray(half, jnp.float32)

    def _places(self, like: Array) -> np.ndarray:
        places = np.cumprod((1, *self.levels[:-1])).astype(np.int32)
        return places.reshape((1,) * (like.ndim - 1) + (-1,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized:
    """Posterior without noise: the features of each position, quantized.

    It has log-probability 0 and no `log_prob`: all its mass is at one latent.

    Attributes:
      features: `[*positions, size]`, the output of the encoder.
      quantizer: a `Codebook`, `FiniteScalars`, or a quantizer like them.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import FiniteScalars, Quantized
      >>> posterior = Quantized(jnp.zeros((4, 2)), FiniteScalars(levels=(3, 3)))
      >>> posterior.mean.shape, posterior.indices.shape
      ((4, 2), (4,))

    Source: van den Oord et al. 2017, equation 1.
    """

    features: Array
    quantizer: Any

    support: ClassVar[Support] = _CODES

    @property
    def indices(self) -> Array:
        return self.quantizer.indices(self.mean)

    @property
    def mean(self) -> Array:
        return self.quantizer.quantize(self.features)

    @property
    def mode(self) -> Array:
        return self.mean

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        check_key(key)
        return self.mean, jnp.zeros((), density_dtype(self.features))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CodeVectors(SampleThenLogProb):
    """Distribution over code vectors, given by one over their indices.

    log p(z) = log p(indices of z); a vector counts as the one that is nearest. With
    `Categorical` indices the positions are independent, with `Autoregressive` ones each
    depends on those before it.

    Attributes:
      distribution: a distribution over indices, `[prod(positions)]` integers.
      quantizer: a `Codebook`, `FiniteScalars`, or a quantizer like them.
      shape: the shape of the latent, `(*positions, size)`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import CodeVectors, FiniteScalars
      >>> uniform = vaejax.Categorical(jnp.zeros((4, 9)))
      >>> prior = CodeVectors(uniform, FiniteScalars(levels=(3, 3)), shape=(4, 2))
      >>> round(float(prior.log_prob(jnp.zeros((4, 2)))), 3)  # 4 log(1/9)
      -8.789

    Source: van den Oord et al. 2017, section 3.3.
    """

    distribution: Any
    quantizer: Any
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    support: ClassVar[Support] = _CODES

    def log_prob(self, event: Array) -> Array:
        event = jnp.asarray(check_event(self, event, self.shape))
        event = event.astype(density_dtype(event))
        log_prob = self.distribution.log_prob(self.quantizer.indices(event).ravel())
        return jnp.where(jnp.any(jnp.isnan(event)), jnp.nan, log_prob)

    def sample(self, key: Key) -> Array:
        return self._vectors(self.distribution.sample(key))

    @property
    def mode(self) -> Array:
        return self._vectors(self.distribution.mode)

    def _vectors(self, indices: Array) -> Array:
        return self.quantizer.vectors_of(indices.reshape(self.shape[:-1]))


def code_perplexity(indices: Array, num_codes: int) -> Array:
    """Return the number of codes in use, the exponential of the entropy of their use.

    Args:
      indices: integers of any shape, the codes of a data set.
      num_codes: the number of codes there are, at least 1.

    Returns:
      A scalar from 1, where all are one code, to `num_codes`, where all are used alike.

    Raises:
      ValueError: `num_codes` is not a positive integer.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import code_perplexity
      >>> round(float(code_perplexity(jnp.array([[0, 3], [3, 0]]), num_codes=8)), 3)
      2.0

    Source: van den Oord et al. 2017; the number is reported since by VQ-VAEs.
    """
    check_count("code_perplexity: num_codes", num_codes)
    indices = jnp.asarray(as_numbers("code_perplexity: indices", indices))
    counts = jnp.bincount(indices.ravel(), length=num_codes)
    shares = counts.astype(jnp.float32) / indices.size
    return jnp.exp(jnp.sum(jax.scipy.special.entr(shares)))
