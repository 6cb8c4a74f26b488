"""Step sizes of annealed chains, found in a preliminary run of one example."""

import math

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_arrays,
    check_count,
    check_in_range,
    check_key,
    check_model,
)
from vaejax._programs import judged
from vaejax.base import VAE, Array, Example, Key, Latent, Params
from vaejax.estimators.annealing_chains import init_annealing
from vaejax.estimators.annealing_path import (
    _DEFAULT_PATH,
    AnnealingPath,
    _check_counts,
    _path_of_example,
    _run_along,
)

# The preliminary run: where the search starts, its transitions at the first
# temperature, and how fast it goes there and after.
_FIRST_STEP_SIZE = 0.1
_BURN_IN = 100
_BURN_IN_RATE = 0.5
_RATE = 0.1


def adapt_step_sizes(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    path: AnnealingPath = _DEFAULT_PATH,
    num_chains: int = 16,
    target_acceptance: float = 0.65,
    num_transitions: int | None = None,
) -> Array:
    """Find a step size per temperature that accepts about `target_acceptance`.

    In a preliminary forward run, log e grows by 0.1 (acceptance - target) after each
    transition, with the acceptance probability averaged over the chains, which share
    the step size e. Where few temperatures sharpen a posterior quickly, the step sizes
    lag behind and less is accepted. Use the result with another key than this one: a
    step size that depends on the chains that it moves would bias their weights.

    Args:
      vae: the model; its prior and likelihood need a `log_prob` that is differentiable
        in z.
      params: its parameters.
      key: key of the preliminary run.
      x: one example.
      path: options of the path; its `step_sizes` are not used.
      num_chains: number of chains, at least 1.
      target_acceptance: acceptance probability, within (0, 1).
      num_transitions: transitions per chain in all, rounded up to the same number, at
        least 1, at each temperature; by default one per temperature, and at least 200.
        100 more come first, so that the start of the search does not matter.

    Returns:
      `[num_temperatures]`, for `path._replace(step_sizes=...)`; NaN where no chain ends
      at a z of finite density.

    Raises:
      ValueError: a count is not a positive integer, `target_acceptance` is outside
        (0, 1), the schedule does not have the length of the path, or a transition
        changes the form of z.
      TypeError: z holds anything but floats, or a distribution lacks a `log_prob`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import AnnealingPath, adapt_step_sizes
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.log(jnp.full(1, 0.5))),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(1)),
      ... )
      >>> path = AnnealingPath(num_temperatures=5)
      >>> adapt = partial(adapt_step_sizes, vae, path=path, num_transitions=5)
      >>> jax.eval_shape(adapt, (), jax.random.key(0), jnp.ones(1)).shape
      (5,)

    Source: Wu et al. 2017, who fix step sizes of 65 % acceptance in a preliminary run.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    repeats = _transitions_per_temperature(path, num_transitions)
    check_in_range(
        "target_acceptance", target_acceptance, 0, 1, open_low=True, open_high=True
    )
    check_count("num_chains", num_chains)
    return _run_along(
        path._replace(step_sizes=None),
        _adapt_step_sizes,
        (vae, num_chains, repeats),
        params,
        key,
        judged(x),
        target_acceptance,
    )


def _adapt_step_sizes(
    vae: VAE,
    num_chains: int,
    repeats: int,
    path: AnnealingPath,
    params: Params,
    key: Key,
    x: Example,
    target_acceptance: Array,
) -> Array:
    of_example = _path_of_example(vae, params, x, path)
    initial_key, transition_key = jax.random.split(key)
    state = init_annealing(
        vae, params, initial_key, x, path=path, num_chains=num_chains
    )

    def step(
        carry: tuple[Latent, Array], index: Array
    ) -> tuple[tuple[Latent, Array], Array]:
        z, log_step_size = carry
        t = jnp.maximum(index - _BURN_IN, 0) // repeats
        z, acceptance = of_example.move(
            jax.random.fold_in(transition_key, index), z, t, jnp.exp(log_step_size)
        )
        error = jnp.mean(acceptance.astype(log_step_size.dtype)) - target
        rate = jnp.where(index < _BURN_IN, _BURN_IN_RATE, _RATE).astype(error.dtype)
        return (z, log_step_size + rate * error), log_step_size

    first = jnp.asarray(math.log(_FIRST_STEP_SIZE), state.log_weight.dtype)
    target = jnp.asarray(target_acceptance, first.dtype)
    indices = jnp.arange(_BURN_IN + repeats * path.num_temperatures, dtype=jnp.int32)
    last = path.num_temperatures - 1
    (zs, _), log_step_sizes = jax.lax.scan(step, (state.z, first), indices)
    # Chains that never had a density accept nothing, whatever the step size.
    has_density = jnp.any(jnp.isfinite(of_example.weigh(zs, jnp.int32(last))))
    by_temperature = log_step_sizes[_BURN_IN:].reshape(path.num_temperatures, repeats)
    step_sizes = jnp.exp(jnp.mean(by_temperature, axis=1))
    return jnp.where(has_density, step_sizes, jnp.nan)


def _transitions_per_temperature(
    path: AnnealingPath, num_transitions: int | None
) -> int:
    _check_counts(path)
    if num_transitions is None:
        num_transitions = max(path.num_temperatures, 200)
    check_count("num_transitions", num_transitions)
    return -(-num_transitions // path.num_temperatures)
