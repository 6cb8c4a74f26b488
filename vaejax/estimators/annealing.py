"""Annealed importance sampling and bidirectional Monte Carlo: log p(x) of one example
between two stochastic bounds.

A run in one call is `annealed_importance_sampling`. A long one goes in pieces, which
may be saved in between: `adapt_step_sizes`, `init_annealing`, then `anneal` as often as
needed, and `annealed_estimate`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count, require
from vaejax.base import VAE, Array, Example, Key, Latent, Params
from vaejax.estimators.annealing_path import (
    AnnealingState,
    InitialFn,
    TemperatureSchedule,
    _make_path,
    anneal,
    init_annealing,
    init_reverse_annealing,
    reverse_anneal,
    sigmoidal_temperature_schedule,
    start_at_prior,
)
from vaejax.estimators.importance_weights import _mean_with_error

# The preliminary run: where the search starts, its transitions at the first
# temperature, and how fast it goes there and after.
_FIRST_STEP_SIZE = 0.1
_BURN_IN = 100
_BURN_IN_RATE = 0.5
_RATE = 0.1


class AnnealedEstimate(NamedTuple):
    """A stochastic bound on log p(x) of one example.

    Attributes:
      log_marginal: the bound, in nats: lower in expectation if the chains went forward,
        upper if in reverse.
      standard_error: its Monte-Carlo standard error over the chains, in nats, by the
        delta method; infinite for one chain. It does not cover the bias of the bound.
        It never exceeds 1 and is too small where a few weights dominate, as 16 may
        well; in reverse it does not see that all chains share one start. Over a set,
        take the deviation over examples or compare two independent runs.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of chains; in
        reverse, of 1 / w.
      acceptance_rate: mean acceptance probability over chains and temperatures.
    """

    log_marginal: Array
    standard_error: Array
    effective_sample_size: Array
    acceptance_rate: Array


class BidirectionalEstimate(NamedTuple):
    """Both bounds on log p(x) of one simulated example, in nats.

    Attributes:
      lower: of the forward chains; at most log p(x) in expectation.
      upper: of the reverse chains; at least log p(x) in expectation.
      gap: upper - lower. Its expectation bounds the error of either; a single one may
        be negative.
      forward: the `AnnealedEstimate` behind `lower`.
      reverse: the `AnnealedEstimate` behind `upper`.
      x: the simulated example.
    """

    lower: Array
    upper: Array
    gap: Array
    forward: AnnealedEstimate
    reverse: AnnealedEstimate
    x: Example


def annealed_estimate(state: AnnealingState) -> AnnealedEstimate:
    """log 1/n sum_i w_i of n chains that went forward to the end of the path: a
    stochastic lower bound.

    NaN for chains that have not arrived: a part of the path says nothing of p(x).
    """
    log_sum, log_sum_of_squares = (
        jax.nn.logsumexp(state.log_weight),
        jax.nn.logsumexp(2 * state.log_weight),
    )
    estimate = _mean_with_error(log_sum, log_sum_of_squares, state.log_weight.shape[0])
    acceptance_rate = jnp.mean(state.acceptance) / jnp.maximum(
        state.position, 1
    ).astype(state.acceptance.dtype)
    arrived = state.remaining == 0
    return AnnealedEstimate(
        *(
            jnp.where(arrived, number, jnp.nan)
            for number in (*estimate, acceptance_rate)
        )
    )


def reverse_annealed_estimate(state: AnnealingState) -> AnnealedEstimate:
    """-log 1/n sum_i 1 / w_i of n chains that went back to the start of the path: a
    stochastic upper bound.
    """
    estimate = annealed_estimate(state._replace(log_weight=-state.log_weight))
    return estimate._replace(log_marginal=-estimate.log_marginal)


def adapt_step_sizes(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule,
    initial: InitialFn = start_at_prior,
    target_acceptance: float = 0.65,
    num_transitions: int | None = None,
) -> Array:
    """A step size for each temperature, shared by the chains, at which about
    `target_acceptance` is accepted.

    A preliminary forward run: after each transition log e grows by 0.1 (acceptance -
    target), the acceptance probability averaged over chains. Where few temperatures
    sharpen a posterior quickly the steps lag behind, and less is accepted. Give a run
    its result and a key other than this one: a step size that depends on the chains
    which it moves would bias their weights.

    Args:
      target_acceptance: within (0, 1).
      num_transitions: of each chain, in all; rounded up to the same number, one at
        least, at each temperature. By default as many as there are temperatures, and at
        least 200. 100 more come first, so that where the search starts does not matter.

    For the rest, and what else is raised, see `annealed_importance_sampling`.

    Returns:
      `[num_temperatures]`.

    Raises:
      ValueError: `target_acceptance` is outside (0, 1), or `num_transitions` is not a
        positive integer.

    Source: Wu et al. 2017 for 65 %; they too fix the step sizes in a preliminary run.
    """
    check_count("num_temperatures", num_temperatures)
    num_transitions = (
        max(num_temperatures, 200) if num_transitions is None else num_transitions
    )
    check_count("num_transitions", num_transitions)
    if not 0 < target_acceptance < 1:
        raise ValueError(
            f"target_acceptance is {target_acceptance}; give a number within (0, 1), "
            "such as 0.65."
        )
    path = _make_path(
        vae, params, x, num_temperatures, num_leapfrog, temperature_schedule, initial
    )
    initial_key, transition_key = jax.random.split(key)
    state = init_annealing(
        vae, params, initial_key, x, num_chains=num_chains, initial=initial
    )
    repeats = -(-num_transitions // num_temperatures)

    def step(
        carry: tuple[Latent, Array], index: Array
    ) -> tuple[tuple[Latent, Array], Array]:
        z, log_step_size = carry
        t = jnp.maximum(index - _BURN_IN, 0) // repeats
        z, acceptance = path.move(
            jax.random.fold_in(transition_key, index), z, t, jnp.exp(log_step_size)
        )
        error = jnp.mean(acceptance).astype(log_step_size.dtype) - target_acceptance
        rate = jnp.where(index < _BURN_IN, _BURN_IN_RATE, _RATE).astype(error.dtype)
        return (z, log_step_size + rate * error), log_step_size

    first = jnp.asarray(math.log(_FIRST_STEP_SIZE), state.log_weight.dtype)
    indices = jnp.arange(_BURN_IN + repeats * num_temperatures, dtype=jnp.int32)
    _, log_step_sizes = jax.lax.scan(step, (state.z, first), indices)
    return jnp.exp(
        jnp.mean(log_step_sizes[_BURN_IN:].reshape(num_temperatures, repeats), axis=1)
    )


def annealed_importance_sampling(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule,
    initial: InitialFn = start_at_prior,
    step_sizes: Array | None = None,
) -> AnnealedEstimate:
    """log 1/n sum_i w_i over n annealed chains, of one example, in nats; E[w] = p(x) at
    any number of temperatures.

    Each chain starts at z_0 ~ p_0(z) and passes T temperatures, where w = prod_t [p(x,
    z_t) / p_0(z_t)]^(b_(t+1) - b_t) and z_(t+1) comes from z_t by a Hamiltonian
    transition that leaves f_b(t+1) invariant. A chain costs T (num_leapfrog + 1)
    gradients of the decoder; where step sizes are adapted here, max(T, 200) + 100
    transitions come on top: adapt once, and give them, where T is small or examples are
    alike. It is `anneal` with `adapt_key, initial_key, transition_key =
    jax.random.split(key, 3)`.

    Args:
      vae: the model; its prior and likelihood need a `log_prob` that is differentiable
        in z.
      params: its parameters.
      key: decides everything.
      x: one example; `vmap` or `jax.lax.map` over a set, with a key each.
      num_chains: n, held at once.
      num_temperatures: T. Memory grows with it by a few numbers a temperature, whatever
        the model.
      num_leapfrog: leapfrog steps a transition.
      spacing: `T -> [T + 1]` inverse temperatures from 0 to 1, never falling.
      initial: p_0(z): `start_at_prior`, `start_at_posterior`, or a function `(vae,
        params, x) -> Distribution`.
      step_sizes: `[T]`, found independently of this run; by default `adapt_step_sizes`
        with a key of its own.

    Raises:
      ValueError: a count is not a positive integer, or the spacing or step sizes are
        not as many as they should be.
      TypeError: z holds anything but floats, or a distribution lacks a `log_prob`.

    Source: Neal 2001, section 2; 16 chains, 10 leapfrog steps and 65 %: Wu et al. 2017.
    """
    check_count("num_temperatures", num_temperatures)
    options = {
        "num_leapfrog": num_leapfrog,
        "temperature_schedule": temperature_schedule,
        "initial": initial,
    }
    counts = {"num_chains": num_chains, "num_temperatures": num_temperatures}
    adapt_key, initial_key, transition_key = jax.random.split(key, 3)
    if step_sizes is None:
        step_sizes = adapt_step_sizes(vae, params, adapt_key, x, **counts, **options)
    _check_length(step_sizes, num_temperatures)
    state = init_annealing(
        vae, params, initial_key, x, num_chains=num_chains, initial=initial
    )
    state = anneal(
        vae,
        params,
        transition_key,
        x,
        state,
        num_temperatures,
        step_sizes=step_sizes,
        **options,
    )
    return annealed_estimate(state)


def reverse_annealed_importance_sampling(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    z: Latent,
    *,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule,
    initial: InitialFn = start_at_prior,
    step_sizes: Array | None = None,
) -> AnnealedEstimate:
    """-log 1/n sum_i 1 / w_i over n chains from an exact sample z of p(z|x) back to
    p_0, in nats: an upper bound.

    E[1 / w] = 1 / p(x), so that the expectation is at least log p(x). Data simulated
    from the model come with one exact sample, the z that made x, and every chain starts
    there: each is unbiased, but they are not independent, so that more chains narrow
    the bound only as far as the chains forget z. From a z that is no exact sample it is
    no bound.

    Args:
      key: decides everything: `adapt_key, transition_key = jax.random.split(key)`.
      z: one exact sample of the posterior. Step sizes must not depend on it.

    For the rest, and what is raised, see `annealed_importance_sampling`.

    Source: Grosse et al. 2015.
    """
    check_count("num_temperatures", num_temperatures)
    options = {
        "num_leapfrog": num_leapfrog,
        "temperature_schedule": temperature_schedule,
        "initial": initial,
    }
    counts = {"num_chains": num_chains, "num_temperatures": num_temperatures}
    adapt_key, transition_key = jax.random.split(key)
    if step_sizes is None:
        step_sizes = adapt_step_sizes(vae, params, adapt_key, x, **counts, **options)
    _check_length(step_sizes, num_temperatures)
    state = init_reverse_annealing(z, num_chains=num_chains)
    state = reverse_anneal(
        vae,
        params,
        transition_key,
        x,
        state,
        num_temperatures,
        step_sizes=step_sizes,
        **options,
    )
    return reverse_annealed_estimate(state)


def bidirectional_monte_carlo(
    vae: VAE,
    params: Params,
    key: Key,
    *,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule,
    initial: InitialFn = start_at_prior,
    step_sizes: Array | None = None,
) -> BidirectionalEstimate:
    """Simulates z ~ p(z), x ~ p(x|z) and bounds log p(x) from below by forward chains
    and from above by reverse ones.

    One example; `vmap` over keys. Both directions share the step sizes, which are
    adapted to x once, by default. The gap says how far annealing is from the truth on
    data like the model's own; on other data it is a guide only.

    For the arguments, and what is raised, see `annealed_importance_sampling`.

    Raises:
      TypeError: the prior or the likelihood lacks a `sample`.

    Source: Grosse et al. 2015; for decoders: Wu et al. 2017.
    """
    check_count("num_temperatures", num_temperatures)
    options = {
        "num_temperatures": num_temperatures,
        "num_leapfrog": num_leapfrog,
        "temperature_schedule": temperature_schedule,
    }
    options |= {"num_chains": num_chains, "initial": initial}
    z_key, x_key, adapt_key, forward_key, reverse_key = jax.random.split(key, 5)
    z = require(vae.prior(params), "sample")(z_key)
    x = require(vae.decode(params, z), "sample")(x_key)
    if step_sizes is None:
        step_sizes = adapt_step_sizes(vae, params, adapt_key, x, **options)
    options["step_sizes"] = step_sizes
    forward = annealed_importance_sampling(vae, params, forward_key, x, **options)
    reverse = reverse_annealed_importance_sampling(
        vae, params, reverse_key, x, z, **options
    )
    lower, upper = forward.log_marginal, reverse.log_marginal
    return BidirectionalEstimate(lower, upper, upper - lower, forward, reverse, x)


def _check_length(step_sizes: Array, num_temperatures: int) -> None:
    if jnp.shape(step_sizes) != (num_temperatures,):
        raise ValueError(
            f"step_sizes has shape {jnp.shape(step_sizes)} and num_temperatures is "
            f"{num_temperatures}; give one a "
            "temperature, as vaejax.adapt_step_sizes does with the same "
            "num_temperatures."
        )
