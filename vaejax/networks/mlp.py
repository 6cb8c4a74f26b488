"""Multi-layer perceptrons, plain and gated."""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from vaejax.base import Array
from vaejax.networks._inputs import as_vector


class MLP(nn.Module):
    """Multi-layer perceptron, which flattens its input first.

    Each hidden layer is h <- activation(W h + b).

    Attributes:
      hidden_sizes: the widths of the hidden layers, in order; may be empty.
      output_shape: with a shape, a last linear layer without activation, reshaped to
        it; with None, the last hidden activations are the output (features, for a
        builder that adds its own last layer).
      activation: the function applied elementwise after each hidden layer.
      kernel_init: the initializer of the kernel of every layer; biases start at zero.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> mlp = vaejax.MLP(hidden_sizes=(32,), output_shape=(4, 2))
      >>> forward = mlp.init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((28, 28)))[0].shape
      (4, 2)
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
        x = as_vector("MLP", x)
        for size in self.hidden_sizes:
            x = self.activation(nn.Dense(size, kernel_init=self.kernel_init)(x))
        if self.output_shape is None:
            return x
        outputs = nn.Dense(math.prod(self.output_shape), kernel_init=self.kernel_init)(
            x
        )
        return jnp.reshape(outputs, tuple(self.output_shape))


class GatedMLP(nn.Module):
    """Multi-layer perceptron of gated layers, which flattens its input first.

    Each hidden layer is h <- (W h + b) * sigmoid(V h + c).

    Attributes:
      hidden_sizes: the widths of the hidden layers, in order; may be empty.
      output_shape: the shape of the output of a last linear layer; None for the last
        hidden values, as in `MLP`.
      kernel_init: the initializer of the kernel of every layer; biases start at zero.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> forward = vaejax.GatedMLP(hidden_sizes=(32, 16)).init_with_output
      >>> jax.eval_shape(forward, jax.random.key(0), jnp.zeros((28, 28)))[0].shape
      (16,)

    Source: Dauphin et al. 2017; in VAEs Tomczak & Welling 2018.
    """

    hidden_sizes: Sequence[int]
    output_shape: Sequence[int] | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = as_vector("GatedMLP", x)
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
