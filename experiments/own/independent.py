"""The dimensions of an array, each with its own distribution and without latents.

The likelihood is that of the model, and its outputs are fitted to each dimension by
maximum likelihood. Of a table, `vaejax.estimators.fit_independent_columns` does it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax.base import Array, Distribution, Head

# Training examples that the fit uses at most, and steps of Adam.
MOST_EXAMPLES, NUM_STEPS = 5000, 300
LEARNING_RATE = 0.1


def fit(
    head: Head,
    outputs: Array,
    examples: np.ndarray,
    to_model: Callable[[Array], Array],
) -> Distribution:
    """Return the distribution of independent dimensions with the largest likelihood.

    Args:
      head: the head of the likelihood.
      outputs: outputs to start at, `[*example]` or `[*example, num_parameters]`.
      examples: training examples, `[num, *example]`; of many, some, evenly spaced.
      to_model: `example -> x`, the example as the likelihood takes it.

    Returns:
      The distribution of one example.
    """
    params = head.init(jax.random.key(0))
    some = np.linspace(0, len(examples) - 1, min(MOST_EXAMPLES, len(examples)))
    xs = jax.vmap(to_model)(jnp.asarray(examples[np.unique(some.astype(int))]))
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, NUM_STEPS))
    size = float(np.prod(np.shape(xs)[1:]))

    def loss(fitted: tuple) -> Array:
        row = head.apply(*fitted)
        # Per dimension, since Adam's least denominator is not 0.
        return -jnp.mean(jax.vmap(row.log_prob)(xs)) / size

    def step(carry: tuple, _: None) -> tuple[tuple, Array]:
        fitted, state = carry
        value, gradient = jax.value_and_grad(loss)(fitted)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(fitted, updates), state), value

    start = (params, jnp.asarray(outputs, jnp.float32))

    @jax.jit
    def descend(start: tuple) -> tuple:
        carry = (start, optimizer.init(start))
        (fitted, _), _ = jax.lax.scan(step, carry, None, NUM_STEPS)
        return fitted

    return head.apply(*descend(start))
