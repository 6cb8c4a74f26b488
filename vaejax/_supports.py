"""Where a distribution has mass, and which moves of an event stay there."""

from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import has, is_array, is_traced, require
from vaejax.base import Array, Distribution, Event, PyTree, Support, values

# Multiples of the vector of ones at which sets are judged: far, fractions, integers.
_LEVELS = (-1e6, -0.5, 0.3, 1e6, *range(-16, 257))


def read_support(distribution: Any) -> Support | None:
    """Return the support of a distribution, of ours or of NumPyro.

    None where it has none, or one whose bounds are traced or abstract.
    """
    try:
        support = getattr(distribution, "support", None)
    except NotImplementedError:
        return None
    if support is None or isinstance(support, Support):
        return support
    if not has(support, "event_dim") or not callable(support):
        return None
    # A set whose bounds are known only when the program runs cannot be judged before.
    leaves = jax.tree.leaves(support)
    if any(is_traced(x) or isinstance(x, jax.ShapeDtypeStruct) for x in leaves):
        return None
    return _of_constraint(support)


def require_support(distribution: Any) -> Support:
    """Return the support of a distribution, or raise TypeError where it has none."""
    support = read_support(distribution)
    if support is None:
        require(distribution, "support")
        raise TypeError(
            f"{type(distribution).__name__} has a support that is not known before it "
            "is computed; give a distribution with a vaejax.base.Support."
        )
    return support


def is_inside(distribution: Any, event: Event) -> Array | None:
    """Return whether an event is in the set that NumPyro says, a traced scalar.

    None for a distribution of ours, whose log-density is -inf outside.
    """
    constraint = getattr(distribution, "support", None)
    if isinstance(constraint, Support) or not callable(constraint):
        return None
    with standard_promotion():
        return jnp.all(jnp.asarray(constraint(event)))


def standard_promotion() -> ExitStack:
    """Return a context in which code of other libraries may promote as it is written.

    A user, as our tests do, may have turned on what JAX refuses.
    """
    stack = ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack


def _of_constraint(constraint: Any) -> Support:
    """Return a constraint of NumPyro as a support, judged by calling it."""
    # Of independent dimensions each is judged by itself.
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    event_dim = constraint.event_dim

    def contains(x: Any) -> Any:
        shape = np.shape(x)
        if len(shape) < event_dim:
            return np.zeros(shape, bool)
        x = np.asarray(x)
        if event_dim and x.dtype == np.float64:
            # Sums are 1 to the precision of the data, which were single.
            x = x.astype(np.float32)
        with standard_promotion(), jax.ensure_compile_time_eval():
            inside = np.asarray(constraint(x))
        if constraint.is_discrete:
            # Counts that have a total are judged by it alone.
            inside = inside & np.all(x == np.round(x), axis=tuple(range(-event_dim, 0)))
        # A vector is in the set, or none of its dimensions is.
        return np.broadcast_to(inside[(..., *event_dim * (None,))], shape)

    return Support(f"{constraint!r} of NumPyro", contains)


def is_all_reals(support: Support, shape: tuple[int, ...]) -> bool:
    """Return whether events of a shape may hold any finite numbers."""
    probes = [np.full(shape, level) for level in (-1e6, -0.5, 0.0, 0.3, 1e6)]
    ramp = np.linspace(1, -0.3, int(np.prod(shape))).reshape(shape)
    return bool(np.all(support.contains(np.stack([*probes, ramp]))))


def is_convex(support: Support, shape: tuple[int, ...]) -> bool:
    """Return whether straight lines between events of a shape stay in the support.

    It is judged by the midpoints of pairs of events: false on a sphere, for classes,
    counts and levels.
    """
    if support.is_convex is not None:
        return support.is_convex
    size = int(np.prod(shape))
    units = np.eye(min(size, 2), size)
    events = np.concatenate([np.full((1, size), level) for level in _LEVELS] + [units])
    inside = _contains_each(support, events, shape)
    events = events[inside]
    if len(events) < 2:
        return True  # matrices of a kind, or numbers in between
    middles = (events + np.roll(events, 1, axis=0)) / 2
    return bool(np.all(_contains_each(support, middles, shape)))


def _contains_each(
    support: Support, events: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    inside = np.asarray(support.contains(events.reshape(-1, *shape)))
    return np.asarray(np.all(inside.reshape(len(events), -1), axis=1))


def support_of_moves(prior: Distribution, z: PyTree) -> Support | None:
    """Return the support of a prior whose latents may not be moved at will.

    None where it is all real numbers, not known, or of latents of several arrays.
    """
    support = read_support(prior)
    if support is None or not is_array(z):
        return None
    if support.is_convex is not False and is_all_reals(support, jnp.shape(z)):
        return None
    return support


def check_lines(name: str, prior: Distribution, z: PyTree, remedy: str) -> None:
    """Raise TypeError where straight lines from a latent leave the prior's support."""
    support = support_of_moves(prior, z)
    if support is not None and not is_convex(support, jnp.shape(z)):
        raise TypeError(
            f"{name}: z is over {support.description}, which a straight line leaves; "
            f"{remedy}."
        )


def check_densities(
    name: str, posterior: Distribution, prior: Distribution, z: PyTree
) -> None:
    """Raise TypeError where log q(z|x) - log p(z) compares densities of two kinds.

    One is a density in space, the other one on a sphere or a probability of classes.
    """
    z = values(z)
    if not is_array(z):
        return
    ours, priors = read_support(posterior), read_support(prior)
    if ours is None or priors is None or ours is priors:
        return
    if is_convex(ours, jnp.shape(z)) != is_convex(priors, jnp.shape(z)):
        raise TypeError(
            f"{name}: the posterior is over {ours.description}, the prior over "
            f"{priors.description}, and their densities cannot be compared; give the "
            "VAE a prior over the support of its posterior."
        )


def check_latents(name: str, prior: Distribution, zs: PyTree, remedy: str) -> None:
    """Raise ValueError where latents `[num, *z]` that are known leave the support."""
    if not is_array(zs) or is_traced(zs) or not np.size(zs):
        return
    support = support_of_moves(prior, zs[0])
    if support is not None and not np.all(support.contains(np.asarray(zs))):
        raise ValueError(
            f"{name}: z would leave the support of its prior, {support.description}; "
            f"{remedy}."
        )
