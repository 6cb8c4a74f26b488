"""Importance-weighted estimate of log p(x), with its error, from samples or weights."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_arrays, check_count, check_key, check_model
from vaejax._programs import judged, run
from vaejax._reals import as_real
from vaejax.base import VAE, Array, Example, Key, Params
from vaejax.estimators.importance_weights import (
    _add_weights,
    _as_vector,
    _mean_with_error,
    _no_weights,
    _WeightSums,
)
from vaejax.estimators.pareto_smoothing import _pareto_k_of_tail, _tail_size
from vaejax.objectives import log_weight_given_posterior


class MarginalEstimate(NamedTuple):
    """Importance-weighted estimate of log p(x) of one example.

    Attributes:
      log_marginal: the importance-weighted bound, in nats; its expectation is at most
        log p(x).
      standard_error: its Monte-Carlo standard error in nats, by the delta method;
        infinite for one sample. It does not cover the bias of the bound. It never
        exceeds 1, and it is too small where the effective sample size is: over a set,
        compare two independent estimates instead.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples;
        0, with an infinite error, where the estimate is not finite.
      pareto_k: shape of the tail of the weights of all samples, see
        `vaejax.estimators.pareto_k`: above `vaejax.estimators.pareto_k_threshold` of
        their number, trust neither estimate nor error; infinite with fewer than 25
        samples or where a weight is NaN.

    Example:
      >>> import vaejax
      >>> estimate = vaejax.MarginalEstimate(-86.4, 0.1, 35.0, pareto_k=0.6)
      >>> estimate.pareto_k < vaejax.estimators.pareto_k_threshold(100)  # 0.5
      False
    """

    log_marginal: Array
    standard_error: Array
    effective_sample_size: Array
    pareto_k: Array


def log_marginal(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    chunk_size: int = 100,
) -> MarginalEstimate:
    """Estimate log p(x) of one example by the importance-weighted bound, in nats.

    The bound is log 1/n sum_i p(x|z_i) p(z_i) / q(z_i|x) with z_i ~ q(z|x). The example
    is encoded once and exactly n latents are decoded, `chunk_size` at a time, so that
    memory does not grow with n. Sample i draws from `fold_in(key, i)`: the chunk size
    changes rounding only. Sums are in float32 whatever the parameters are in. Outside
    `jax.jit` it compiles once per model and shape of x: build the VAE once.

    Args:
      vae: the model.
      params: its parameters.
      key: key of the samples.
      x: one example; use `vmap` or `jax.lax.map` over a set, with one key per example.
      num_samples: n, at least 1. Published tables use 500 to 5,000.
      chunk_size: samples decoded together, at least 1.

    Returns:
      The bound with its standard error and the diagnostics of its weights.

    Raises:
      ValueError: a count is not a positive integer.

    Example:
      With the exact posterior, every weight is p(x).

      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.log(jnp.full(1, 0.5))),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(1)),
      ... )
      >>> run = jax.jit(partial(vaejax.log_marginal, vae, num_samples=5))
      >>> estimate = run((), jax.random.key(0), jnp.ones(1))
      >>> round(float(estimate.log_marginal), 3)  # log N(1; 0, 2)
      -1.516

    Source: Burda et al. 2016, section 5 and equation 8.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    return run(_log_marginal, (vae, num_samples, chunk_size), params, key, judged(x))


def _log_marginal(
    vae: VAE, num_samples: int, chunk_size: int, params: Params, key: Key, x: Example
) -> MarginalEstimate:
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def log_weights(first: Array, count: int) -> Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
            first + jnp.arange(count, dtype=jnp.uint32)
        )
        drawn = jax.vmap(
            lambda key: log_weight_given_posterior(
                vae, params, key, x, posterior, prior
            )
        )(keys)
        return as_real(drawn)

    num_chunks, left_over = divmod(num_samples, chunk_size)
    dtype = jax.eval_shape(partial(log_weights, count=1), jnp.uint32(0)).dtype
    sums = _no_weights(_tail_size(num_samples) + 1, dtype)
    if left_over:
        first = jnp.uint32(num_samples - left_over)
        sums = _add_weights(sums, log_weights(first, left_over))
    firsts = jnp.arange(num_chunks, dtype=jnp.uint32) * jnp.uint32(chunk_size)
    sums, _ = jax.lax.scan(
        lambda sums, first: (_add_weights(sums, log_weights(first, chunk_size)), None),
        sums,
        firsts,
    )
    return _estimate(sums, num_samples)


def marginal_of_weights(log_weights: Array) -> MarginalEstimate:
    """Estimate log p(x) of one example from importance weights that are given.

    The estimate is the one that `log_marginal` makes of the samples that it draws.

    Args:
      log_weights: `[samples]`, log p(x, z_i) - log q(z_i|x) of independent z_i ~
        q(z|x), in nats, such as `vaejax.objectives.log_weights` draws.

    Returns:
      The bound log 1/n sum_i w_i with its standard error and the diagnostics of the
      weights, in float32 or better.

    Raises:
      ValueError: `log_weights` does not have exactly one axis, or is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import marginal_of_weights
      >>> estimate = marginal_of_weights(jnp.log(jnp.array([1.0, 3.0])))
      >>> round(float(estimate.log_marginal), 3)  # log 2
      0.693
      >>> round(float(estimate.effective_sample_size), 3)  # 4^2 / (1 + 9)
      1.6

    Source: Burda et al. 2016, section 5 and equation 8.
    """
    log_weights = as_real(_as_vector("marginal_of_weights", log_weights))
    num_samples = len(log_weights)
    sums = _no_weights(_tail_size(num_samples) + 1, log_weights.dtype)
    return _estimate(_add_weights(sums, log_weights), num_samples)


def _estimate(sums: _WeightSums, num_samples: int) -> MarginalEstimate:
    estimate = _mean_with_error(sums, num_samples)
    pareto_k = _pareto_k_of_tail(sums.largest)
    # The largest weights need not hold the one that is NaN.
    pareto_k = jnp.where(jnp.isnan(sums.total), jnp.inf, pareto_k)
    return MarginalEstimate(*estimate, pareto_k)
