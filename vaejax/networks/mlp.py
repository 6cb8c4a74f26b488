"""Networks: Flax Linen modules, one example in, arrays out; and the (init, apply) pair
that any other network can be.

Convolutional ones are in `convolutions.py`, those of sentences in `sequences.py`. No
mutable state: normalization is over one example (LayerNorm, GroupNorm), never a batch.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from vaejax.base import Array


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
