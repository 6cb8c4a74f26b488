"""Doubly reparameterized gradient of the IWAE."""

from functools import partial

import jax
import jax.numpy as jnp

from vaejax._checks import check_count, require
from vaejax.base import VAE, Array, Distribution, Example, Key, Latent, Params, PyTree
from vaejax.objectives.importance_weighted import (
    IwaeTerms,
    _iwae_terms,
    _log_mean_exp,
    _log_weight_at,
)
from vaejax.objectives.kl_estimators import kl_sticking_the_landing


def negative_dreg(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    alpha: float | Array = 0.0,
) -> tuple[Array, IwaeTerms]:
    """`negative_iwae` with doubly reparameterized gradients of the encoder.

    With v_i = w_i / sum_j w_j and log q at fixed phi, the encoder's gradient of the
    bound is sum_i [alpha v_i + (1 - 2 alpha) v_i^2] (d log w_i / d z_i) (d z_i / d
    phi), and that of decoder and prior the IWAE's, sum_i v_i d log w_i / d theta.

    alpha = 0 (IWAE-DReG) is an unbiased gradient of the same bound, whose
    signal-to-noise ratio grows with the number of samples where the plain one's falls.
    alpha = 1 (RWS-DReG) is that of reweighted wake-sleep, which minimizes KL(p(z|x) ||
    q(z|x)). alpha = 1/2 is half of sticking the landing. All vanish sample by sample
    where q(z|x) = p(z|x). One backward pass, as of `negative_iwae`. The terms carry no
    gradient, and what is differentiated must reach the VAE through `params`.

    Raises:
      ValueError: `num_samples` is not a positive integer.
      TypeError: the posterior has no `log_prob`.

    Source: Tucker et al. 2019 (IWAE-DReG, RWS-DReG).
    """
    check_count("num_samples", num_samples)
    posterior = vae.encode(params, x)
    keys = jax.random.split(key, num_samples)
    zs, log_posteriors = jax.vmap(require(posterior, "sample_and_log_prob"))(keys)
    fixed = jax.lax.stop_gradient((posterior, log_posteriors))
    bound, weights = _doubly_reparameterized(
        vae, params, zs, fixed, x, jnp.asarray(alpha, log_posteriors.dtype)
    )
    return -bound, _iwae_terms(weights)


@jax.custom_vjp
def _doubly_reparameterized(
    vae: VAE,
    params: Params,
    zs: Latent,
    fixed: tuple[Distribution, Array],
    x: Example,
    alpha: Array,
) -> tuple[Array, Array]:
    """The bound and the log-weights of given samples; the gradient to each sample is
    weighted once more.
    """
    del alpha
    weights = _log_weights_at(vae, params, zs, fixed, x)
    return _log_mean_exp(weights), weights


def _log_weights_at(
    vae: VAE, params: Params, zs: Latent, fixed: tuple[Distribution, Array], x: Example
) -> Array:
    posterior, log_posteriors = fixed
    one = partial(
        _log_weight_at,
        vae,
        params,
        posterior,
        vae.prior(params),
        x=x,
        kl_fn=kl_sticking_the_landing,
    )
    return jax.vmap(one)(zs, log_posteriors)


def _forward(vae, params, zs, fixed, x, alpha):
    weights, pull_back = jax.vjp(
        lambda params, zs: _log_weights_at(vae, params, zs, fixed, x), params, zs
    )
    return (_log_mean_exp(weights), weights), (weights, pull_back, alpha)


def _backward(residuals, cotangents):
    weights, pull_back, alpha = residuals
    shares = jax.nn.softmax(weights)
    # The log-weights are returned for the terms alone: nothing is differentiated
    # through them.
    params, zs = pull_back(cotangents[0] * shares)
    return None, params, _scale(alpha + (1 - 2 * alpha) * shares, zs), None, None, None


_doubly_reparameterized.defvjp(_forward, _backward)


def _scale(factors: Array, tree: PyTree) -> PyTree:
    """Every leaf `[samples, ...]` times `[samples]`."""
    return jax.tree.map(
        lambda leaf: (
            leaf * factors.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
        ),
        tree,
    )
