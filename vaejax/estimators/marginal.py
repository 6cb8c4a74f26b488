"""Numbers about a trained model: log p(x) with its Monte-Carlo error, latents in use,
what the ELBO falls short of.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vaejax import weights
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    KlFn,
    Params,
    check_count,
)
from vaejax.objectives import kl_closed_form, log_weight_from, negative_elbo


class MarginalEstimate(NamedTuple):
    """An estimate of log p(x) of one example.

    Attributes:
      log_marginal: the importance-weighted bound, in nats; its expectation is at most
        log p(x).
      standard_error: Monte-Carlo standard error of it, in nats, by the delta method;
        infinite for one sample. It does not cover the bias of the bound. By its formula
        it never exceeds 1, and it is too small where the effective sample size is: over
        a set, compare two independent estimates instead.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples.
      pareto_k: of the tail of the weights (see `vaejax.pareto_k`): above 0.7, believe
        neither estimate nor error; infinite with fewer than 25 samples.
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
    """log 1/n sum_i p(x|z_i) p(z_i) / q(z_i|x) with z_i ~ q(z|x), of one example, in
    nats.

    The example is encoded once and exactly `num_samples` latents are decoded,
    `chunk_size` at a time, so that memory does not grow with their number. Sample i
    draws from `fold_in(key, i)`: the chunk size changes nothing but rounding.

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
    num_largest = weights.tail_size(num_samples) + 1

    def log_weights(first: Array, count: int) -> Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
            first + jnp.arange(count, dtype=jnp.uint32)
        )
        return jax.vmap(
            lambda key: log_weight_from(vae, params, posterior, prior, key, x)
        )(keys)

    def add(
        sums: tuple[Array, Array, Array], log_weights: Array
    ) -> tuple[Array, Array, Array]:
        log_sum, log_sum_of_squares, largest = sums
        return (
            jnp.logaddexp(log_sum, jax.nn.logsumexp(log_weights)),
            jnp.logaddexp(log_sum_of_squares, jax.nn.logsumexp(2 * log_weights)),
            jax.lax.top_k(jnp.concatenate([largest, log_weights]), num_largest)[0],
        )

    num_chunks, left_over = divmod(num_samples, chunk_size)
    dtype = jax.eval_shape(partial(log_weights, count=1), jnp.uint32(0)).dtype
    nothing = jnp.full((), -jnp.inf, dtype)
    sums = nothing, nothing, jnp.full((num_largest,), -jnp.inf, dtype)
    if left_over:
        sums = add(sums, log_weights(jnp.uint32(num_samples - left_over), left_over))
    firsts = jnp.arange(num_chunks, dtype=jnp.uint32) * jnp.uint32(chunk_size)
    sums, _ = jax.lax.scan(
        lambda sums, first: (add(sums, log_weights(first, chunk_size)), None),
        sums,
        firsts,
    )
    log_sum, log_sum_of_squares, largest = sums
    estimate = weights.mean_with_error(log_sum, log_sum_of_squares, num_samples)
    return MarginalEstimate(*estimate, weights.pareto_k_of_tail(largest))


class InferenceGap(NamedTuple):
    """Where the distance between log p(x) and the ELBO of one example comes from, in
    nats.

    Attributes:
      approximation: log p(x) - ELBO(q*), with q* the best posterior of the encoder's
        family for this example.
      amortization: ELBO(q*) - ELBO(q(z|x)), what the encoder falls short of q*.
      elbo: ELBO(q(z|x)); the two gaps and it sum to log p(x).
    """

    approximation: Array
    amortization: Array
    elbo: Array


def optimal_posterior(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_steps: int = 300,
    num_samples: int = 20,
    learning_rate: float = 0.03,
    kl_fn: KlFn = kl_closed_form,
) -> Distribution:
    """q* = argmax_q ELBO(q) for one example within the encoder's family, from q(z|x)
    on, with the model held fixed.

    Adam on the parameters of the distribution itself (a Normal's mean and
    log-variance), the step decaying to zero.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples.
      x: one example; `vmap` over a set, with a key each.
      num_steps: of the optimizer.
      num_samples: of z, in each step.
      learning_rate: at the start of its cosine decay; a step moves a mean or a
        log-variance by about so much.
      kl_fn: as in `negative_elbo`.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Cremer et al. 2018, section 4.
    """
    check_count("num_steps", num_steps)
    check_count("num_samples", num_samples)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(posterior: Distribution, key: Key) -> Array:
        fixed = vae._replace(encode=lambda params, x: posterior)
        return negative_elbo(
            fixed, params, key, x, num_samples=num_samples, kl_fn=kl_fn
        )[0]

    def step(state: tuple, i: Array) -> tuple[tuple, None]:
        posterior, optimizer_state = state
        gradient = jax.grad(loss)(posterior, jax.random.fold_in(key, i))
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return (optax.apply_updates(posterior, updates), optimizer_state), None

    posterior = vae.encode(params, x)
    (posterior, _), _ = jax.lax.scan(
        step, (posterior, optimizer.init(posterior)), jnp.arange(num_steps)
    )
    return posterior


def inference_gap(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    log_marginal: Array,
    *,
    num_samples: int = 1000,
    kl_fn: KlFn = kl_closed_form,
    **optimization,
) -> InferenceGap:
    """log p(x) - ELBO as the sum of the approximation and the amortisation gap of one
    example, in nats.

    Both ELBOs are estimated from the same noise, so that the amortisation gap is far
    less noisy than either.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples.
      x: one example.
      log_marginal: log p(x), of `vaejax.log_marginal` or, tighter, of annealed
        importance sampling.
      num_samples: of z, for each ELBO.
      kl_fn: as in `negative_elbo`.
      **optimization: `num_steps` and `learning_rate` of `optimal_posterior`.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Cremer et al. 2018, equations 5 to 7.
    """
    check_count("num_samples", num_samples)
    optimize_key, elbo_key = jax.random.split(key)
    best = optimal_posterior(vae, params, optimize_key, x, kl_fn=kl_fn, **optimization)
    keys = jax.random.split(elbo_key, num_samples)

    posteriors = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), best, vae.encode(params, x)
    )

    def elbos_of(key: Key) -> Array:
        def elbo(posterior: Distribution) -> Array:
            fixed = vae._replace(encode=lambda params, x: posterior)
            return -negative_elbo(fixed, params, key, x, kl_fn=kl_fn)[0]

        return jax.vmap(elbo)(posteriors)

    elbos = jnp.mean(jax.lax.map(elbos_of, keys, batch_size=100), axis=0)
    return InferenceGap(log_marginal - elbos[0], elbos[0] - elbos[1], elbos[1])


def active_units(means: Array, *, threshold: float = 0.01) -> Array:
    """The number of latents in use: dimensions whose posterior mean varies over data by
    more than the threshold.

    Args:
      means: `[examples, *latent]`, the posterior means, as `vaejax.embed` returns them.
      threshold: in squared units of z.

    Raises:
      ValueError: fewer than two examples.

    Source: Burda et al. 2016, section 5.2.
    """
    if means.shape[0] < 2:
        raise ValueError(
            f"active_units: means has shape {means.shape}; a variance over data needs "
            "at least two examples."
        )
    return jnp.sum(jnp.var(means, axis=0) > threshold)
