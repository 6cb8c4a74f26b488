"""Temporary memory of the gradient of every objective, beside that of the IWAE."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from support.objectives import OBJECTIVES, OTHERS, make_vae

import vaejax
from vaejax import objectives

# Losses that compare all pairs of a batch take memory by the square of its size.
BATCH_SIZE = 50


def test_every_exported_name_is_an_objective_of_the_table_or_none():
    assert sorted([*OBJECTIVES, *OTHERS]) == sorted(objectives.__all__)


def temporary_bytes(loss_fn, vae):
    batch = jax.ShapeDtypeStruct((BATCH_SIZE, 784), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(vae.init, key, jax.ShapeDtypeStruct((784,), jnp.float32))
    gradient = jax.jit(jax.grad(loss_fn, has_aux=True))
    compiled = gradient.lower(params, key, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def iwae_bytes():
    vae = make_vae()
    return {
        num_samples: temporary_bytes(
            vaejax.mean_over_batch(
                partial(vaejax.negative_iwae, vae, num_samples=num_samples)
            ),
            vae,
        )
        for num_samples in (1, 4)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_temporary_memory_is_at_most_a_multiple_of_the_iwae(name, iwae_bytes):
    row = OBJECTIVES[name]
    vae = row.make_vae()
    used = temporary_bytes(row.make_loss(vae), vae)
    assert used <= row.memory * iwae_bytes[row.num_samples]
