"""Heads: maps from the output arrays of a network to a distribution.

A distribution class carries its usual head as `head`; functions `..._head` beside the
class build others. Here is what all heads share.
"""

import math
import numbers
from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import as_numbers, check_count, check_function, described
from vaejax._reals import at_least_single
from vaejax._supports import require_support
from vaejax.base import Array, Distribution, Head, HeadLike, Key, Params, Support
from vaejax.distributions._shared import no_parameters

# Of `soft_clip`: the widest margin, and the factor of the slope far beyond it.
_WIDEST_MARGIN, _FAR_SLOPE = 3.0, 0.1


def parameter_free_head(
    make_distribution: Callable[..., Distribution],
    *,
    num_parameters: int = 1,
) -> Head:
    """Build a head without parameters of its own.

    Args:
      make_distribution: a function of `num_parameters` arrays `[*event]`.
      num_parameters: the number of arrays per dimension of the event, at least 1.

    Returns:
      A head that splits the last axis of the network's output into the arguments of
      `make_distribution`; with one parameter the output `[*event]` is the argument.

    Raises:
      ValueError: `num_parameters` is not a positive integer.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.parameter_free_head(
      ...     vaejax.Normal, num_parameters=2
      ... )
      >>> head.apply((), jnp.zeros((3, 2))).log_variance.shape
      (3,)
    """
    check_function("parameter_free_head: make_distribution", make_distribution)
    check_count("num_parameters", num_parameters)

    def apply(params: Params, outputs: Array) -> Distribution:
        del params
        arrays = (
            [outputs]
            if num_parameters == 1
            else [outputs[..., index] for index in range(num_parameters)]
        )
        return make_distribution(*arrays)

    return Head(num_parameters, no_parameters, apply)


def soft_clip(x: Array, lower: float, upper: float) -> Array:
    """Map the real line smoothly and monotonically into [lower, upper].

    It is the identity up to a margin m = min(3, (upper - lower) / 4) from each bound.
    At a distance d beyond that, the value is m (1 - exp(-d / m)) further on, which
    tends to the bound. The derivative is set to max(exp(-d / m), 0.1 m / (m + d)), of
    which the first is that of the value, so that a network that is far outside can
    return.

    Args:
      x: an array of any shape.
      lower: the lower bound; `-math.inf` for none.
      upper: the upper bound, above `lower`; `math.inf` for none.

    Returns:
      An array of the shape of x.

    Raises:
      ValueError: `lower` is not below `upper`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.distributions import soft_clip
      >>> [round(float(soft_clip(jnp.array(x), -20.0, 20.0)), 3) for x in (3, 20, 99)]
      [3.0, 18.896, 20.0]
      >>> round(float(jax.grad(soft_clip)(44.0, -20.0, 20.0)), 3)
      0.01

    Source: Chua et al. 2018 (PETS), appendix A.1, for soft bounds; their softplus is
    nowhere the identity, and its derivative vanishes.
    """
    x = as_numbers("soft_clip: x", x)
    for name, bound in (("lower", lower), ("upper", upper)):
        is_number = isinstance(bound, numbers.Real | np.ndarray | jax.Array)
        if not is_number or np.ndim(bound):
            raise TypeError(f"soft_clip: {name} is {described(bound)}; give a number.")
    lower, upper = float(lower), float(upper)
    if not lower < upper:
        raise ValueError(
            f"soft_clip: lower is {lower} and upper is {upper}; the first must be "
            "smaller."
        )
    margin = min(_WIDEST_MARGIN, (upper - lower) / 4)
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(float)
    # Half precision would round the distance to a bound.
    y = at_least_single(x)
    if upper < math.inf:
        y = _bounded_above(y, upper, margin)
    if lower > -math.inf:
        y = 0 - _bounded_above(-y, -lower, margin)
    return y.astype(x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _bounded_above(x: Array, bound: float, margin: float) -> Array:
    # Not expm1, which takes several times as long on CPU, whatever x is.
    further = 1 - jnp.exp(-_margins_beyond(x, bound, margin))
    # The sum may exceed the bound by a rounding.
    return jnp.minimum(jnp.minimum(x, bound - margin) + margin * further, bound)


@_bounded_above.defjvp
def _bounded_above_jvp(
    bound: float, margin: float, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    beyond = _margins_beyond(x, bound, margin)
    # The derivative of the value vanishes: too small to return by.
    slope = jnp.maximum(jnp.exp(-beyond), _FAR_SLOPE / (1 + beyond))
    return _bounded_above(x, bound, margin), slope * tangent


def _margins_beyond(x: Array, bound: float, margin: float) -> Array:
    return jnp.maximum(x - (bound - margin), 0) / margin


def as_head(likelihood: HeadLike) -> Head:
    """Return a head itself, or the head that a distribution class carries.

    Args:
      likelihood: a `Head`, or a distribution class with an attribute `head`.

    Returns:
      The head.

    Raises:
      TypeError: neither is given.

    Example:
      >>> import vaejax
      >>> vaejax.distributions.as_head(vaejax.Normal).num_parameters
      2
    """
    head = likelihood
    if isinstance(likelihood, type):
        head = getattr(likelihood, "head", likelihood)
    if not isinstance(head, Head):
        raise TypeError(
            f"likelihood is {described(likelihood)}; give a vaejax.Head, or a "
            "distribution class that carries one as `head` (Bernoulli, Normal)."
        )
    return head


def with_initial_outputs(likelihood: HeadLike, outputs: Array) -> Head:
    """Return a head that adds a learned bias to the network's outputs.

    A network whose outputs start near zero then starts at the data: at their log-odds
    for a Bernoulli, `jax.scipy.special.logit(jnp.clip(mean, 0.001, 0.999))` (Burda et
    al. 2016 start there), at their mean for a Normal.

    Args:
      likelihood: a `Head`, or a distribution class that carries one.
      outputs: initial value of the bias: `[*event]`, or `[*event, num_parameters]`.

    Returns:
      A head whose parameters are the dict of "head" (those of the given head) and
      "bias". Applied to outputs of another shape than the bias, it raises ValueError.

    Raises:
      TypeError: `likelihood` is no head and carries none.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.distributions.with_initial_outputs(
      ...     vaejax.Bernoulli, jax.scipy.special.logit(jnp.array([0.9, 0.2]))
      ... )
      >>> start = head.apply(head.init(jax.random.key(0)), jnp.zeros(2)).mean
      >>> round(float(start[0]), 3), round(float(start[1]), 3)
      (0.9, 0.2)

    Source: Burda et al. 2016.
    """
    head = as_head(likelihood)

    def init(key: Key) -> Params:
        return {"head": head.init(key), "bias": jnp.asarray(outputs, jnp.float32)}

    def apply(params: Params, from_network: Array) -> Distribution:
        if from_network.shape != params["bias"].shape:
            raise ValueError(
                f"with_initial_outputs: the network outputs {from_network.shape} and "
                "`outputs` has shape "
                f"{params['bias'].shape}; give them the same."
            )
        return head.apply(params["head"], from_network + params["bias"])

    return Head(head.num_parameters, init, apply)


def support_of(likelihood: HeadLike | Distribution) -> Support:
    """Return the set where a distribution, or those that a head makes, have mass.

    Args:
      likelihood: a `Head`, a distribution class that carries one, or a distribution of
        the library or of NumPyro.

    Returns:
      The `Support`; one made of a constraint of NumPyro calls it.

    Raises:
      TypeError: `likelihood` is none of these, or has no `support` that is known
        outside `jax.jit`.

    Example:
      >>> import vaejax
      >>> vaejax.distributions.support_of(vaejax.normal_head()).description
      'finite numbers'
    """
    if not isinstance(likelihood, Head | type) and hasattr(likelihood, "log_prob"):
        return require_support(likelihood)
    head = as_head(cast(HeadLike, likelihood))
    outputs = jnp.zeros(1 if head.num_parameters == 1 else (1, head.num_parameters))
    return require_support(head.apply(head.init(jax.random.key(0)), outputs))
