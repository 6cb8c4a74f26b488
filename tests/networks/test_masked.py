"""MADE: which output depends on which input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.networks import MADE, as_network


@pytest.mark.parametrize("hidden_sizes", [(), (3,), (7, 11)])
@pytest.mark.parametrize("num_context", [0, 2])
def test_every_output_depends_on_the_inputs_before_it_alone(hidden_sizes, num_context):
    made = as_network(MADE(hidden_sizes))
    z = jnp.float32([0.3, -1.0, 2.0, 0.5])
    context = jnp.ones((4, num_context)) if num_context else None
    inputs = (z,) if context is None else (z, context)

    @jax.jit
    def dependence(key):
        start = made.init(key, *inputs)
        params = jax.tree.map(lambda leaf: jnp.ones_like(leaf) / 9, start)
        return jax.jacobian(made.apply, argnums=tuple(range(1, len(inputs) + 1)))(
            params, *inputs
        )

    of_z, *of_context = dependence(jax.random.key(0))
    depends = np.any(of_z != 0, axis=1)
    np.testing.assert_array_equal(depends & np.triu(np.ones((4, 4), bool)), False)
    # Enough units reach every input that may be seen.
    if hidden_sizes != (3,):
        np.testing.assert_array_equal(depends, np.tri(4, k=-1, dtype=bool))
    for jacobian in of_context:
        assert np.all(jacobian != 0)


def test_widths_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match="must be positive"):
        MADE((4, 0))
    with pytest.raises(ValueError, match="must be positive"):
        MADE((4,), num_outputs=0)
