"""A linear-Gaussian VAE of rows with missing cells, whose conditionals are all known.

p(z) = N(0, I),  p(x|z) = N(W z + b, diag(s^2)),  q(z|x) the exact p(z|observed cells)
of a diagonal precision, widened.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import VAE, Normal
from vaejax.columns import MaskedEvent


class Params(NamedTuple):
    """W `[x, z]`, b `[x]`, log s^2 `[x]`, and what the encoder adds to its log-variance
    and to its mean.
    """

    loadings: jax.Array
    offset: jax.Array
    log_noise: jax.Array
    widening: jax.Array
    bias: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NormalColumns:
    """A Normal of each column, as a likelihood of tables has it."""

    normal: Normal

    def column_log_probs(self, event):
        values, mask = event if isinstance(event, MaskedEvent) else (event, True)
        mask = jnp.broadcast_to(mask, values.shape)
        values = jnp.where(mask, values, self.normal.mean)
        log_probs = jax.vmap(
            lambda mean, log_variance, x: Normal(mean, log_variance).log_prob(x)
        )(self.normal.mean, self.normal.log_variance, values)
        return jnp.where(mask, log_probs, 0)

    def log_prob(self, event):
        return jnp.sum(self.column_log_probs(event))

    def sample(self, key):
        return self.normal.sample(key)

    @property
    def mean(self):
        return self.normal.mean


def make_params(*, x_size=6, latent_size=2, widening=1.0, bias=0.2, seed=0) -> Params:
    random = np.random.default_rng(seed)
    dtype = jax.dtypes.canonicalize_dtype(float)
    numbers = (
        random.normal(size=(x_size, latent_size)),
        10 * random.normal(size=x_size),
        random.normal(size=x_size) - 1,
        widening,
        bias,
    )
    return Params(*(jnp.asarray(leaf, dtype) for leaf in numbers))


def draw_rows(params: Params, num, *, share_missing=0.5, seed=1) -> MaskedEvent:
    """`[num, x]` from the model itself, with cells hidden at random."""
    random = np.random.default_rng(seed)
    loadings, offset, log_noise = (np.asarray(leaf) for leaf in params[:3])
    z = random.normal(size=(num, loadings.shape[1]))
    noise = np.exp(log_noise / 2) * random.normal(size=(num, len(offset)))
    values = (z @ loadings.T + offset + noise).astype(offset.dtype)
    return MaskedEvent(
        jnp.asarray(values), jnp.asarray(random.random(values.shape) >= share_missing)
    )


def exact_conditional(params: Params, values, given):
    """Mean and covariance of the cells that are not `given`, and log p of those that
    are, in float64.
    """
    loadings, offset, log_noise = (np.asarray(leaf, np.float64) for leaf in params[:3])
    covariance = loadings @ loadings.T + np.diag(np.exp(log_noise))
    seen, hidden = np.flatnonzero(given), np.flatnonzero(~np.asarray(given))
    residual = np.asarray(values, np.float64)[seen] - offset[seen]
    precision = np.linalg.inv(covariance[np.ix_(seen, seen)])
    gain = covariance[np.ix_(hidden, seen)] @ precision
    log_p = -0.5 * (
        residual @ precision @ residual
        - np.linalg.slogdet(precision)[1]
        + len(seen) * np.log(2 * np.pi)
    )
    return (
        offset[hidden] + gain @ residual,
        covariance[np.ix_(hidden, hidden)] - gain @ covariance[np.ix_(seen, hidden)],
        log_p,
    )


def _init(key, x) -> Params:
    del key
    return make_params(x_size=x.values.size)


def _encode(params: Params, x) -> Normal:
    values, mask = x if isinstance(x, MaskedEvent) else (x, jnp.ones(x.shape, bool))
    weights = jnp.where(mask, jnp.exp(-params.log_noise), 0)
    weighted = params.loadings.T * weights[None]
    precision = jnp.eye(params.loadings.shape[1]) + weighted @ params.loadings
    residual = jnp.where(mask, values - params.offset, 0)
    mean = jnp.linalg.solve(precision, weighted @ residual)
    return Normal(
        mean + params.bias, params.widening - jnp.log(jnp.diagonal(precision))
    )


def _prior(params: Params) -> Normal:
    zeros = jnp.zeros(params.loadings.shape[1], params.loadings.dtype)
    return Normal(zeros, zeros)


def _decode(params: Params, z) -> NormalColumns:
    return NormalColumns(Normal(params.loadings @ z + params.offset, params.log_noise))


vae = VAE(_init, _encode, _prior, _decode)
