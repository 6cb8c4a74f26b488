"""The dimensions of an array, each with its own distribution and without latents.

The likelihood is that of the model, and its outputs are fitted to each dimension by
maximum likelihood. Of a table, `vaejax.estimators.fit_independent_columns` does it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax.base import Array, Distribution, Head, PyTree

# Steps of Adam, of which some are compiled together, and values of a batch.
NUM_STEPS, AT_ONCE = 400, 10
MOST_VALUES, LEAST_EXAMPLES = 500_000, 64
LEARNING_RATE = 0.1
_SEED, _APART = 0, 0.1


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
      examples: training examples, `[num, *example]`; they stay on the host.
      to_model: `example -> x`, the example as the likelihood takes it.

    Returns:
      The distribution of one example.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, NUM_STEPS))
    size = float(np.prod(examples.shape[1:]))

    def loss(fitted: tuple, batch: Array) -> Array:
        row = head.apply(*fitted)
        # Per dimension, since Adam's least denominator is not 0.
        return -jnp.mean(jax.vmap(row.log_prob)(jax.vmap(to_model)(batch))) / size

    def step(carry: tuple, batch: Array) -> tuple[tuple, None]:
        fitted, state = carry
        updates, state = optimizer.update(jax.grad(loss)(fitted, batch), state)
        return (optax.apply_updates(fitted, updates), state), None

    descend = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches)[0])
    rng = np.random.default_rng(_SEED)
    # Components of a mixture that start equal would stay so.
    apart = _APART * rng.normal(size=np.shape(outputs))
    start = jnp.asarray(outputs + apart, jnp.float32)
    fitted = (head.init(jax.random.key(0)), start)
    carry: PyTree = (fitted, optimizer.init(fitted))
    num = min(len(examples), max(LEAST_EXAMPLES, int(MOST_VALUES // size)))
    for _ in range(NUM_STEPS // AT_ONCE):
        if num == len(examples):
            batches = np.broadcast_to(examples, (AT_ONCE, *examples.shape))
        else:
            batches = examples[rng.integers(0, len(examples), (AT_ONCE, num))]
        carry = descend(carry, batches)
    return head.apply(*carry[0])
