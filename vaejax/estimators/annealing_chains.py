"""Chains that walk an annealing path in either direction, in pieces if need be.

A long run may be cut: `init_annealing` or `init_reverse_annealing` makes the
`AnnealingState`, `anneal` takes it on as often as needed, and `annealed_estimate` reads
the bound. The state between two pieces is a pytree of arrays, which can be saved.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_arrays, check_count, check_key, check_model, described
from vaejax._programs import judged
from vaejax.base import (
    VAE,
    Array,
    Example,
    Key,
    Latent,
    Params,
    batch_size_of,
    complete,
    draw,
    values,
)
from vaejax.estimators.annealing_path import (
    _DEFAULT_PATH,
    AnnealingPath,
    _chain_keys,
    _check_counts,
    _path_of_example,
    _run_along,
)
from vaejax.estimators.importance_weights import (
    _add_weights,
    _mean_with_error,
    _no_weights,
)


class AnnealingState(NamedTuple):
    """Chains of one example on an annealing path; all that a run needs to go on.

    Attributes:
      z: `[chains, *latent]`.
      log_weight: `[chains]`, sum_t (b_t - b_(t-1)) log [p(x, z_(t-1)) / p_0(z_(t-1))]
        so far, in nats.
      acceptance: `[chains]`, the sum of the acceptance probabilities so far.
      position: temperatures passed, an int32 scalar.
      remaining: temperatures left, an int32 scalar; -1 before the first piece, when the
        length of the path is not known.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import init_reverse_annealing
      >>> state = init_reverse_annealing(jnp.zeros(2), num_chains=3)
      >>> state.z.shape, state.log_weight.shape, int(state.position)
      ((3, 2), (3,), 0)
    """

    z: Latent
    log_weight: Array
    acceptance: Array
    position: Array
    remaining: Array


class AnnealedEstimate(NamedTuple):
    """Stochastic bound on log p(x) of one example.

    Attributes:
      log_marginal: the bound, in nats: a lower bound in expectation for forward chains,
        an upper bound for reverse chains.
      standard_error: its Monte-Carlo standard error over the chains, in nats, by the
        delta method; infinite for one chain. It does not cover the bias of the bound.
        It never exceeds 1 and is too small where a few weights dominate, as 16 may
        well; for reverse chains it leaves out that all of them share one start. Over a
        set, take the deviation over examples or compare two independent runs.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of chains;
        for reverse chains, that of 1 / w.
      acceptance_rate: mean acceptance probability over chains and temperatures.

    Example:
      >>> from vaejax.estimators import AnnealedEstimate
      >>> estimate = AnnealedEstimate(-86.4, 0.1, 12.5, acceptance_rate=0.65)
      >>> estimate.log_marginal
      -86.4
    """

    log_marginal: Array
    standard_error: Array
    effective_sample_size: Array
    acceptance_rate: Array


def init_annealing(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    path: AnnealingPath = _DEFAULT_PATH,
    num_chains: int = 16,
) -> AnnealingState:
    """Draw forward chains from the initial distribution of the path.

    Args:
      vae: the model.
      params: its parameters.
      key: key of the draws.
      x: one example.
      path: options of the path, of which only `initial` is used here.
      num_chains: number of chains, at least 1.

    Returns:
      The state at position 0, for `anneal`.

    Raises:
      ValueError: `num_chains` is not a positive integer.
      TypeError: z holds anything but floats.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import init_annealing
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (4,))
      ... )
      >>> state = init_annealing(
      ...     vae, (), jax.random.key(0), jnp.zeros(4), num_chains=3
      ... )
      >>> state.z.shape, int(state.remaining)
      ((3, 2), -1)
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    check_count("num_chains", num_chains)
    start = path.initial(vae, params, x)

    def one(key: Key) -> Latent:
        z = draw(key, start)
        # What a posterior notes of its own draw is no state of a chain that moves on.
        return complete(vae, params, z, values(z))

    return _as_state(jax.vmap(one)(_chain_keys(key, num_chains)))


def init_reverse_annealing(z: Latent, *, num_chains: int = 16) -> AnnealingState:
    """Start reverse chains at one exact sample z of p(z|x).

    Args:
      z: the sample, a pytree of float arrays; every chain starts there.
      num_chains: number of chains, at least 1.

    Returns:
      The state at position 0, for `anneal` with `reverse=True`.

    Raises:
      ValueError: `num_chains` is not a positive integer.
      TypeError: z holds anything but floats.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import init_reverse_annealing
      >>> init_reverse_annealing(jnp.ones(2), num_chains=3).z.shape
      (3, 2)
    """
    check_arrays("the latent z", z)
    check_count("num_chains", num_chains)
    return _as_state(
        jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_chains, *jnp.shape(leaf))), z
        )
    )


def anneal(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    state: AnnealingState,
    count: int | Array,
    *,
    path: AnnealingPath,
    reverse: bool = False,
) -> AnnealingState:
    """Take chains over the next `count` temperatures, or to the end if that is nearer.

    Forward, at t = 0, 1, ... the weight grows by (b_(t+1) - b_t) log [p(x, z) /
    p_0(z)], then z moves at b_(t+1) with `fold_in(key, t)`. In reverse, at t = T - 1,
    ..., 0 z moves first, which a reversible transition undoes, and then the weight
    grows by the same expression: `log_weight` is that of the forward chain through the
    same states. A run that is cut and continued, with the same key and options, is
    bitwise the run in one piece if both are called outside `jax.jit` or both inside.

    Args:
      vae: the model; its prior and likelihood need a `log_prob` that is differentiable
        in z.
      params: its parameters.
      key: key of the transitions, the same for all pieces of a run.
      x: one example; use `vmap` or `jax.lax.map` over a set, with one key per example.
      state: state from `init_annealing`, `init_reverse_annealing` or this function.
      count: temperatures to pass, at least 1; it may be traced, so that one program
        serves pieces of any length.
      path: options of the path, with `step_sizes`.
      reverse: direction: from p_0(z) to p(x, z) if False, back if True. It must be the
        same for all pieces of a run.

    Returns:
      The state after these temperatures.

    Raises:
      ValueError: a count is not a positive integer, the schedule or step sizes do not
        have the length of the path, or a transition changes the form of z.
      TypeError: a distribution lacks a `log_prob`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import AnnealingPath, anneal, init_annealing
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.log(jnp.full(1, 0.5))),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(1)),
      ... )
      >>> x, keys = jnp.ones(1), jax.random.split(jax.random.key(0))
      >>> path = AnnealingPath(num_temperatures=5, step_sizes=jnp.full(5, 0.5))
      >>> state = init_annealing(vae, (), keys[0], x, path=path, num_chains=3)
      >>> run = partial(anneal, vae, path=path)
      >>> jax.eval_shape(run, (), keys[1], x, state, 2).z.shape
      (3, 1)

    Source: Neal 2001, section 2; in reverse, Grosse et al. 2015.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    _check_counts(path)
    if not isinstance(count, jax.Array):
        check_count("count", count)
    count = jnp.asarray(count, jnp.int32)
    return _run_along(
        path, _anneal, (vae, bool(reverse)), params, key, judged(x), state, count
    )


def _anneal(
    vae: VAE,
    reverse: bool,
    path: AnnealingPath,
    params: Params,
    key: Key,
    x: Example,
    state: AnnealingState,
    count: Array,
) -> AnnealingState:
    last_temperature = path.num_temperatures - 1
    of_example = _path_of_example(vae, params, x, path)
    step_sizes = _step_sizes_of(path)

    def step(state: AnnealingState) -> AnnealingState:
        t = last_temperature - state.position if reverse else state.position
        z, acceptance = of_example.move(
            jax.random.fold_in(key, t), state.z, t, step_sizes[t]
        )
        # The weight belongs to the state on the side of p_0 of the transition.
        log_ratio = of_example.weigh(z if reverse else state.z, t)
        dtype = state.log_weight.dtype
        return AnnealingState(
            z,
            state.log_weight + log_ratio.astype(dtype),
            state.acceptance + acceptance.astype(dtype),
            state.position + 1,
            state.remaining - 1,
        )

    # A loop of unknown length, which is compiled alike whatever the count: hence the
    # pieces agree to the bit.
    last = jnp.minimum(state.position + count, path.num_temperatures)
    state = state._replace(remaining=path.num_temperatures - state.position)
    return jax.lax.while_loop(lambda state: state.position < last, step, state)


def annealed_estimate(
    state: AnnealingState, *, reverse: bool = False
) -> AnnealedEstimate:
    """Return the bound on log p(x) from chains at the end of their path.

    For n forward chains it is log 1/n sum_i w_i, a stochastic lower bound; for reverse
    chains it is -log 1/n sum_i 1 / w_i, a stochastic upper bound.

    Args:
      state: state from `anneal`.
      reverse: direction of the chains, as given to `anneal`.

    Returns:
      The estimate; NaN for chains that have not arrived, since part of a path bounds
      nothing.

    Raises:
      TypeError: `state` is no `AnnealingState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import AnnealingState, annealed_estimate
      >>> state = AnnealingState(
      ...     z=jnp.zeros((2, 1)),
      ...     log_weight=jnp.log(jnp.array([1.0, 3.0])),
      ...     acceptance=jnp.array([2.0, 4.0]),
      ...     position=jnp.int32(4),
      ...     remaining=jnp.int32(0),
      ... )
      >>> round(float(annealed_estimate(state).log_marginal), 3)
      0.693
      >>> round(float(annealed_estimate(state, reverse=True).log_marginal), 3)
      0.405

    Source: Neal 2001, section 2; in reverse, Grosse et al. 2015.
    """
    if not isinstance(state, AnnealingState):
        raise TypeError(
            f"annealed_estimate: state is {described(state)}; give an AnnealingState, "
            "as anneal returns it."
        )
    log_weight = -state.log_weight if reverse else state.log_weight
    sums = _add_weights(_no_weights(1, log_weight.dtype), log_weight)
    log_mean, *errors = _mean_with_error(sums, log_weight.shape[0])
    acceptance_rate = jnp.mean(state.acceptance) / jnp.maximum(
        state.position, 1
    ).astype(state.acceptance.dtype)
    numbers = (-log_mean if reverse else log_mean, *errors, acceptance_rate)
    arrived = state.remaining == 0
    return AnnealedEstimate(
        *(jnp.where(arrived, number, jnp.nan) for number in numbers)
    )


def _as_state(zs: Latent) -> AnnealingState:
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(values(zs))}
    if not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        raise TypeError(
            "annealing follows the gradient in z, which has leaves of "
            f"{sorted(map(str, dtypes))}; give a model whose latents are all floats, "
            "or use vaejax.log_marginal."
        )
    # Thousands of small increments add up: not in half precision, whatever z is in.
    zeros = jnp.zeros(
        batch_size_of(zs), functools.reduce(jnp.promote_types, dtypes, jnp.float32)
    )
    return AnnealingState(zs, zeros, zeros, jnp.int32(0), jnp.int32(-1))


def _step_sizes_of(path: AnnealingPath) -> Array:
    shape = None if path.step_sizes is None else jnp.shape(path.step_sizes)
    if shape != (path.num_temperatures,):
        has = "is None" if shape is None else f"has shape {shape}"
        raise ValueError(
            f"step_sizes {has} and num_temperatures is {path.num_temperatures}; give "
            "one step size per temperature, as vaejax.estimators.adapt_step_sizes "
            "finds them with the same path."
        )
    return jnp.asarray(path.step_sizes)
