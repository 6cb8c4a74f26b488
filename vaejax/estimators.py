"""Numbers about a trained model, each with its Monte-Carlo error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax.base import VAE, Array, Example, Key, Params, check_count
from vaejax.objectives import log_weight_from


class MarginalEstimate(NamedTuple):
    """An estimate of log p(x) of one example.

    Attributes:
      log_marginal: the importance-weighted bound, in nats; its expectation is at most log p(x).
      standard_error: Monte-Carlo standard error of it, in nats, by the delta method; infinite for one sample. It does
        not cover the bias of the bound. By its formula it never exceeds 1, and it is too small where the effective
        sample size is: over a set, compare two independent estimates instead.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples.
    """

    log_marginal: Array
    standard_error: Array
    effective_sample_size: Array


def log_marginal(
    vae: VAE, params: Params, key: Key, x: Example, *, num_samples: int, chunk_size: int = 100
) -> MarginalEstimate:
    """log 1/n sum_i p(x|z_i) p(z_i) / q(z_i|x) with z_i ~ q(z|x), of one example, in nats.

    The example is encoded once and exactly `num_samples` latents are decoded, `chunk_size` at a time, so that memory
    does not grow with their number. Sample i draws from `fold_in(key, i)`: the chunk size changes nothing but rounding.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples.
      x: one example; `vmap` or `jax.lax.map` over a set, with a key each.
      num_samples: n. Published tables use 500 to 5,000.
      chunk_size: samples decoded together.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Burda et al. 2016, section 5 and equation 8.
    """
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def log_sums(first: Array, count: int) -> tuple[Array, Array]:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.uint32))
        log_weights = jax.vmap(lambda key: log_weight_from(vae, params, posterior, prior, key, x))(keys)
        return jax.nn.logsumexp(log_weights), jax.nn.logsumexp(2 * log_weights)

    def add_chunk(sums: tuple[Array, Array], chunk: Array) -> tuple[tuple[Array, Array], None]:
        return jax.tree.map(jnp.logaddexp, sums, log_sums(chunk * jnp.uint32(chunk_size), chunk_size)), None

    num_chunks, left_over = divmod(num_samples, chunk_size)
    # The left-over samples go first, so that the sums need no -inf to start from.
    first_count = left_over or chunk_size
    sums = log_sums(jnp.uint32(num_samples - first_count), first_count)
    chunks = jnp.arange(num_chunks if left_over else num_chunks - 1, dtype=jnp.uint32)
    (log_sum, log_sum_of_squares), _ = jax.lax.scan(add_chunk, sums, chunks)
    return estimate_from_log_sums(log_sum, log_sum_of_squares, num_samples)


def estimate_from_log_sums(log_sum: Array, log_sum_of_squares: Array, num_samples: int) -> MarginalEstimate:
    """The estimate from log sum w and log sum w^2 over that many weights, with E[w] = p(x)."""
    effective_sample_size = jnp.exp(2 * log_sum - log_sum_of_squares)
    # Var(log mean w) ~ Var(w) / (n E[w]^2), with the unbiased variance: (n / ESS - 1) / (n - 1).
    relative_variance = jnp.maximum(num_samples / effective_sample_size - 1, 0) / max(num_samples - 1, 1)
    standard_error = jnp.sqrt(relative_variance) if num_samples > 1 else jnp.full_like(log_sum, jnp.inf)
    return MarginalEstimate(log_sum - jnp.log(num_samples), standard_error, effective_sample_size)


def active_units(means: Array, *, threshold: float = 0.01) -> Array:
    """The number of latents in use: dimensions whose posterior mean varies over data by more than the threshold.

    Args:
      means: `[examples, *latent]`, the posterior means, as `vaejax.embed` returns them.
      threshold: in squared units of z.

    Raises:
      ValueError: fewer than two examples.

    Source: Burda et al. 2016, section 5.2.
    """
    if means.shape[0] < 2:
        raise ValueError(
            f"active_units: means has shape {means.shape}; a variance over data needs at least two examples."
        )
    return jnp.sum(jnp.var(means, axis=0) > threshold)
