"""Networks: Flax Linen modules, one example in, arrays out; and the (init, apply) pair
that any other network can be.

Convolutional ones are in `convolutions.py`, those of sentences in `sequences.py`. No
mutable state: normalisation is over one example (LayerNorm, GroupNorm), never a batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.base import Array, Key, Params, PyTree


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


def chain(first: Network, second: Network) -> Network:
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


class MLP(nn.Module):
    """A multi-layer perceptron: the input flattened, then h <- activation(W h + b) for
    each hidden size.

    Attributes:
      hidden_sizes: the widths of the hidden layers, in order; may be empty.
      output_shape: with a shape, a last linear layer without activation, reshaped to
        it; with None, the last hidden activations are the output (features, for a
        builder that adds its own last layer).
      activation: applied elementwise after each hidden layer.
      kernel_init: of every layer; biases start at zero.
    """

    hidden_sizes: Sequence[int]
    output_shape: Sequence[int] | None = None
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    def __post_init__(self):
        sizes = (*self.hidden_sizes, *(self.output_shape or ()))
        if any(size < 1 for size in sizes):
            raise ValueError(
                f"MLP: hidden_sizes {tuple(self.hidden_sizes)} and output_shape "
                f"{self.output_shape} must be positive."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = jnp.ravel(x)
        for size in self.hidden_sizes:
            x = self.activation(nn.Dense(size, kernel_init=self.kernel_init)(x))
        if self.output_shape is None:
            return x
        outputs = nn.Dense(math.prod(self.output_shape), kernel_init=self.kernel_init)(
            x
        )
        return jnp.reshape(outputs, tuple(self.output_shape))


class GatedMLP(nn.Module):
    """A multi-layer perceptron of gated layers: h <- (W h + b) * sigmoid(V h + c) for
    each hidden size.

    Attributes are those of `MLP`, without an activation. Source: Dauphin et al. 2017;
    in VAEs Tomczak & Welling 2018.
    """

    hidden_sizes: Sequence[int]
    output_shape: Sequence[int] | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = jnp.ravel(x)
        for size in self.hidden_sizes:
            values, gates = (
                nn.Dense(size, kernel_init=self.kernel_init)(x) for _ in range(2)
            )
            x = values * nn.sigmoid(gates)
        return (
            x
            if self.output_shape is None
            else MLP((), self.output_shape, kernel_init=self.kernel_init)(x)
        )
