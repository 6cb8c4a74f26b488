"""Quality of the approximate posterior: gaps and active units."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vaejax._checks import check_count
from vaejax.base import VAE, Array, Distribution, Example, Key, KlFn, Params
from vaejax.objectives import kl_closed_form, negative_elbo


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
    """log p(x) - ELBO as the sum of the approximation and the amortization gap of one
    example, in nats.

    Both ELBOs are estimated from the same noise, so that the amortization gap is far
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
