"""The path of annealed importance sampling for one example, and the chains that walk
it, in pieces if need be.

Between an initial distribution p_0(z) and p(x, z) lies the geometric path f_b(z) =
p_0(z)^(1-b) p(x, z)^b, with the inverse temperatures 0 = b_0 <= ... <= b_T = 1. Chains
move on it by Hamiltonian Monte Carlo, for any model whose z is a pytree of float
arrays. `vaejax.annealing` holds the whole runs.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count, require
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    Latent,
    Params,
    PyTree,
    batch_size_of,
    complete,
    draw,
    values,
)
from vaejax.estimators.hamiltonian import hamiltonian_transition

InitialFn = Callable[[VAE, Params, Example], Distribution]
TemperatureSchedule = Callable[[int], Array]


class AnnealingState(NamedTuple):
    """Where the chains of one example are on the path: all that a run needs to go on.

    Attributes:
      z: `[chains, *latent]`.
      log_weight: `[chains]`, sum_t (b_t - b_(t-1)) log [p(x, z_(t-1)) / p_0(z_(t-1))]
        so far, in nats.
      acceptance: `[chains]`, the sum of the acceptance probabilities so far.
      position: temperatures passed, an int32 scalar.
      remaining: temperatures left, likewise; -1 before the first piece, when the length
        of the path is not known.
    """

    z: Latent
    log_weight: Array
    acceptance: Array
    position: Array
    remaining: Array


def start_at_prior(vae: VAE, params: Params, x: Example) -> Distribution:
    """p_0(z) = p(z), so that f_b(z) = p(z) p(x|z)^b."""
    del x
    return vae.prior(params)


def start_at_posterior(vae: VAE, params: Params, x: Example) -> Distribution:
    """p_0(z) = q(z|x), which must have a `log_prob`. Source: Wu et al. 2017."""
    return vae.encode(params, x)


def linear_temperature_schedule(num_temperatures: int) -> Array:
    """b_t = t / T, `[num_temperatures + 1]`."""
    return jnp.linspace(0, 1, num_temperatures + 1)


def sigmoidal_temperature_schedule(
    num_temperatures: int, *, delta: float = 4.0
) -> Array:
    """b_t = (s_t - s_0) / (s_T - s_0), s_t = sigmoid(delta (2 t / T - 1)): dense at
    both ends.

    Returns:
      `[num_temperatures + 1]`, from exactly 0 to exactly 1.

    Source: Grosse et al. 2015; Wu et al. 2017.
    """
    sigmoids = jax.nn.sigmoid(jnp.linspace(-delta, delta, num_temperatures + 1))
    return (sigmoids - sigmoids[0]) / (sigmoids[-1] - sigmoids[0])


class Path(NamedTuple):
    """The path of one example, and how chains move on it. Temperature t = 0, ..., T - 1
    leads from b_t to b_(t+1).

    Attributes:
      weigh: `(zs, t) -> (b_(t+1) - b_t) log [p(x, z) / p_0(z)]`, `[chains]`.
      move: `(key, zs, t, step_size) -> (zs, acceptance)`, a transition of each chain
        that leaves f_b(t+1) invariant.
    """

    weigh: Callable[[Latent, Array], Array]
    move: Callable[[Key, Latent, Array, Array], tuple[Latent, Array]]


def _make_path(
    vae: VAE,
    params: Params,
    x: Example,
    num_temperatures: int,
    num_leapfrog: int,
    temperature_schedule: TemperatureSchedule,
    initial: InitialFn,
) -> Path:
    """The path from `initial` to p(x, z) in `num_temperatures` steps; raises as
    `annealed_importance_sampling` does.
    """
    check_count("num_leapfrog", num_leapfrog)
    inverse_temperatures = _inverse_temperatures(temperature_schedule, num_temperatures)
    prior, start = vae.prior(params), initial(vae, params, x)

    def log_densities(z: Latent) -> tuple[Array, Array]:
        """log p_0(z), and log p(x, z) - log p_0(z)."""
        log_initial = require(start, "log_prob", "give initial=vaejax.start_at_prior")(
            z
        )
        log_joint = require(vae.decode(params, z), "log_prob")(x) + require(
            prior, "log_prob"
        )(z)
        return log_initial, log_joint - log_initial

    def weigh(zs: Latent, t: Array) -> Array:
        log_ratios = jax.vmap(lambda z: log_densities(z)[1])(zs)
        return (inverse_temperatures[t + 1] - inverse_temperatures[t]).astype(
            log_ratios.dtype
        ) * log_ratios

    def move_one(
        key: Key, z: Latent, inverse_temperature: Array, step_size: Array
    ) -> tuple[Latent, Array]:
        def log_density(edited: PyTree) -> Array:
            log_initial, log_ratio = log_densities(complete(vae, params, z, edited))
            return log_initial + inverse_temperature.astype(log_ratio.dtype) * log_ratio

        moved, acceptance = hamiltonian_transition(
            log_density, key, values(z), step_size=step_size, num_leapfrog=num_leapfrog
        )
        return complete(vae, params, z, moved), acceptance

    def move(key: Key, zs: Latent, t: Array, step_size: Array) -> tuple[Latent, Array]:
        keys = _chain_keys(key, batch_size_of(zs))
        return jax.vmap(move_one, in_axes=(0, 0, None, None))(
            keys, zs, inverse_temperatures[t + 1], step_size
        )

    return Path(weigh, move)


def _inverse_temperatures(
    temperature_schedule: TemperatureSchedule, num_temperatures: int
) -> Array:
    # They are numbers, and looked at as such, under jit too.
    with jax.ensure_compile_time_eval():
        inverse_temperatures = temperature_schedule(num_temperatures)
    if jnp.shape(inverse_temperatures) != (num_temperatures + 1,):
        raise ValueError(
            "spacing gave inverse temperatures of shape "
            f"{jnp.shape(inverse_temperatures)}; give num_temperatures + 1 "
            f"= {num_temperatures + 1} of them, from 0 to 1."
        )
    numbers = np.asarray(inverse_temperatures)
    if numbers[0] != 0 or numbers[-1] != 1 or np.any(np.diff(numbers) < 0):
        raise ValueError(
            f"spacing gave inverse temperatures from {numbers[0]:g} to "
            f"{numbers[-1]:g}; they must begin at exactly 0, "
            "end at exactly 1 and never fall: anything else bounds another number than "
            "log p(x)."
        )
    return jnp.asarray(inverse_temperatures)


def _chain_keys(key: Key, num_chains: int) -> Key:
    return jax.vmap(lambda chain: jax.random.fold_in(key, chain))(
        jnp.arange(num_chains, dtype=jnp.uint32)
    )


def init_annealing(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_chains: int = 16,
    initial: InitialFn = start_at_prior,
) -> AnnealingState:
    """Chains drawn from the initial distribution, for `anneal`.

    Raises:
      ValueError: `num_chains` is not a positive integer.
      TypeError: z holds anything but floats.
    """
    check_count("num_chains", num_chains)
    start = initial(vae, params, x)
    return _as_state(
        jax.vmap(lambda key: draw(key, start))(_chain_keys(key, num_chains))
    )


def init_reverse_annealing(z: Latent, *, num_chains: int = 16) -> AnnealingState:
    """Chains that all start at z, one exact sample of p(z|x), for `reverse_anneal`;
    raises as `init_annealing` does.
    """
    check_count("num_chains", num_chains)
    return _as_state(
        jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_chains, *jnp.shape(leaf))), z
        )
    )


def _as_state(zs: Latent) -> AnnealingState:
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(values(zs))}
    if not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        raise TypeError(
            "annealing follows the gradient in z, which has leaves of "
            f"{sorted(map(str, dtypes))}; give a model whose "
            "latents are all floats, or use vaejax.log_marginal."
        )
    # Thousands of small increments add up: not in half precision, whatever z is in.
    zeros = jnp.zeros(
        batch_size_of(zs), functools.reduce(jnp.promote_types, dtypes, jnp.float32)
    )
    return AnnealingState(zs, zeros, zeros, jnp.int32(0), jnp.int32(-1))


def anneal(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    state: AnnealingState,
    count: int | Array,
    *,
    step_sizes: Array,
    num_leapfrog: int = 10,
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule,
    initial: InitialFn = start_at_prior,
) -> AnnealingState:
    """Takes the chains over the next `count` temperatures towards p(x, z), or to the
    end of the path if that is nearer.

    At t the weight grows by (b_(t+1) - b_t) log [p(x, z) / p_0(z)], then z moves at
    b_(t+1) with `fold_in(key, t)`. Under `jax.jit` a run that is cut and continued,
    with the same key and options, is bitwise the run in one piece.

    Args:
      state: of `init_annealing` or of this function.
      count: temperatures to pass; may be traced, so that one program does for pieces of
        any length.
      step_sizes: `[num_temperatures]`, the whole path's, as `adapt_step_sizes` gives
        them.

    For the rest, and what is raised, see `annealed_importance_sampling`.
    """
    num_temperatures = _length_of(step_sizes)
    path = _make_path(
        vae, params, x, num_temperatures, num_leapfrog, temperature_schedule, initial
    )

    def step(state: AnnealingState) -> AnnealingState:
        t = state.position
        log_weight = state.log_weight + path.weigh(state.z, t).astype(
            state.log_weight.dtype
        )
        z, acceptance = path.move(
            jax.random.fold_in(key, t), state.z, t, jnp.asarray(step_sizes)[t]
        )
        acceptance = state.acceptance + acceptance.astype(log_weight.dtype)
        return AnnealingState(z, log_weight, acceptance, t + 1, state.remaining - 1)

    return _run(step, state, count, num_temperatures)


def reverse_anneal(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    state: AnnealingState,
    count: int | Array,
    *,
    step_sizes: Array,
    num_leapfrog: int = 10,
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule,
    initial: InitialFn = start_at_prior,
) -> AnnealingState:
    """`anneal` backwards: from p(x, z) towards the initial distribution, each
    transition followed by its weight.

    At t = T - 1, ..., 0 z moves at b_(t+1), which a reversible transition undoes, and
    the weight grows by (b_(t+1) - b_t) log [p(x, z) / p_0(z)]: `log_weight` is that of
    the forward chain through the same states.

    Args:
      state: of `init_reverse_annealing` or of this function.
    """
    num_temperatures = _length_of(step_sizes)
    path = _make_path(
        vae, params, x, num_temperatures, num_leapfrog, temperature_schedule, initial
    )

    def step(state: AnnealingState) -> AnnealingState:
        t = num_temperatures - 1 - state.position
        z, acceptance = path.move(
            jax.random.fold_in(key, t), state.z, t, jnp.asarray(step_sizes)[t]
        )
        log_weight = state.log_weight + path.weigh(z, t).astype(state.log_weight.dtype)
        acceptance = state.acceptance + acceptance.astype(log_weight.dtype)
        return AnnealingState(
            z, log_weight, acceptance, state.position + 1, state.remaining - 1
        )

    return _run(step, state, count, num_temperatures)


def _run(
    step: Callable[[AnnealingState], AnnealingState],
    state: AnnealingState,
    count: int | Array,
    num_temperatures: int,
) -> AnnealingState:
    if not isinstance(count, jax.Array):
        check_count("count", count)
    # A loop of unknown length, which is compiled alike whatever the count: hence the
    # pieces agree to the bit.
    last = jnp.minimum(state.position + count, num_temperatures)
    state = state._replace(remaining=num_temperatures - state.position)
    return jax.lax.while_loop(lambda state: state.position < last, step, state)


def _length_of(step_sizes: Array) -> int:
    if jnp.ndim(step_sizes) != 1 or not jnp.size(step_sizes):
        raise ValueError(
            f"step_sizes has shape {jnp.shape(step_sizes)}; give one a temperature, as "
            "vaejax.adapt_step_sizes does."
        )
    return jnp.shape(step_sizes)[0]
