"""Neighbors against every distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax


def test_neighbors_are_those_of_every_distance():
    queries, references = (
        jax.random.normal(jax.random.key(n), (n, 2, 3)) + 10 for n in (7, 40)
    )
    found = vaejax.latent.nearest_neighbors(queries, references, num=5, batch_size=3)
    distances = np.linalg.norm(
        (np.asarray(queries)[:, None] - np.asarray(references)[None]).reshape(7, 40, 6),
        axis=-1,
    )
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :5])
    np.testing.assert_allclose(
        found.distances, np.sort(distances, axis=1)[:, :5], rtol=1e-5
    )
    # Something that is among the references is its own neighbor.
    again = vaejax.latent.nearest_neighbors(references, references)
    np.testing.assert_array_equal(again.indices[:, 0], np.arange(40))
    assert np.all(again.distances == 0)


@pytest.mark.parametrize("size", [1e-33, 1e-20, 1e20, 1e37])
def test_squares_beyond_the_range_of_float32_are_compared(size):
    queries, references = (
        np.asarray(jax.random.normal(jax.random.key(n), (n, 6))) for n in (7, 40)
    )
    plain = vaejax.latent.nearest_neighbors(queries, references, num=5)
    found = vaejax.latent.nearest_neighbors(
        queries * np.float32(size), references * np.float32(size), num=5
    )
    np.testing.assert_array_equal(found.indices, plain.indices)
    np.testing.assert_allclose(found.distances / size, plain.distances, rtol=1e-5)


def test_mistakes_name_the_fix():
    codes = jnp.zeros((4, 3))
    mistakes = [
        (lambda: vaejax.latent.nearest_neighbors(codes, codes[:, :2]), "give the same"),
        (
            lambda: vaejax.latent.nearest_neighbors(codes, codes, num=5),
            "at least as many",
        ),
    ]
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()
