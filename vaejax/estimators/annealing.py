"""Annealed importance sampling and bidirectional Monte Carlo of one example.

Both bound log p(x): annealed importance sampling from below and, from an exact
posterior sample, in reverse from above. A run in one call is
`annealed_importance_sampling`; `annealing_chains.py` has the pieces of a long one, for
which `step_sizes.py` finds the step sizes.
"""

from typing import NamedTuple

import jax

from vaejax._checks import check_arrays, check_count, check_key, check_model, require
from vaejax._programs import judged
from vaejax.base import VAE, Array, Example, Key, Latent, Params
from vaejax.estimators.annealing_chains import (
    AnnealedEstimate,
    anneal,
    annealed_estimate,
    init_annealing,
    init_reverse_annealing,
)
from vaejax.estimators.annealing_path import (
    _DEFAULT_PATH,
    AnnealingPath,
    _check_counts,
    _run_along,
)
from vaejax.estimators.step_sizes import adapt_step_sizes


def annealed_importance_sampling(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    path: AnnealingPath = _DEFAULT_PATH,
    num_chains: int = 16,
) -> AnnealedEstimate:
    """Bound log p(x) of one example from below by n annealed chains.

    The bound is log 1/n sum_i w_i, in nats, with E[w] = p(x) at any number of
    temperatures T. Each chain starts at z_0 ~ p_0(z) and passes T temperatures, where
    w = prod_t [p(x, z_t) / p_0(z_t)]^(b_(t+1) - b_t) and z_(t+1) comes from z_t by the
    transition of the path, which leaves f_b(t+1) invariant. With Hamiltonian Monte
    Carlo a chain costs T (num_leapfrog + 1) gradients of the decoder. Where step sizes
    are adapted here, max(T, 200) + 100 transitions come on top: adapt once, and give
    them, where T is small or examples are alike.

    Args:
      vae: the model; its prior and likelihood need a `log_prob` that is differentiable
        in z.
      params: its parameters.
      key: key of the whole run. The run is `anneal` with `adapt_key, initial_key,
        transition_key = jax.random.split(key, 3)`.
      x: one example; use `vmap` or `jax.lax.map` over a set, with one key per example.
      path: options of the path; without `step_sizes`, they are adapted to x.
      num_chains: n, at least 1; all chains are held at once.

    Returns:
      The lower bound, with its Monte-Carlo error.

    Raises:
      ValueError: a count is not a positive integer, the schedule or step sizes do not
        have the length of the path, or a transition changes the form of z.
      TypeError: z holds anything but floats, or a distribution lacks a `log_prob`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import AnnealingPath, annealed_importance_sampling
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.log(jnp.full(1, 0.5))),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(1)),
      ... )
      >>> path = AnnealingPath(num_temperatures=5, step_sizes=jnp.ones(5))
      >>> run = partial(annealed_importance_sampling, vae, path=path)
      >>> jax.eval_shape(run, (), jax.random.key(0), jnp.ones(1)).log_marginal.shape
      ()

    Source: Neal 2001, section 2; 16 chains, 10 leapfrog steps and an acceptance of
    65 %: Wu et al. 2017.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    _check_counts(path)
    check_count("num_chains", num_chains)
    return _run_along(path, _forward, (vae, num_chains), params, key, judged(x))


def _forward(
    vae: VAE,
    num_chains: int,
    path: AnnealingPath,
    params: Params,
    key: Key,
    x: Example,
) -> AnnealedEstimate:
    adapt_key, initial_key, transition_key = jax.random.split(key, 3)
    path = _with_step_sizes(vae, params, adapt_key, x, path, num_chains)
    state = init_annealing(
        vae, params, initial_key, x, path=path, num_chains=num_chains
    )
    count = path.num_temperatures
    state = anneal(vae, params, transition_key, x, state, count, path=path)
    return annealed_estimate(state)


def reverse_annealed_importance_sampling(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    z: Latent,
    *,
    path: AnnealingPath = _DEFAULT_PATH,
    num_chains: int = 16,
) -> AnnealedEstimate:
    """Bound log p(x) of one example from above by n chains from a posterior sample.

    The chains go from an exact sample z of p(z|x) back to p_0, and the bound is
    -log 1/n sum_i 1 / w_i, in nats: E[1 / w] = 1 / p(x), so that its expectation is at
    least log p(x). Data simulated from the model come with one exact sample, the z that
    made x, and every chain starts there: each is unbiased, but they are not
    independent, so that more chains narrow the bound only as far as the chains forget
    z. From a z that is no exact sample it is no bound.

    Args:
      vae: the model; its prior and likelihood need a `log_prob` that is differentiable
        in z.
      params: its parameters.
      key: key of the whole run. The run is `anneal` in reverse with `adapt_key,
        transition_key = jax.random.split(key)`.
      x: one example; use `vmap` or `jax.lax.map` over a set, with one key per example.
      z: one exact sample of the posterior, on which step sizes must not depend.
      path: options of the path; without `step_sizes`, they are adapted to x.
      num_chains: n, at least 1; all chains are held at once.

    Returns:
      The upper bound, with its Monte-Carlo error.

    Raises:
      ValueError: a count is not a positive integer, the schedule or step sizes do not
        have the length of the path, or a transition changes the form of z.
      TypeError: z holds anything but floats, or a distribution lacks a `log_prob`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import (
      ...     AnnealingPath, reverse_annealed_importance_sampling
      ... )
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.log(jnp.full(1, 0.5))),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(1)),
      ... )
      >>> path = AnnealingPath(num_temperatures=5, step_sizes=jnp.ones(5))
      >>> run = partial(reverse_annealed_importance_sampling, vae, path=path)
      >>> x, z = jnp.ones(1), jnp.zeros(1)
      >>> jax.eval_shape(run, (), jax.random.key(0), x, z).log_marginal.shape
      ()

    Source: Grosse et al. 2015.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    check_arrays("the latent z", z)
    _check_counts(path)
    check_count("num_chains", num_chains)
    return _run_along(path, _reverse, (vae, num_chains), params, key, judged(x), z)


def _reverse(
    vae: VAE,
    num_chains: int,
    path: AnnealingPath,
    params: Params,
    key: Key,
    x: Example,
    z: Latent,
) -> AnnealedEstimate:
    adapt_key, transition_key = jax.random.split(key)
    path = _with_step_sizes(vae, params, adapt_key, x, path, num_chains)
    state = init_reverse_annealing(z, num_chains=num_chains)
    count = path.num_temperatures
    state = anneal(
        vae, params, transition_key, x, state, count, path=path, reverse=True
    )
    return annealed_estimate(state, reverse=True)


class BidirectionalEstimate(NamedTuple):
    """Both bounds on log p(x) of one simulated example, in nats.

    Attributes:
      lower: bound of the forward chains; at most log p(x) in expectation.
      upper: bound of the reverse chains; at least log p(x) in expectation.
      gap: upper - lower. Its expectation bounds the error of either; a single one may
        be negative.
      forward: the `AnnealedEstimate` behind `lower`.
      reverse: the `AnnealedEstimate` behind `upper`.
      x: the simulated example.

    Example:
      >>> from functools import partial
      >>> import jax
      >>> import vaejax
      >>> from vaejax.estimators import AnnealingPath, bidirectional_monte_carlo
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP(()), decoder=vaejax.MLP((), (4,))
      ... )
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), jax.numpy.zeros(4))
      >>> path = AnnealingPath(num_temperatures=3, step_sizes=jax.numpy.ones(3))
      >>> bounds = partial(bidirectional_monte_carlo, vae, path=path)
      >>> estimate = jax.eval_shape(bounds, params, jax.random.key(1))
      >>> estimate.gap.shape, estimate.x.shape
      ((), (4,))
    """

    lower: Array
    upper: Array
    gap: Array
    forward: AnnealedEstimate
    reverse: AnnealedEstimate
    x: Example


def bidirectional_monte_carlo(
    vae: VAE,
    params: Params,
    key: Key,
    *,
    path: AnnealingPath = _DEFAULT_PATH,
    num_chains: int = 16,
) -> BidirectionalEstimate:
    """Simulate one example and bound its log p(x) by chains in both directions.

    z ~ p(z) and x ~ p(x|z) are drawn; forward chains bound log p(x) from below, reverse
    chains, which start at z, from above. Both directions share the step sizes. The gap
    shows how far annealing is from the truth on data like the model's own; on other
    data it is a guide only.

    Args:
      vae: the model; its prior and likelihood need a `sample`, and a `log_prob` that is
        differentiable in z.
      params: its parameters.
      key: key of the example and of both runs; use `vmap` over keys for many examples.
      path: options of the path; without `step_sizes`, they are adapted to x once.
      num_chains: chains per direction, at least 1; all are held at once.

    Returns:
      Both bounds and the example.

    Raises:
      ValueError: a count is not a positive integer, the schedule or step sizes do not
        have the length of the path, or a transition changes the form of z.
      TypeError: z holds anything but floats, or a distribution lacks a `log_prob` or a
        `sample`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import AnnealingPath, bidirectional_monte_carlo
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: vaejax.Normal(x / 2, jnp.log(jnp.full(1, 0.5))),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(1), jnp.zeros(1)),
      ...     decode=lambda params, z: vaejax.Normal(z, jnp.zeros(1)),
      ... )
      >>> path = AnnealingPath(num_temperatures=5, step_sizes=jnp.ones(5))
      >>> run = jax.vmap(partial(bidirectional_monte_carlo, vae, path=path), (None, 0))
      >>> keys = jax.random.split(jax.random.key(0), 7)  # of seven examples
      >>> jax.eval_shape(run, (), keys).gap.shape
      (7,)

    Source: Grosse et al. 2015; for decoders, Wu et al. 2017.
    """
    check_model(vae, params)
    check_key(key)
    _check_counts(path)
    check_count("num_chains", num_chains)
    return _run_along(path, _bidirectional, (vae, num_chains), params, key)


def _bidirectional(
    vae: VAE,
    num_chains: int,
    path: AnnealingPath,
    params: Params,
    key: Key,
) -> BidirectionalEstimate:
    z_key, x_key, adapt_key, forward_key, reverse_key = jax.random.split(key, 5)
    z = require(vae.prior(params), "sample")(z_key)
    x = require(vae.decode(params, z), "sample")(x_key)
    path = _with_step_sizes(vae, params, adapt_key, x, path, num_chains)
    chains = {"path": path, "num_chains": num_chains}
    forward = annealed_importance_sampling(vae, params, forward_key, x, **chains)
    reverse = reverse_annealed_importance_sampling(
        vae, params, reverse_key, x, z, **chains
    )
    lower, upper = forward.log_marginal, reverse.log_marginal
    return BidirectionalEstimate(lower, upper, upper - lower, forward, reverse, x)


def _with_step_sizes(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    path: AnnealingPath,
    num_chains: int,
) -> AnnealingPath:
    """Return the path with step sizes, adapted to x where it has none."""
    if path.step_sizes is not None:
        return path
    step_sizes = adapt_step_sizes(vae, params, key, x, path=path, num_chains=num_chains)
    return path._replace(step_sizes=step_sizes)
