"""The masked autoregressive network (MADE)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vaejax.base import Array
from vaejax.networks._inputs import as_vector

# The outputs of a new network are a tenth of those of a plain one.
_SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


class MADE(nn.Module):
    """Multi-layer perceptron whose output i depends on the inputs before i alone.

    Input j has degree j = 1, ..., D and every hidden unit a degree below D. A unit sees
    those of the layer before whose degree is not above its own, and outputs i those
    below i: all other weights are masked to 0. A condition may enter the first layer,
    which every output sees.

    Called as `(z, context=None)` with z `[D]` and a context of any shape, it returns
    `[D, num_outputs]`.

    Attributes:
      hidden_sizes: the widths of the hidden layers, in order; may be empty.
      num_outputs: outputs for each dimension of z.
      activation: the function applied elementwise after each hidden layer.
      kernel_init: the initializer of the kernels of hidden layers; biases start at 0.
      output_init: the initializer of the kernel of the outputs, which start small.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.networks import MADE
      >>> made, z = MADE((16,)), jnp.ones(3)
      >>> params = made.init(jax.random.key(0), z)
      >>> made.apply(params, z).shape
      (3, 2)
      >>> jacobian = jax.jacobian(made.apply, argnums=1)(params, z)[:, 0]
      >>> bool(jnp.all(jnp.triu(jacobian) == 0)), bool(jnp.all(jacobian[2, :2] != 0))
      (True, True)

    Source: Germain et al. 2015, equations 12 and 13.
    """

    hidden_sizes: Sequence[int]
    num_outputs: int = 2
    activation: Callable[[Array], Array] = nn.elu
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    output_init: nn.initializers.Initializer = _SMALL

    def __post_init__(self):
        if any(size < 1 for size in (*self.hidden_sizes, self.num_outputs)):
            raise ValueError(
                f"MADE: hidden_sizes {tuple(self.hidden_sizes)} and num_outputs "
                f"{self.num_outputs} must be positive."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Array, context: Array | None = None) -> Array:
        hidden = as_vector("MADE", z)
        size, degrees = hidden.size, np.arange(1, hidden.size + 1)
        seen = None if context is None else as_vector("MADE: context", context)
        # Units of degree 0 see the context only, and without one are constants.
        lowest = int(seen is None and size > 1)
        for index, width in enumerate(self.hidden_sizes):
            own = lowest + np.arange(width) * (size - lowest) // width
            mask = degrees[:, None] <= own[None]
            hidden = self._masked(f"hidden_{index}", hidden, mask, self.kernel_init)
            if index == 0 and seen is not None:
                hidden = hidden + self._of_context(seen, width, self.kernel_init)
            hidden, degrees = self.activation(hidden), own
        own = np.repeat(np.arange(1, size + 1), self.num_outputs)
        mask = degrees[:, None] < own[None]
        outputs = self._masked("outputs", hidden, mask, self.output_init)
        if not self.hidden_sizes and seen is not None:
            outputs = outputs + self._of_context(seen, len(own), self.output_init)
        return jnp.reshape(outputs, (size, self.num_outputs))

    def _masked(
        self, name: str, x: Array, mask: np.ndarray, init: nn.initializers.Initializer
    ) -> Array:
        single = jnp.float32
        kernel = self.param(f"{name}_kernel", init, mask.shape, single)
        zeros = nn.initializers.zeros
        bias = self.param(f"{name}_bias", zeros, mask.shape[1:], single)
        return x @ (kernel * mask.astype(kernel.dtype)) + bias

    def _of_context(
        self, context: Array, size: int, init: nn.initializers.Initializer
    ) -> Array:
        return nn.Dense(size, use_bias=False, kernel_init=init, name="context")(context)
