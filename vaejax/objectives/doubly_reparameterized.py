"""Importance-weighted bound with doubly reparameterized gradients."""

from functools import partial

import jax
import jax.numpy as jnp

from vaejax._checks import check_count, require
from vaejax.base import VAE, Array, Distribution, Example, Key, Latent, Params, PyTree
from vaejax.objectives.importance_weights import (
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
    """Negative IWAE bound with doubly reparameterized gradients of the encoder.

    The value is that of `negative_iwae`, in nats. With v_i = w_i / sum_j w_j and
    log q(z|x) at fixed encoder parameters phi, the encoder's gradient of the bound is

      sum_i [alpha v_i + (1 - 2 alpha) v_i^2] (d log w_i / d z_i) (d z_i / d phi);

    decoder and prior have the IWAE's, sum_i v_i d log w_i / d theta.

    alpha = 0 (IWAE-DReG) is an unbiased gradient of the same bound; its signal-to-noise
    ratio grows with the number of samples, while that of the plain gradient falls.
    alpha = 1 (RWS-DReG) is the gradient of reweighted wake-sleep, which minimizes
    KL(p(z|x) || q(z|x)). alpha = 1/2 is half of sticking the landing. All of them
    vanish for every sample where q(z|x) = p(z|x). The cost is one backward pass, as for
    `negative_iwae`. The terms carry no gradient, and gradients flow through `params`
    only.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z; all are held at once.
      x: one example, without a batch axis.
      num_samples: k, a positive integer.
      alpha: weight of the wake-sleep gradient, in [0, 1]; may be traced.

    Returns:
      The scalar loss and its `IwaeTerms`.

    Raises:
      ValueError: `num_samples` is not a positive integer.
      TypeError: the posterior has no `log_prob`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> key = jax.random.key(1)
      >>> loss, terms = vaejax.objectives.negative_dreg(
      ...     vae, params, key, x, num_samples=4
      ... )
      >>> iwae, _ = vaejax.negative_iwae(vae, params, key, x, num_samples=4)
      >>> loss.shape, bool(jnp.allclose(loss, iwae))
      ((), True)

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
    """Return the bound and the log-weights of given samples.

    Its gradient with respect to each sample is weighted by v_i a second time.
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
    # The log-weights serve the terms only, so their cotangent is left out.
    params, zs = pull_back(cotangents[0] * shares)
    return None, params, _scale(alpha + (1 - 2 * alpha) * shares, zs), None, None, None


_doubly_reparameterized.defvjp(_forward, _backward)


def _scale(factors: Array, tree: PyTree) -> PyTree:
    """Multiply every leaf `[samples, ...]` by factors `[samples]`."""
    return jax.tree.map(
        lambda leaf: (
            leaf * factors.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
        ),
        tree,
    )
