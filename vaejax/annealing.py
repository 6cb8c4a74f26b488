"""Annealed importance sampling: log p(x) from below for any example, and from above too for one drawn from the model.

The path leads from an initial distribution p_0(z) (the prior, or q(z|x)) to p(x, z) through
f_b(z) = p_0(z)^(1 - b) p(x, z)^b with b rising from 0 to 1, with Hamiltonian Monte Carlo at every b. For continuous z.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from vaejax.base import VAE, Array, Distribution, Example, Key, Latent, Params, check_count, require
from vaejax.objectives import log_mean_exp

Initial = Callable[[VAE, Params, Example], Distribution]
"""`(vae, params, x) -> p_0(z)`, where the path starts."""

_FIRST_STEP_SIZE = 0.1
# Step sizes are drawn afresh for each transition, within this share of what was asked for.
_JITTER = 0.2


class AnnealedEstimate(NamedTuple):
    """An estimate of log p(x) of one example from independent chains.

    Attributes:
      log_marginal: in nats. Forwards, its expectation is at most log p(x); backwards, at least.
      standard_error: Monte-Carlo standard error of it, in nats, by the delta method over chains; too small where the
        effective sample size is, and it does not cover the bias.
      effective_sample_size: of the chains' weights, between 1 and their number.
      acceptance_rate: of the transitions, averaged over chains and temperatures.
    """

    log_marginal: Array
    standard_error: Array
    effective_sample_size: Array
    acceptance_rate: Array


class BidirectionalEstimate(NamedTuple):
    """Two estimates of log p(x) for an example x drawn from the model.

    Attributes:
      lower: annealed importance sampling; its expectation is at most log p(x).
      upper: the reverse from the z that x was drawn with; its expectation is at least log p(x).
      gap: upper less lower, in nats: what the error of either is at most, in expectation.
    """

    lower: AnnealedEstimate
    upper: AnnealedEstimate
    gap: Array


def from_prior(vae: VAE, params: Params, x: Example) -> Distribution:
    """p_0(z) = p(z)."""
    del x
    return vae.prior(params)


def from_posterior(vae: VAE, params: Params, x: Example) -> Distribution:
    """p_0(z) = q(z|x): nearer to the target, but blind to what q misses."""
    return vae.encode(params, x)


def sigmoidal(num_temperatures: int) -> Array:
    """Inverse temperatures `[num_temperatures + 1]` from 0 to 1, sigmoid(4 (2 t / T - 1)) rescaled: dense at the ends.

    Source: Wu et al. 2017, section 3.1.
    """
    raw = jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, num_temperatures + 1))
    return (raw - raw[0]) / (raw[-1] - raw[0])


def linear(num_temperatures: int) -> Array:
    """Inverse temperatures `[num_temperatures + 1]` from 0 to 1 at equal distances."""
    return jnp.linspace(0.0, 1.0, num_temperatures + 1)


def hamiltonian_step(
    log_density: Callable[[Array], Array], key: Key, z: Array, step_size: Array, num_leapfrog: int
) -> tuple[Array, Array]:
    """One transition of Hamiltonian Monte Carlo that leaves exp(log_density) invariant.

    Args:
      log_density: of a vector, up to a constant.
      key: decides momentum and acceptance.
      z: `[size]`.
      step_size: of the leapfrog integrator, with unit masses.
      num_leapfrog: steps of it.

    Returns:
      The next z, and the probability with which the proposal was accepted.

    Source: Neal 2011, section 5.3.2.1.
    """
    momentum_key, accept_key, jitter_key = jax.random.split(key, 3)
    # Without it, a trajectory of a Gaussian's period would come back to where it began.
    step_size = step_size * jax.random.uniform(jitter_key, (), z.dtype, 1 - _JITTER, 1 + _JITTER)
    momentum = jax.random.normal(momentum_key, z.shape, z.dtype)
    value_and_slope = jax.value_and_grad(log_density)
    before, slope = value_and_slope(z)

    def leapfrog(state: tuple, _: None) -> tuple[tuple, None]:
        z, momentum, _, slope = state
        momentum = momentum + step_size / 2 * slope
        z = z + step_size * momentum
        value, slope = value_and_slope(z)
        return (z, momentum + step_size / 2 * slope, value, slope), None

    (proposal, last, after, _), _ = jax.lax.scan(leapfrog, (z, momentum, before, slope), length=num_leapfrog)
    energy_lost = after - before - (jnp.sum(jnp.square(last)) - jnp.sum(jnp.square(momentum))) / 2
    # A trajectory that left the finite numbers is refused.
    probability = jnp.where(jnp.isfinite(energy_lost), jnp.exp(jnp.minimum(energy_lost, 0)), 0)
    accepted = jax.random.uniform(accept_key, (), z.dtype) < probability
    return jnp.where(accepted, proposal, z), probability


class _Path(NamedTuple):
    """The path of one example, over latents as vectors.

    Attributes:
      initial: p_0(z).
      flatten: z to a vector.
      log_initial: log p_0 of a vector.
      log_ratio: log p(x, z) - log p_0(z) of a vector.
    """

    initial: Distribution
    flatten: Callable[[Latent], Array]
    log_initial: Callable[[Array], Array]
    log_ratio: Callable[[Array], Array]

    def log_density(self, temperature: Array) -> Callable[[Array], Array]:
        return lambda z: self.log_initial(z) + temperature * self.log_ratio(z)


def _make_path(vae: VAE, params: Params, x: Example, initial: Initial) -> _Path:
    start, prior = initial(vae, params, x), vae.prior(params)
    example = jax.eval_shape(require(start, "sample_and_log_prob"), jax.random.key(0))[0]
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(example)):
        raise TypeError(f"annealing needs a z of real numbers; it is {example}.")
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example))

    def log_ratio(flat: Array) -> Array:
        z = unravel(flat)
        log_joint = require(vae.decode(params, z), "log_prob")(x) + require(prior, "log_prob")(z)
        return log_joint - require(start, "log_prob")(z)

    return _Path(start, lambda z: ravel_pytree(z)[0], lambda flat: require(start, "log_prob")(unravel(flat)), log_ratio)


def adapt_step_sizes(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    initial: Initial = from_prior,
    spacing: Callable[[int], Array] = sigmoidal,
    target: float = 0.65,
) -> Array:
    """Step sizes `[num_temperatures]` at which the share `target` of proposals is accepted, from a run of its own.

    The step size grows by a tenth of what the chains' mean acceptance exceeds the target by, and shrinks likewise. A
    measured run must not adapt: its weights would no longer average to p(x).

    Raises:
      ValueError: a count is not a positive integer.
      TypeError: z is not of real numbers.

    Source: the target of Wu et al. 2017, section 3.1.
    """
    _check_counts(num_chains, num_temperatures, num_leapfrog)
    path, temperatures = _make_path(vae, params, x, initial), spacing(num_temperatures)
    start_key, run_key = jax.random.split(key)
    zs = jax.vmap(lambda key: path.flatten(path.initial.sample_and_log_prob(key)[0]))(
        jax.random.split(start_key, num_chains)
    )

    def step(state: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
        zs, log_step = state
        keys = jax.random.split(jax.random.fold_in(run_key, t), num_chains)

        def transition(key: Key, z: Array) -> tuple[Array, Array]:
            return hamiltonian_step(path.log_density(temperatures[t]), key, z, jnp.exp(log_step), num_leapfrog)

        zs, probabilities = jax.vmap(transition)(keys, zs)
        return (zs, log_step + 0.1 * (jnp.mean(probabilities) - target)), jnp.exp(log_step)

    first = jnp.full((), math.log(_FIRST_STEP_SIZE), zs.dtype)
    # The start of the path comes twice: at first the step size has yet to find its order of magnitude.
    (_, last), _ = jax.lax.scan(step, (zs, first), jnp.arange(1, min(num_temperatures, 100) + 1))
    _, step_sizes = jax.lax.scan(step, (zs, last), jnp.arange(1, num_temperatures + 1))
    return step_sizes


def annealed_importance_sampling(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    initial: Initial = from_prior,
    spacing: Callable[[int], Array] = sigmoidal,
    step_sizes: Array | None = None,
) -> AnnealedEstimate:
    """log 1/n sum_i w_i of one example, log w = sum_t (b_t - b_(t-1)) [log p(x, z_t) - log p_0(z_t)], in nats.

    z_1 ~ p_0, and z_(t+1) follows from z_t by a transition that leaves f_(b_t) invariant. E[w] = p(x), so that the
    expectation of the estimate is at most log p(x). Memory does not grow with the temperatures. A transition costs
    `num_leapfrog` + 1 gradients of the decoder.

    Args:
      vae: the model.
      params: its parameters.
      key: decides all of it.
      x: one example; `vmap` or `jax.lax.map` over a set, with a key each.
      num_chains: n, independent.
      num_temperatures: T.
      num_leapfrog: steps of each transition.
      initial: p_0: `from_prior`, or `from_posterior`.
      spacing: T to the inverse temperatures `[T + 1]`, from 0 to 1: `sigmoidal` or `linear`.
      step_sizes: `[T]`, from `adapt_step_sizes` with the same options; by default adapted here, which doubles the cost.

    Raises:
      ValueError: a count is not a positive integer, or `step_sizes` has another length.
      TypeError: z is not of real numbers.

    Source: Neal 2001; chains, steps and spacing of Wu et al. 2017, section 3.1.
    """
    _check_counts(num_chains, num_temperatures, num_leapfrog)
    adapt_key, start_key, run_key = jax.random.split(key, 3)
    if step_sizes is None:
        step_sizes = adapt_step_sizes(
            vae,
            params,
            adapt_key,
            x,
            num_chains=num_chains,
            num_temperatures=num_temperatures,
            num_leapfrog=num_leapfrog,
            initial=initial,
            spacing=spacing,
        )
    _check_step_sizes(step_sizes, num_temperatures)
    path, temperatures = _make_path(vae, params, x, initial), spacing(num_temperatures)

    def chain(start_key: Key, key: Key) -> tuple[Array, Array]:
        def step(state: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
            z, log_weight = state
            log_weight = log_weight + (temperatures[t] - temperatures[t - 1]) * path.log_ratio(z)
            step_key, density = jax.random.fold_in(key, t), path.log_density(temperatures[t])
            z, probability = hamiltonian_step(density, step_key, z, step_sizes[t - 1], num_leapfrog)
            return (z, log_weight), probability

        z = path.flatten(path.initial.sample_and_log_prob(start_key)[0])
        start = z, jnp.zeros((), z.dtype)
        (_, log_weight), probabilities = jax.lax.scan(step, start, jnp.arange(1, num_temperatures + 1))
        return log_weight, jnp.mean(probabilities)

    return _estimate(*jax.vmap(chain)(jax.random.split(start_key, num_chains), jax.random.split(run_key, num_chains)))


def reverse_annealed_importance_sampling(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    z: Latent,
    *,
    step_sizes: Array,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    initial: Initial = from_prior,
    spacing: Callable[[int], Array] = sigmoidal,
) -> AnnealedEstimate:
    """-log 1/n sum_i w_i with the path run backwards from z ~ p(z|x): an estimate that is too large in expectation.

    E[w] = 1 / p(x) for an exact draw of the posterior, which is known for an example that was drawn from the model:
    the z that it was drawn with. All chains start there; each alone, and hence their mean, keeps that expectation.

    Args:
      vae, params, key, x: as in `annealed_importance_sampling`.
      z: one exact draw from p(z|x).
      step_sizes: `[num_temperatures]`, from `adapt_step_sizes`, in the order of the forward path.
      num_chains, num_temperatures, num_leapfrog, initial, spacing: likewise.

    Raises:
      ValueError: a count is not a positive integer, or `step_sizes` has another length.
      TypeError: z is not of real numbers.

    Source: Grosse, Ghahramani & Adams 2015, section 4.
    """
    _check_counts(num_chains, num_temperatures, num_leapfrog)
    _check_step_sizes(step_sizes, num_temperatures)
    path, temperatures = _make_path(vae, params, x, initial), spacing(num_temperatures)

    def chain(key: Key) -> tuple[Array, Array]:
        def step(state: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
            z, log_weight = state
            step_key, density = jax.random.fold_in(key, t), path.log_density(temperatures[t])
            z, probability = hamiltonian_step(density, step_key, z, step_sizes[t - 1], num_leapfrog)
            return (z, log_weight - (temperatures[t] - temperatures[t - 1]) * path.log_ratio(z)), probability

        flat = path.flatten(z)
        start = flat, jnp.zeros((), flat.dtype)
        (_, log_weight), probabilities = jax.lax.scan(step, start, jnp.arange(num_temperatures, 0, -1))
        return log_weight, jnp.mean(probabilities)

    estimate = _estimate(*jax.vmap(chain)(jax.random.split(key, num_chains)))
    return estimate._replace(log_marginal=-estimate.log_marginal)


def bidirectional_monte_carlo(
    vae: VAE, params: Params, key: Key, *, num_temperatures: int = 1000, initial: Initial = from_prior, **options
) -> BidirectionalEstimate:
    """log p(x) from below and from above for one example drawn here: z ~ p(z), x ~ p(x|z).

    Both runs use the step sizes of one adaptation. The gap over simulated examples tells how far annealing with these
    options is from log p(x); for data that resemble the model's own, about as far.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the example and both runs; `vmap` over keys.
      num_temperatures: T.
      initial: p_0.
      **options: `num_chains`, `num_leapfrog` and `spacing` of `annealed_importance_sampling`.

    Source: Grosse, Ghahramani & Adams 2015, section 4; Wu et al. 2017, section 3.2.
    """
    z_key, x_key, adapt_key, forward_key, reverse_key = jax.random.split(key, 5)
    z = require(vae.prior(params), "sample")(z_key)
    x = require(vae.decode(params, z), "sample")(x_key)
    options |= {"num_temperatures": num_temperatures, "initial": initial}
    step_sizes = adapt_step_sizes(vae, params, adapt_key, x, **options)
    lower = annealed_importance_sampling(vae, params, forward_key, x, step_sizes=step_sizes, **options)
    upper = reverse_annealed_importance_sampling(vae, params, reverse_key, x, z, step_sizes=step_sizes, **options)
    return BidirectionalEstimate(lower, upper, upper.log_marginal - lower.log_marginal)


def _estimate(log_weights: Array, acceptance: Array) -> AnnealedEstimate:
    num = len(log_weights)
    size = 1 / jnp.sum(jnp.square(jax.nn.softmax(log_weights)))
    # As in log_marginal: (n / ESS - 1) / (n - 1).
    error = jnp.sqrt(jnp.maximum(num / size - 1, 0) / max(num - 1, 1)) if num > 1 else jnp.full_like(size, jnp.inf)
    return AnnealedEstimate(log_mean_exp(log_weights), error, size, jnp.mean(acceptance))


def _check_counts(num_chains: int, num_temperatures: int, num_leapfrog: int) -> None:
    check_count("num_chains", num_chains)
    check_count("num_temperatures", num_temperatures)
    check_count("num_leapfrog", num_leapfrog)


def _check_step_sizes(step_sizes: Array, num_temperatures: int) -> None:
    if step_sizes.shape != (num_temperatures,):
        raise ValueError(
            f"step_sizes has shape {step_sizes.shape} and there are {num_temperatures} temperatures; adapt them with "
            "the same number."
        )
