"""Great circles and straight lines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax import latent


def test_a_great_circle_keeps_its_length_and_its_pace():
    a, b = jnp.array([3.0, 0.0, 0.0]), jnp.array([0.0, 3.0, 0.0])
    path = jax.vmap(lambda t: latent.spherical_path(a, b, t))(jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(jnp.linalg.norm(path, axis=1), 3, rtol=1e-6)
    angles = jnp.degrees(jnp.arctan2(path[:, 1], path[:, 0]))
    np.testing.assert_allclose(angles, [0, 22.5, 45, 67.5, 90], atol=1e-4)
    np.testing.assert_array_equal(path[0], a)
    # In several leaves it is one vector.
    parts = latent.spherical_path((a[:1], a[1:]), (b[:1], b[1:]), jnp.array(0.25))
    np.testing.assert_allclose(jnp.concatenate(parts), path[1], rtol=1e-6)


@pytest.mark.parametrize("end", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 1e-5]])
def test_where_there_is_no_great_circle_the_path_is_straight(end):
    start, end = jnp.array([1.0, 0.0]), jnp.array(end)
    with jax.debug_nans(True):
        for t in (0.0, 0.3, 1.0):
            np.testing.assert_allclose(
                latent.spherical_path(start, end, jnp.array(t)),
                latent.linear_path(start, end, t),
                atol=1e-5,
            )


def test_mistakes_name_the_fix(model):
    vae, params, xs = model
    mistakes = [
        (
            lambda: vaejax.latent.shift_latents(
                vae, params, xs[0], jnp.zeros(2), jnp.zeros(1)
            ),
            "give one of z's",
        ),
    ]
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()
