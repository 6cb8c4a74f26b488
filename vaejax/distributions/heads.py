"""Likelihoods, posteriors and priors as pytrees, their divergences, and the heads that
make them from arrays.

Every class follows `vaejax.base.Distribution`: one event, log-densities in nats summed
over the event, constants included.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array, Distribution, Head, Key, Params, Support
from vaejax.distributions._shared import no_parameters


def parameter_free_head(
    make_distribution: Callable[..., Distribution], *, num_parameters: int = 1
) -> Head:
    """A head without parameters of its own; `make_distribution` takes `num_parameters`
    arrays `[*event]`.
    """
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
    """A smooth, monotone map of the real line into (lower, upper).

    Inside it is the identity up to exp(-distance to the bound). Its gradient is small
    but not zero beyond a bound, so that a network can return. Source: Chua et al. 2018
    (PETS), appendix A.1.
    """
    # The second softplus would otherwise lift the supremum above `upper` where the
    # bounds are close.
    upper += math.log(-math.expm1(lower - upper))
    if upper < math.inf:
        x = upper - jax.nn.softplus(upper - x)
    if lower > -math.inf:
        x = lower + jax.nn.softplus(x - lower)
    return x


def as_head(likelihood: Head | type) -> Head:
    """The head itself, or the one that a distribution class carries as `head`.

    Raises:
      TypeError: neither is given.
    """
    head = getattr(likelihood, "head", likelihood)
    if not isinstance(head, Head):
        raise TypeError(
            f"likelihood is {likelihood!r}; give a vaejax.Head, or a distribution "
            "class that carries one as `head` "
            "(Bernoulli, Normal)."
        )
    return head


def with_initial_outputs(likelihood: Head | type, outputs: Array) -> Head:
    """The likelihood whose head adds a learned bias to what the network puts out,
    starting at `outputs`.

    A network that starts near zero then starts at the data: at their log-odds for a
    Bernoulli, `jax.scipy.special.logit(jnp.clip(mean, 0.001, 0.999))` (Burda et al.
    2016 start there), at their mean for a Normal.

    Args:
      likelihood: a `Head`, or a distribution class that carries one.
      outputs: what the network ought to put out at first: `[*event]`, or `[*event,
        num_parameters]`.
    """
    head = as_head(likelihood)

    def init(key: Key) -> Params:
        return {"head": head.init(key), "bias": jnp.asarray(outputs, jnp.float32)}

    def apply(params: Params, from_network: Array) -> Distribution:
        if from_network.shape != params["bias"].shape:
            raise ValueError(
                f"with_initial_outputs: the network puts out {from_network.shape} and "
                "`outputs` has shape "
                f"{params['bias'].shape}; give them the same."
            )
        return head.apply(params["head"], from_network + params["bias"])

    return Head(head.num_parameters, init, apply)


def support_of(likelihood: Head | type) -> Support:
    """Where the distribution that a head makes has any mass."""
    head = as_head(likelihood)
    outputs = jnp.zeros(1 if head.num_parameters == 1 else (1, head.num_parameters))
    return head.apply(head.init(jax.random.key(0)), outputs).support
