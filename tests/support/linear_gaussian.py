"""A linear-Gaussian VAE, whose log p(x), posterior and ELBO are known: what bounds and
estimators are measured against.

p(z) = N(0, I),  p(x|z) = N(W z + b, s^2 I),  q(z|x) = N(A (x - b), diag
exp(log_variance)).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from vaejax import VAE, Normal, kl_divergence


class Params(NamedTuple):
    """W `[x, z]`, b `[x]`, log s^2, A `[z, x]` and the encoder's log-variance `[z]`."""

    loadings: np.ndarray
    offset: np.ndarray
    log_noise: np.ndarray
    gain: np.ndarray
    log_variance: np.ndarray


def make_params(*, x_size=5, latent_size=2, orthogonal=False, seed=0) -> Params:
    """A random model and a poor encoder for it; with orthogonal loadings, the exact
    posterior is diagonal.
    """
    random = np.random.default_rng(seed)
    loadings = random.normal(size=(x_size, latent_size))
    if orthogonal:
        loadings = np.linalg.qr(loadings)[0] * np.arange(1, latent_size + 1)
    offset = random.normal(size=x_size)
    gain = 0.2 * random.normal(size=(latent_size, x_size))
    return _as_leaves(
        Params(loadings, offset, np.log(0.5), gain, np.full(latent_size, -1.0))
    )


def with_best_encoder(params: Params, *, widen=0.0) -> Params:
    """The encoder that maximizes the ELBO: the exact mean, and the inverse diagonal of
    the exact precision.

    It is the exact posterior where the loadings are orthogonal. `widen` is added to the
    log-variance.
    """
    noise = np.exp(params.log_noise)
    precision = (
        np.eye(params.loadings.shape[1]) + params.loadings.T @ params.loadings / noise
    )
    gain = np.linalg.solve(precision, params.loadings.T) / noise
    return _as_leaves(
        params._replace(gain=gain, log_variance=widen - np.log(np.diagonal(precision)))
    )


def exact_log_marginal(params: Params, x):
    """log N(x; b, W W' + s^2 I), for one x or many."""
    covariance = params.loadings @ params.loadings.T + np.exp(
        params.log_noise
    ) * np.eye(params.offset.size)
    return scipy.stats.multivariate_normal(params.offset, covariance).logpdf(x)


@jax.jit
def exact_elbo(params: Params, x):
    """E_q[log p(x|z)] - KL(q || p), both in closed form."""
    posterior = vae.encode(params, x)
    spread = jnp.exp(posterior.log_variance) @ jnp.sum(
        jnp.square(params.loadings), axis=0
    )
    log_likelihood = vae.decode(params, posterior.mean).log_prob(x) - spread / (
        2 * jnp.exp(params.log_noise)
    )
    return log_likelihood - kl_divergence(posterior, vae.prior(params))


def draw_examples(params: Params, num, *, seed=0):
    """`[num, x]` from the model itself."""
    random = np.random.default_rng(seed)
    z, noise = (
        random.normal(size=(num, params.loadings.shape[1])),
        random.normal(size=(num, params.offset.size)),
    )
    return np.float32(
        z @ params.loadings.T + params.offset + np.exp(params.log_noise / 2) * noise
    )


def draw_posterior(params: Params, x, num, *, seed=0):
    """`[num, z]`, exact samples of p(z|x)."""
    noise = np.exp(params.log_noise)
    covariance = np.linalg.inv(
        np.eye(params.loadings.shape[1]) + params.loadings.T @ params.loadings / noise
    )
    mean = covariance @ params.loadings.T @ (x - params.offset) / noise
    return np.float32(
        np.random.default_rng(seed).multivariate_normal(mean, covariance, size=num)
    )


def recording(vae: VAE) -> tuple[VAE, list]:
    """The VAE, and a list that grows by each latent that it decodes."""
    decoded = []

    def decode(params, z):
        jax.debug.callback(lambda z: decoded.append(tuple(z.tolist())), z)
        return vae.decode(params, z)

    return vae._replace(decode=decode), decoded


def _as_leaves(params: Params) -> Params:
    """In single precision, or in double where that is turned on."""
    return Params(
        *(np.asarray(leaf, jax.dtypes.canonicalize_dtype(float)) for leaf in params)
    )


def _init(key, x) -> Params:
    del key
    return make_params(x_size=x.size)


def _encode(params: Params, x) -> Normal:
    return Normal(params.gain @ (x - params.offset), params.log_variance)


def _prior(params: Params) -> Normal:
    zeros = jnp.zeros(params.loadings.shape[1])
    return Normal(zeros, zeros)


def _decode(params: Params, z) -> Normal:
    return Normal(params.loadings @ z + params.offset, params.log_noise)


vae = VAE(_init, _encode, _prior, _decode)
