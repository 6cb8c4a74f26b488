"""Options of annealed importance sampling, and the density and transitions they define.

Between an initial distribution p_0(z) and p(x, z) lies the geometric path f_b(z) =
p_0(z)^(1-b) p(x, z)^b, with the inverse temperatures 0 = b_0 <= ... <= b_T = 1. Chains
move on it by a `Transition`, Hamiltonian Monte Carlo by default, for any model whose z
is a pytree of float arrays. `annealing_chains.py` moves the chains, `annealing.py`
holds the whole runs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count, check_model, has, log_prob_of
from vaejax._programs import run
from vaejax._reals import as_real
from vaejax._supports import check_lines, is_inside
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
    values,
)
from vaejax.estimators.hamiltonian import (
    Transition,
    _make_transition,
    hamiltonian_transition,
)
from vaejax.estimators.temperature_schedules import (
    TemperatureSchedule,
    sigmoidal_temperature_schedule,
)

#: `(vae, params, x) -> p_0(z)`: the initial distribution of annealed chains.
InitialFn = Callable[[VAE, Params, Example], Distribution]


def start_at_prior(vae: VAE, params: Params, x: Example) -> Distribution:
    """Return the prior p(z) as the initial distribution of annealed chains.

    The path is then f_b(z) = p(z) p(x|z)^b. Where an example holds a part of the
    latent, its class or its condition, the chains start at the prior given that part.

    Args:
      vae: the model.
      params: its parameters.
      x: one example, of which only a condition or a label is used.

    Returns:
      p_0(z) = p(z).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import start_at_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (4,))
      ... )
      >>> start_at_prior(vae, (), jnp.zeros(4)).mean.shape
      (2,)

    Source: Neal 2001, section 2.
    """
    check_model(vae, params)
    prior: Any = vae.prior(params)
    return prior.of_example(x) if has(prior, "of_example") else prior


def start_at_posterior(vae: VAE, params: Params, x: Example) -> Distribution:
    """Return the encoder's q(z|x) as the initial distribution of annealed chains.

    Args:
      vae: the model; its posterior needs a `log_prob`.
      params: its parameters.
      x: one example.

    Returns:
      p_0(z) = q(z|x).

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import start_at_posterior
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.zeros(3)),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(3), jnp.zeros(3)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(3)),
      ... )
      >>> start_at_posterior(vae, (), jnp.ones(3)).mean.tolist()
      [0.5, 0.5, 0.5]

    Source: Wu et al. 2017.
    """
    check_model(vae, params)
    return vae.encode(params, x)


class AnnealingPath(NamedTuple):
    """Options of an annealing path, the same for every direction and every piece.

    The path leads from p_0(z) to p(x, z) in T steps; `path._replace(...)` changes
    options.

    Attributes:
      num_temperatures: T, the number of steps, at least 1. Memory grows with it by a
        few numbers per temperature, whatever the model.
      num_leapfrog: leapfrog steps per Hamiltonian transition, at least 1; not used
        with another `transition`.
      temperature_schedule: `T -> [T + 1]`, inverse temperatures from 0 to 1 that never
        fall, such as `sigmoidal_temperature_schedule`.
      initial: p_0(z), as a function `(vae, params, x) -> Distribution`, such as
        `start_at_prior` or `start_at_posterior`.
      step_sizes: `[T]`, the step size of the transitions at each temperature, chosen
        independently of the run that uses it; `adapt_step_sizes` finds them. With None,
        `annealed_importance_sampling` and its relatives adapt them with a key of their
        own.
      transition: `(log_density, key, z, step_size) -> (z, acceptance)`, which moves one
        chain and leaves exp(log_density) invariant for any scalar `step_size`; for
        reverse chains it must be reversible. `log_density` is a function of z in nats,
        up to a constant. z is the part of a latent that may be edited, and is returned
        in the same structure, shapes and dtypes. `acceptance` is a scalar that only
        `adapt_step_sizes` uses: a probability, or whether the move was accepted. A
        transition may ignore `step_size`; any `step_sizes` then save adapting them.
        All draws come from `key`. It runs under `jax.vmap` over chains, and the same
        function should be given to every call, since another one compiles again. None
        is `hamiltonian_transition` with `num_leapfrog` steps.

    Example:
      >>> from vaejax.estimators import AnnealingPath, start_at_posterior
      >>> path = AnnealingPath(num_temperatures=100, initial=start_at_posterior)
      >>> path.num_leapfrog
      10
      >>> path.temperature_schedule(path.num_temperatures).shape
      (101,)
    """

    num_temperatures: int = 1000
    num_leapfrog: int = 10
    temperature_schedule: TemperatureSchedule = sigmoidal_temperature_schedule
    initial: InitialFn = start_at_prior
    step_sizes: Array | None = None
    transition: Transition | None = None


_DEFAULT_PATH = AnnealingPath()
_REMEDY = (
    "Hamiltonian Monte Carlo moves along such lines: give AnnealingPath a `transition` "
    "that stays on the support, or use log_marginal"
)


def _run_along(
    path: AnnealingPath, body: Callable[..., Any], static: tuple, *arguments: Any
) -> Any:
    """Return `body(*static, path, *arguments)` of a program that is compiled once.

    It is compiled for `static` and the options of the path, at any step sizes.
    """
    steps = None if path.step_sizes is None else jnp.asarray(path.step_sizes)
    options = path._replace(step_sizes=None)
    return run(_with_path, (body, static, options), steps, *arguments)


def _with_path(
    body: Callable[..., Any],
    static: tuple,
    options: AnnealingPath,
    step_sizes: Array | None,
    *arguments: Any,
) -> Any:
    return body(*static, options._replace(step_sizes=step_sizes), *arguments)


def _check_counts(path: AnnealingPath) -> None:
    check_count("num_temperatures", path.num_temperatures)
    check_count("num_leapfrog", path.num_leapfrog)


class _PathOfExample(NamedTuple):
    """The path of one example. Temperature t = 0, ..., T - 1 leads from b_t to b_(t+1).

    Attributes:
      weigh: `(zs, t) -> (b_(t+1) - b_t) log [p(x, z) / p_0(z)]`, `[chains]`.
      move: `(key, zs, t, step_size) -> (zs, acceptance)`, a transition of each chain
        that leaves f_b(t+1) invariant.
    """

    weigh: Callable[[Latent, Array], Array]
    move: Callable[[Key, Latent, Array, Array], tuple[Latent, Array]]


def _path_of_example(
    vae: VAE, params: Params, x: Example, path: AnnealingPath
) -> _PathOfExample:
    """Return the functions by which chains walk the path of x.

    Raises ValueError for a schedule that is no path from 0 to 1.
    """
    inverse_temperatures = _inverse_temperatures(path)
    prior, start = vae.prior(params), path.initial(vae, params, x)
    transition = path.transition
    if transition is None:
        transition = partial(hamiltonian_transition, num_leapfrog=path.num_leapfrog)

    def log_densities(z: Latent) -> tuple[Array, Array]:
        """Return log p_0(z), and log p(x, z) - log p_0(z)."""
        log_initial = log_prob_of(
            start, z, "give initial=vaejax.estimators.start_at_prior"
        )
        log_likelihood = log_prob_of(vae.decode(params, z), x)
        log_prior = log_prob_of(prior, z)
        # Some densities of NumPyro are as high outside their support.
        inside = is_inside(prior, z)
        if inside is not None:
            log_prior = jnp.where(inside, log_prior, -jnp.inf)
        # Their sum and difference cancel: not in half precision.
        log_initial, log_likelihood, log_prior = map(
            as_real, (log_initial, log_likelihood, log_prior)
        )
        return log_initial, log_likelihood + log_prior - log_initial

    def weigh(zs: Latent, t: Array) -> Array:
        log_ratios = jax.vmap(lambda z: log_densities(z)[1])(zs)
        return (inverse_temperatures[t + 1] - inverse_temperatures[t]).astype(
            log_ratios.dtype
        ) * log_ratios

    def move_one(
        key: Key, z: Latent, inverse_temperature: Array, step_size: Array
    ) -> tuple[Latent, Array]:
        if path.transition is None:
            check_lines("annealing", prior, values(z), _REMEDY)

        def log_density(edited: PyTree) -> Array:
            log_initial, log_ratio = log_densities(complete(vae, params, z, edited))
            return log_initial + inverse_temperature.astype(log_ratio.dtype) * log_ratio

        moved, acceptance = _make_transition(
            transition, log_density, key, values(z), step_size
        )
        return complete(vae, params, z, moved), acceptance

    def move(key: Key, zs: Latent, t: Array, step_size: Array) -> tuple[Latent, Array]:
        keys = _chain_keys(key, batch_size_of(zs))
        return jax.vmap(move_one, in_axes=(0, 0, None, None))(
            keys, zs, inverse_temperatures[t + 1], step_size
        )

    return _PathOfExample(weigh, move)


def _inverse_temperatures(path: AnnealingPath) -> Array:
    # They are numbers, and looked at as such, under jit too.
    with jax.ensure_compile_time_eval():
        inverse_temperatures = path.temperature_schedule(path.num_temperatures)
    if jnp.shape(inverse_temperatures) != (path.num_temperatures + 1,):
        raise ValueError(
            "temperature_schedule gave inverse temperatures of shape "
            f"{jnp.shape(inverse_temperatures)}; give num_temperatures + 1 "
            f"= {path.num_temperatures + 1} of them, from 0 to 1."
        )
    numbers = np.asarray(inverse_temperatures)
    if numbers[0] != 0 or numbers[-1] != 1 or np.any(np.diff(numbers) < 0):
        raise ValueError(
            f"temperature_schedule gave inverse temperatures from {numbers[0]:g} to "
            f"{numbers[-1]:g}; they must begin at exactly 0, end at exactly 1 and "
            "never fall: anything else bounds another number than log p(x)."
        )
    return jnp.asarray(inverse_temperatures)


def _chain_keys(key: Key, num_chains: int) -> Key:
    return jax.vmap(lambda chain: jax.random.fold_in(key, chain))(
        jnp.arange(num_chains, dtype=jnp.uint32)
    )
