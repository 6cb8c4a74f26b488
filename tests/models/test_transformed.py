"""Models of parts, conditions and classes under other transformations and dtypes.

Everything is traced and nothing compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.case_setup import NUM, example, row

import vaejax

NAMES = ("joint", "multimodal", "semi_supervised", "conditional_vae")


@pytest.fixture(params=NAMES)
def case(request):
    return row(request.param)


def shapes_of(case):
    """Shapes of parameters, and a batch."""
    batch = case.batch(jax.random.key(1), NUM)
    x = case.x_of(example(batch, 0))
    return jax.eval_shape(lambda: case.vae.init(jax.random.key(0), x)), batch


def test_parameters_in_half_precision_give_losses_in_single(case):
    params, batch = shapes_of(case)
    half = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), params
    )

    def loss_and_gradient(params):
        loss_fn = vaejax.mean_over_batch(case.loss)
        return jax.value_and_grad(loss_fn, has_aux=True)(
            params, jax.random.key(2), batch
        )

    (loss, terms), gradient = jax.eval_shape(loss_and_gradient, half)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, terms))} == {
        np.dtype("float32")
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("bfloat16")}


@pytest.mark.slow
def test_several_seeds_are_traced_at_once_and_no_tracer_leaks(case):
    _, batch = shapes_of(case)
    x = case.x_of(example(batch, 0))

    def losses(keys):
        params = jax.vmap(lambda key: case.vae.init(key, x))(keys)
        return jax.vmap(
            lambda params: vaejax.mean_over_batch(case.loss)(
                params, jax.random.key(2), batch
            )[0]
        )(params)

    with jax.checking_leaks():
        found = jax.eval_shape(losses, jax.random.split(jax.random.key(0), 3))
    assert found.shape == (3,)
