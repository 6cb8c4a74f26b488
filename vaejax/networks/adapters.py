"""Networks as pairs of pure functions."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.base import Key, Params, PyTree


class Network(NamedTuple):
    """A network as two pure functions, of one example.

    Attributes:
      init: `(key, *inputs) -> params`.
      apply: `(params, *inputs) -> outputs`.
    """

    init: Callable[..., Params]
    apply: Callable[..., PyTree]


def as_network(network: nn.Module | tuple[Callable, Callable]) -> Network:
    """A Linen module, or any `(init, apply)` pair of functions, as a `Network`.

    Raises:
      TypeError: it is neither; or, at `init`, a Linen module keeps state beside its
        parameters (BatchNorm does).
    """
    if isinstance(network, nn.Module):
        return Network(_linen_init(network), _linen_apply(network))
    if (
        isinstance(network, tuple)
        and len(network) == 2
        and all(callable(part) for part in network)
    ):
        return Network(*network)
    raise TypeError(
        f"network is {network!r}; give a flax.linen Module (an instance, not the "
        "class) or a pair "
        "(init(key, x) -> params, apply(params, x) -> arrays)."
    )


def _linen_init(module: nn.Module) -> Callable[..., Params]:
    def init(key: Key, *inputs: PyTree) -> Params:
        variables = dict(module.init(key, *inputs))
        params = variables.pop("params", {})
        if variables:
            raise TypeError(
                f"{type(module).__name__} keeps mutable state {sorted(variables)}; use "
                "a network without it "
                "(GroupNorm or LayerNorm in place of BatchNorm)."
            )
        return params

    return init


def _linen_apply(module: nn.Module) -> Callable[..., PyTree]:
    return lambda params, *inputs: module.apply({"params": params}, *inputs)


def compose_networks(first: Network, second: Network) -> Network:
    """The network x -> second(first(x)); its parameters are the tuple of both."""

    def init(key: Key, x: PyTree) -> Params:
        first_key, second_key = jax.random.split(key)
        first_params = first.init(first_key, x)
        hidden = jax.eval_shape(first.apply, first_params, x)
        hidden = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), hidden)
        return first_params, second.init(second_key, hidden)

    def apply(params: Params, x: PyTree) -> PyTree:
        return second.apply(params[1], first.apply(params[0], x))

    return Network(init, apply)
