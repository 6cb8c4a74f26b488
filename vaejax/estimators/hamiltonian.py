"""Markov transitions: their type, and Hamiltonian Monte Carlo."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from vaejax._checks import check_count, check_function, check_in_range, check_key
from vaejax._programs import run
from vaejax._reals import as_real
from vaejax.base import Array, Key, PyTree

#: `(log_density, key, z, step_size) -> (z, acceptance)`: a Markov transition that
#: leaves exp(log_density) invariant, such as `hamiltonian_transition`.
Transition = Callable[
    [Callable[[PyTree], Array], Key, PyTree, Array], tuple[PyTree, Array]
]


def hamiltonian_transition(
    log_density: Callable[[PyTree], Array],
    key: Key,
    z: PyTree,
    step_size: float | Array,
    *,
    num_leapfrog: int = 10,
) -> tuple[PyTree, Array]:
    """Make one transition of Hamiltonian Monte Carlo with unit mass.

    It leaves exp(log_density) invariant and is reversible. The momentum is r ~ N(0, I);
    `num_leapfrog` times r += e/2 grad, z += e r, r += e/2 grad; the result z', r' is
    accepted with probability min(1, exp[log_density(z') - |r'|^2/2 - log_density(z) +
    |r|^2/2]). A trajectory that ends in NaN is rejected. With `num_leapfrog` given by
    `functools.partial`, it is a `Transition` of an `AnnealingPath`.

    Args:
      log_density: `z -> scalar`, in nats, up to a constant; must be differentiable.
        Outside `jax.jit`, give the same function to every call: another one compiles
        again.
      key: key of the momentum and of the acceptance.
      z: a pytree of float arrays.
      step_size: e, a positive scalar that must not depend on z.
      num_leapfrog: leapfrog steps, at least 1; one gradient each, and one more.

    Returns:
      The new z, and the acceptance probability.

    Raises:
      ValueError: `num_leapfrog` is not a positive integer, or `step_size` is not
        positive and finite.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.estimators import hamiltonian_transition
      >>> flat = lambda z: 0.0 * jnp.sum(z)  # every move is accepted
      >>> move = jax.jit(partial(hamiltonian_transition, flat, step_size=0.1))
      >>> z, acceptance = move(jax.random.key(0), jnp.zeros(3))
      >>> z.shape, float(acceptance)
      ((3,), 1.0)

    Source: Neal 2011, section 5.3.
    """
    check_function("hamiltonian_transition: log_density", log_density)
    check_key(key)
    check_count("num_leapfrog", num_leapfrog)
    check_in_range("hamiltonian_transition: step_size", step_size, 0, open_low=True)
    return run(_transition, (log_density, num_leapfrog), key, z, step_size)


def _transition(
    log_density: Callable[[PyTree], Array],
    num_leapfrog: int,
    key: Key,
    z: PyTree,
    step_size: float | Array,
) -> tuple[PyTree, Array]:
    momentum_key, acceptance_key = jax.random.split(key)
    given, unravel = ravel_pytree(z)
    # In half precision a trajectory would lose its small steps and its energy.
    start = as_real(given)
    step_size = jnp.asarray(step_size, start.dtype)
    value_and_gradient = jax.value_and_grad(
        lambda flat: as_real(log_density(unravel(flat.astype(given.dtype))))
    )

    def leapfrog(
        _, point: tuple[Array, Array, Array, Array]
    ) -> tuple[Array, Array, Array, Array]:
        flat, momentum, _, gradient = point
        momentum = momentum + step_size / 2 * gradient
        flat = flat + step_size * momentum
        value, gradient = value_and_gradient(flat)
        return flat, momentum + step_size / 2 * gradient, value, gradient

    momentum = jax.random.normal(momentum_key, start.shape, start.dtype)
    value, gradient = value_and_gradient(start)
    end, last_momentum, last_value, _ = jax.lax.fori_loop(
        0, num_leapfrog, leapfrog, (start, momentum, value, gradient)
    )
    kinetic_change = jnp.sum(jnp.square(last_momentum) - jnp.square(momentum)) / 2
    log_ratio = last_value - value - kinetic_change.astype(value.dtype)
    acceptance = jnp.where(jnp.isnan(log_ratio), 0, jnp.exp(jnp.minimum(log_ratio, 0)))
    is_accepted = jax.random.uniform(acceptance_key, (), acceptance.dtype) < acceptance
    moved = jnp.where(is_accepted, end, start).astype(given.dtype)
    return unravel(moved), acceptance


def _make_transition(
    transition: Transition,
    log_density: Callable[[PyTree], Array],
    key: Key,
    z: PyTree,
    step_size: Array,
) -> tuple[PyTree, Array]:
    """Return the z and the acceptance of a transition, judged by their form."""
    returned = transition(log_density, key, z, step_size)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"transition returned {_form(returned)}; return a pair (z, acceptance)."
        )
    moved, acceptance = returned
    if _form(moved) != _form(z):
        raise ValueError(
            f"transition was given a z of {_form(z)} and returned one of "
            f"{_form(moved)}; keep its structure, shapes and dtypes."
        )
    if not _is_number(acceptance) or jnp.shape(acceptance) != ():
        raise ValueError(
            f"transition returned an acceptance of {_form(acceptance)}; return a "
            "scalar, the probability that the move was accepted."
        )
    return moved, as_real(acceptance)


def _form(tree: PyTree) -> str:
    """Return the structure of a pytree in words, with the dtypes and shapes of it."""

    def in_words(leaf: Any) -> str:
        if not _is_number(leaf):
            return type(leaf).__name__
        return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"

    return str(jax.tree.map(in_words, tree))


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int)
