"""Quality of the approximate posterior: inference gaps."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from vaejax._checks import (
    as_numbers,
    check_arrays,
    check_count,
    check_in_range,
    check_key,
    check_model,
)
from vaejax._programs import judged, run
from vaejax._reals import as_real
from vaejax.base import VAE, Array, Distribution, Example, Key, KlFn, Params, PyTree
from vaejax.objectives import kl_closed_form, negative_elbo

# Samples per step of the search for the best posterior.
_SAMPLES = 20


class InferenceGap(NamedTuple):
    """Gaps that separate the ELBO of one example from log p(x), in nats.

    Attributes:
      approximation: log p(x) - ELBO(q*), with q* the best posterior of the encoder's
        family for this example.
      amortization: ELBO(q*) - ELBO(q(z|x)), the loss of the encoder against q*.
      elbo: ELBO(q(z|x)); the two gaps and it sum to log p(x).

    Example:
      >>> from vaejax.estimators import InferenceGap
      >>> sum(InferenceGap(approximation=1.5, amortization=2.5, elbo=-90.0))
      -86.0
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
    num_samples: int = _SAMPLES,
    learning_rate: float = 0.03,
    kl_fn: KlFn = kl_closed_form,
) -> Distribution:
    """Find the posterior of the encoder's family that is best for one example.

    q* = argmax_q ELBO(q), with the model held fixed. The search starts at q(z|x) and
    runs Adam on the parameters of the distribution itself (the mean and log-variance of
    a Normal), with a step size that decays to zero.

    Args:
      vae: the model.
      params: its parameters.
      key: key of the samples.
      x: one example; use `vmap` over a set, with one key per example.
      num_steps: steps of the optimizer, at least 1.
      num_samples: samples of z per step, at least 1.
      learning_rate: step size at the start of its cosine decay; a step moves a mean or
        a log-variance by about as much.
      kl_fn: estimator of the KL, as in `vaejax.negative_elbo`.

    Returns:
      q*, a distribution of the type that `vae.encode` returns; NaN where the ELBO is
      finite at no step, as for an x that the likelihood rules out.

    Raises:
      ValueError: a count is not a positive integer.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import optimal_posterior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), x)
      >>> find = partial(optimal_posterior, vae, num_steps=10)
      >>> jax.eval_shape(find, params, jax.random.key(1), x).mean.shape
      (2,)

    Source: Cremer et al. 2018, section 4.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    check_count("num_steps", num_steps)
    check_count("num_samples", num_samples)
    check_in_range("learning_rate", learning_rate, 0, open_low=True)
    return run(
        _optimal_posterior,
        (vae, num_steps, num_samples, kl_fn),
        params,
        key,
        judged(x),
        learning_rate,
    )


def _optimal_posterior(
    vae: VAE,
    num_steps: int,
    num_samples: int,
    kl_fn: KlFn,
    params: Params,
    key: Key,
    x: Example,
    learning_rate: Array,
) -> Distribution:
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
    given = cast("PyTree", vae.encode(params, x))

    def as_given(posterior: PyTree) -> Distribution:
        return jax.tree.map(lambda a, b: a.astype(b.dtype), posterior, given)

    def loss(posterior: PyTree, key: Key) -> Array:
        fixed = vae._replace(encode=lambda params, x: as_given(posterior))
        return negative_elbo(
            fixed, params, key, x, num_samples=num_samples, kl_fn=kl_fn
        )[0]

    def step(state: tuple, i: Array) -> tuple[tuple, Array]:
        posterior, optimizer_state = state
        value, gradient = jax.value_and_grad(loss)(
            posterior, jax.random.fold_in(key, i)
        )
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return (optax.apply_updates(posterior, updates), optimizer_state), value

    # Steps far smaller than the posterior's own numbers: not in half precision.
    posterior = jax.tree.map(as_real, given)
    (posterior, _), losses = jax.lax.scan(
        step, (posterior, optimizer.init(posterior)), jnp.arange(num_steps)
    )
    has_bound = jnp.any(jnp.isfinite(losses))
    return as_given(
        jax.tree.map(lambda leaf: jnp.where(has_bound, leaf, jnp.nan), posterior)
    )


def inference_gap(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    log_marginal: Array,
    *,
    num_samples: int = 1000,
    num_steps: int = 300,
    learning_rate: float = 0.03,
    kl_fn: KlFn = kl_closed_form,
) -> InferenceGap:
    """Split log p(x) - ELBO of one example into approximation and amortization gap.

    With q* from `optimal_posterior`, log p(x) - ELBO(q(z|x)) = [log p(x) - ELBO(q*)] +
    [ELBO(q*) - ELBO(q(z|x))], in nats. Both ELBOs are estimated from the same noise, so
    that the amortization gap is far less noisy than either.

    Args:
      vae: the model.
      params: its parameters.
      key: key of the samples.
      x: one example.
      log_marginal: log p(x) in nats, from `vaejax.log_marginal` or, tighter, from
        `annealed_importance_sampling`.
      num_samples: samples of z for each ELBO, at least 1.
      num_steps: steps of the search for q*, at least 1.
      learning_rate: its step size at the start, as in `optimal_posterior`.
      kl_fn: estimator of the KL, as in `vaejax.negative_elbo`.

    Returns:
      The two gaps and ELBO(q(z|x)).

    Raises:
      ValueError: a count is not a positive integer.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import inference_gap
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> key, x = jax.random.key(0), jnp.ones(3)
      >>> params = jax.eval_shape(vae.init, key, x)
      >>> gap = partial(inference_gap, vae, num_steps=10)
      >>> jax.eval_shape(gap, params, key, x, jnp.float32(-2)).amortization.shape
      ()

    Source: Cremer et al. 2018, equations 5 to 7.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    log_marginal = as_numbers("inference_gap: log_marginal", log_marginal)
    check_count("num_samples", num_samples)
    check_count("num_steps", num_steps)
    check_in_range("learning_rate", learning_rate, 0, open_low=True)
    return run(
        _inference_gap,
        (vae, num_samples, num_steps, kl_fn),
        params,
        key,
        judged(x),
        log_marginal,
        learning_rate,
    )


def _inference_gap(
    vae: VAE,
    num_samples: int,
    num_steps: int,
    kl_fn: KlFn,
    params: Params,
    key: Key,
    x: Example,
    log_marginal: Array,
    learning_rate: Array,
) -> InferenceGap:
    optimize_key, elbo_key = jax.random.split(key)
    best = _optimal_posterior(
        vae, num_steps, _SAMPLES, kl_fn, params, optimize_key, x, learning_rate
    )
    keys = jax.random.split(elbo_key, num_samples)

    posteriors = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), best, vae.encode(params, x)
    )

    def elbos_of(key: Key) -> Array:
        def elbo(posterior: Distribution) -> Array:
            fixed = vae._replace(encode=lambda params, x: posterior)
            return -negative_elbo(fixed, params, key, x, kl_fn=kl_fn)[0]

        return as_real(jax.vmap(elbo)(posteriors))

    elbos = jnp.mean(jax.lax.map(elbos_of, keys, batch_size=100), axis=0)
    log_marginal = jnp.asarray(log_marginal, elbos.dtype)
    return InferenceGap(log_marginal - elbos[0], elbos[0] - elbos[1], elbos[1])
