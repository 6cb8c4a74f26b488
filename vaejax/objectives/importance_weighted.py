"""Objectives made of many importance weights, and estimators of their gradients:
functions of one example.

Each is `(vae, params, key, x, *, num_samples, ...) -> (loss, IwaeTerms)` in nats, of
log-weights log w = log p(x, z) - log q(z|x) with z ~ q(z|x), and goes through
`vaejax.mean_over_batch` as `negative_elbo` does.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    KlFn,
    Latent,
    Params,
    PyTree,
    check_count,
    require,
)
from vaejax.objectives import (
    IwaeTerms,
    iwae_terms,
    kl_monte_carlo,
    kl_sticking_the_landing,
    log_mean_exp,
    log_weight_at,
    log_weights,
)


def negative_miwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_groups: int,
    num_samples: int,
    mixing: float | Array = 0.0,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """-[(1 - mixing) 1/M sum_m log 1/K sum_k w_mk + mixing 1/(MK) sum_mk log w_mk], of
    M groups of K samples.

    M = 1 is the IWAE of K samples, K = 1 the ELBO of M; `mixing` takes CIWAE's way from
    the one to the other. More samples in a group tighten the bound and drown the
    encoder's gradient in noise; more groups only average.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples; all M K are held at once.
      x: one example.
      num_groups: M.
      num_samples: K, of each group.
      mixing: weight of the ELBO, in [0, 1]; may be traced.
      kl_fn: as in `negative_iwae`.

    Returns:
      The loss, and the terms with the effective sample size of a group.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Rainforth et al. 2018, section 5 (MIWAE, CIWAE).
    """
    check_count("num_groups", num_groups)
    check_count("num_samples", num_samples)
    weights = log_weights(
        vae, params, key, x, num_samples=num_groups * num_samples, kl_fn=kl_fn
    )
    weights = weights.reshape(num_groups, num_samples)
    bound = (1 - mixing) * jnp.mean(log_mean_exp(weights)) + mixing * jnp.mean(weights)
    return -bound, iwae_terms(weights)


def negative_piwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_groups: int,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """The IWAE of all M K samples for decoder and prior, the MIWAE of M groups for the
    encoder.

    The value is the former, -log 1/(MK) sum w_mk; every sample is decoded twice. Each
    part of the model has the gradient of the bound that serves it: the tightest one the
    decoder, one of fewer samples, whose gradient is less noisy, the encoder.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Rainforth et al. 2018, section 5 (PIWAE).
    """
    check_count("num_groups", num_groups)
    check_count("num_samples", num_samples)
    stop, posterior = jax.lax.stop_gradient, vae.encode(params, x)
    samples = jax.vmap(require(posterior, "sample_and_log_prob"))(
        jax.random.split(key, num_groups * num_samples)
    )

    def weights(
        params: Params, posterior: Distribution, samples: tuple[Latent, Array]
    ) -> Array:
        prior = vae.prior(params)
        one = partial(log_weight_at, vae, params, posterior, prior, x=x, kl_fn=kl_fn)
        return jax.vmap(one)(*samples).reshape(num_groups, num_samples)

    for_decoder = weights(params, stop(posterior), stop(samples))
    encoder_loss = -jnp.mean(log_mean_exp(weights(stop(params), posterior, samples)))
    loss = -log_mean_exp(for_decoder.ravel()) + encoder_loss - stop(encoder_loss)
    return loss, iwae_terms(for_decoder)


def negative_renyi(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    alpha: float | Array,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """-1/(1 - alpha) log 1/k sum_i w_i^(1 - alpha): the variational Renyi bound, in
    nats.

    alpha = 1 is the ELBO (the limit), alpha = 0 the IWAE. Below 0 it may exceed log
    p(x) in expectation as the samples grow, and alpha -> -inf takes the largest weight
    alone (VR-max).

    Raises:
      ValueError: `num_samples` is not a positive integer.

    Source: Li & Turner 2016, section 4.1.
    """
    weights = log_weights(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    order = 1 - jnp.asarray(alpha, weights.dtype)
    centre = jnp.mean(weights)
    powers = order * (weights - centre)
    # Near alpha = 1, expm1 and log1p keep the digits that the logarithm of a mean near
    # 1 would lose. All branches are finite, so that the gradients of those not taken
    # are too.
    is_near = jnp.max(jnp.abs(powers)) < 0.1
    near = jnp.log1p(jnp.mean(jnp.expm1(jnp.where(is_near, powers, 0))))
    far = log_mean_exp(jnp.where(is_near, 0, powers))
    away = jnp.where(order == 0, 1, order)
    return -(centre + jnp.where(is_near, near, far) / away), iwae_terms(weights)


def negative_dreg(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    alpha: float | Array = 0.0,
) -> tuple[Array, IwaeTerms]:
    """`negative_iwae` with doubly reparameterised gradients of the encoder.

    With v_i = w_i / sum_j w_j and log q at fixed phi, the encoder's gradient of the
    bound is sum_i [alpha v_i + (1 - 2 alpha) v_i^2] (d log w_i / d z_i) (d z_i / d
    phi), and that of decoder and prior the IWAE's, sum_i v_i d log w_i / d theta.

    alpha = 0 (IWAE-DReG) is an unbiased gradient of the same bound, whose
    signal-to-noise ratio grows with the number of samples where the plain one's falls.
    alpha = 1 (RWS-DReG) is that of reweighted wake-sleep, which minimises KL(p(z|x) ||
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
    return -bound, iwae_terms(weights)


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
    return log_mean_exp(weights), weights


def _log_weights_at(
    vae: VAE, params: Params, zs: Latent, fixed: tuple[Distribution, Array], x: Example
) -> Array:
    posterior, log_posteriors = fixed
    one = partial(
        log_weight_at,
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
    return (log_mean_exp(weights), weights), (weights, pull_back, alpha)


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
