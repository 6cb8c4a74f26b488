"""Bounds on log p(x) made of importance weights, for one example.

Every objective is `(vae, params, key, x, *, num_samples, ...) -> (loss, IwaeTerms)` in
nats, and `mean_over_batch` takes it as it takes `negative_elbo`. The log-weights are
those of `log_weights`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_count,
    check_in_range,
    check_key,
    check_model,
    sample_and_log_prob_of,
)
from vaejax.base import VAE, Array, Distribution, Example, Key, KlFn, Latent, Params
from vaejax.objectives._numbers import weighted
from vaejax.objectives.importance_weights import (
    IwaeTerms,
    _iwae_terms,
    _log_mean_exp,
    _log_weight_at,
    log_weights,
)
from vaejax.objectives.kl_estimators import kl_monte_carlo


def negative_iwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """Negative importance-weighted bound (IWAE) of one example, in nats.

    -log 1/k sum_{i<=k} w_i with log w_i = log p(x, z_i) - log q(z_i|x), z_i ~ q(z|x).
    At k = 1 it is the negative ELBO; its expectation falls towards -log p(x) as k
    grows. All k samples are held at once; `vaejax.log_marginal` evaluates the same
    bound in chunks.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z.
      x: one example, without a batch axis.
      num_samples: k, a positive integer.
      kl_fn: estimator of the KL from the sample: `kl_monte_carlo`, or another with the
        same value.

    Returns:
      The scalar loss and its `IwaeTerms`.

    Raises:
      ValueError: `num_samples` is not a positive integer, or `kl_fn` is a closed form.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.negative_iwae(
      ...     vae, params, jax.random.key(1), x, num_samples=4
      ... )
      >>> loss.shape, bool(-loss >= terms.elbo)
      ((), True)

    Source: Burda et al. 2016, equation 8.
    """
    weights = log_weights(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return -_log_mean_exp(weights), _iwae_terms(weights)


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
    """Negative mean of several importance-weighted bounds (MIWAE, CIWAE), in nats.

    -[(1 - mixing) 1/M sum_m log 1/K sum_k w_mk + mixing 1/(MK) sum_mk log w_mk] of
    one example, for M groups of K samples. M = 1 is the IWAE of K samples and K = 1 the
    ELBO of M samples; `mixing` interpolates between the two (CIWAE). More samples per
    group tighten the bound but lower the signal-to-noise ratio of the encoder's
    gradient; more groups raise it.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z; all M K are held at once.
      x: one example, without a batch axis.
      num_groups: M, a positive integer.
      num_samples: K, the samples per group, a positive integer.
      mixing: weight of the ELBO, in [0, 1]; may be traced.
      kl_fn: estimator of the KL, as in `negative_iwae`.

    Returns:
      The scalar loss, and the `IwaeTerms` with the mean effective sample size per
      group.

    Raises:
      ValueError: a count is not a positive integer, `mixing` is outside [0, 1], or
        `kl_fn` is a closed form.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.objectives.negative_miwae(
      ...     vae, params, jax.random.key(1), x, num_groups=2, num_samples=2
      ... )
      >>> loss.shape, bool(terms.effective_sample_size <= 2)
      ((), True)

    Source: Rainforth et al. 2018, section 5 (MIWAE, CIWAE).
    """
    check_count("num_groups", num_groups)
    check_count("num_samples", num_samples)
    check_in_range("negative_miwae: mixing", mixing, 0, 1)
    weights = log_weights(
        vae, params, key, x, num_samples=num_groups * num_samples, kl_fn=kl_fn
    )
    weights = weights.reshape(num_groups, num_samples)
    bound = weighted(1 - mixing, jnp.mean(_log_mean_exp(weights)))
    return -bound - weighted(mixing, jnp.mean(weights)), _iwae_terms(weights)


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
    """Negative importance-weighted bound whose encoder follows the MIWAE (PIWAE).

    The value is -log 1/(MK) sum_mk w_mk of one example, in nats, for M groups of K
    samples. Decoder and prior have the gradient of this bound, the tightest; the
    encoder has the gradient of the MIWAE of M groups of K samples, which is less noisy.
    Every sample is decoded twice.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z; all M K are held at once.
      x: one example, without a batch axis.
      num_groups: M, a positive integer.
      num_samples: K, the samples per group, a positive integer.
      kl_fn: estimator of the KL, as in `negative_iwae`.

    Returns:
      The scalar loss, and the `IwaeTerms` with the mean effective sample size per
      group.

    Raises:
      ValueError: a count is not a positive integer, or `kl_fn` is a closed form.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.objectives.negative_piwae(
      ...     vae, params, jax.random.key(1), x, num_groups=2, num_samples=2
      ... )
      >>> loss.shape, bool(-loss >= terms.elbo)
      ((), True)

    Source: Rainforth et al. 2018, section 5 (PIWAE).
    """
    check_count("num_groups", num_groups)
    check_count("num_samples", num_samples)
    check_model(vae, params)
    check_key(key)
    stop, posterior = jax.lax.stop_gradient, vae.encode(params, x)
    samples = jax.vmap(partial(sample_and_log_prob_of, posterior))(
        jax.random.split(key, num_groups * num_samples)
    )

    def weights(
        params: Params, posterior: Distribution, samples: tuple[Latent, Array]
    ) -> Array:
        prior = vae.prior(params)
        one = partial(_log_weight_at, vae, params, posterior, prior, x=x, kl_fn=kl_fn)
        return jax.vmap(one)(*samples).reshape(num_groups, num_samples)

    for_decoder = weights(params, stop(posterior), stop(samples))
    bounds = _log_mean_exp(weights(stop(params), posterior, samples))
    # A group whose weights are all 0 has no gradient; inf - inf would be NaN.
    encoder_loss = -jnp.mean(jnp.where(bounds == -jnp.inf, 0, bounds))
    loss = -_log_mean_exp(for_decoder.ravel()) + (encoder_loss - stop(encoder_loss))
    return loss, _iwae_terms(for_decoder)


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
    """Negative variational Renyi bound of one example, in nats.

    -1/(1 - alpha) log 1/k sum_{i<=k} w_i^(1 - alpha). The limit alpha = 1 is the ELBO
    and alpha = 0 the IWAE. For alpha < 0 the bound may exceed log p(x) in expectation
    as k grows; alpha -> -inf selects the largest weight (VR-max).

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z; all are held at once.
      x: one example, without a batch axis.
      num_samples: k, a positive integer.
      alpha: order of the divergence, any finite number; may be traced.
      kl_fn: estimator of the KL, as in `negative_iwae`.

    Returns:
      The scalar loss and its `IwaeTerms`.

    Raises:
      ValueError: `num_samples` is not a positive integer, `alpha` is not finite, or
        `kl_fn` is a closed form.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.objectives.negative_renyi(
      ...     vae, params, jax.random.key(1), x, num_samples=4, alpha=0.5
      ... )
      >>> loss.shape, bool(-loss >= terms.elbo)
      ((), True)

    Source: Li & Turner 2016, section 4.1.
    """
    check_in_range("negative_renyi: alpha", alpha)
    weights = log_weights(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return -_renyi_bound(weights, alpha), _iwae_terms(weights)


def _renyi_bound(log_weights: Array, alpha: float | Array) -> Array:
    """Return 1 / order log 1/k sum_i w_i^order with order = 1 - alpha."""
    # log mean w^order = order * center + log mean exp(powers)
    order = 1 - jnp.asarray(alpha, log_weights.dtype)
    is_zero = log_weights == -jnp.inf
    num_positive = jnp.maximum(jnp.sum(~is_zero), 1).astype(log_weights.dtype)
    center = jnp.sum(jnp.where(is_zero, 0, log_weights)) / num_positive
    powers = order * jnp.where(is_zero, 0, log_weights - center)
    # Near alpha = 1, expm1 and log1p keep the digits that log of a mean near 1 loses.
    # Both branches are finite, so the gradient of the one not taken is finite too.
    is_near = (jnp.max(jnp.abs(powers)) < 0.1) & ~jnp.any(is_zero)
    near = jnp.log1p(jnp.mean(jnp.expm1(jnp.where(is_near, powers, 0))))
    far = _log_mean_exp(jnp.where(is_zero, -jnp.inf, jnp.where(is_near, 0, powers)))
    away = jnp.where(order == 0, 1, order)
    bound = center + jnp.where(is_near, near, far) / away
    # From alpha = 1 on, one weight of 0 makes the bound -inf.
    return jnp.where(jnp.any(is_zero) & (order <= 0), -jnp.inf, bound)
