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


PATHS = {"linear": latent.linear_path, "spherical": latent.spherical_path}
ENDS = {
    "equal": [1.0, -2.0, 0.5],
    "parallel": [3.0, -6.0, 1.5],
    "opposite": [-1.0, 2.0, -0.5],
    "zero": [0.0, 0.0, 0.0],
    "near": [1.0, -2.0, 0.5000001],
    "other": [0.3, 0.2, 4.0],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("path", PATHS)
def test_derivatives_are_finite_at_all_ends(path, end):
    start, end_value = jnp.array([1.0, -2.0, 0.5]), jnp.array(ENDS[end])
    jacobians = jax.jit(jax.jacobian(PATHS[path], argnums=(0, 1, 2)))
    for t in (0.0, 0.3, 1.0):
        for ends in ((start, end_value), (end_value, start), (end_value, end_value)):
            found = jacobians(*ends, jnp.float32(t))
            assert all(np.all(np.isfinite(leaf)) for leaf in found)
            # By differences from both sides, where the path is smooth.
            if end not in ("opposite", "zero", "near"):
                continue_by = 1e-2 * np.random.default_rng(0).normal(size=3)
                moved = [
                    np.asarray(
                        PATHS[path](ends[0] + jnp.float32(s * continue_by), ends[1], t)
                    )
                    for s in (1, -1)
                ]
                np.testing.assert_allclose(
                    (moved[0] - moved[1]) / 2, found[0] @ continue_by, atol=2e-5
                )


def test_small_angles_keep_their_digits(x64):
    start = jnp.array([1.0, 0.0])
    for angle in (1e-2, 1e-4, 1e-6):
        end = jnp.array([jnp.cos(angle), jnp.sin(angle)])
        middle = latent.spherical_path(start, end, 0.25)
        np.testing.assert_allclose(
            middle, [np.cos(angle / 4), np.sin(angle / 4)], rtol=1e-13
        )


def test_gradients_of_every_path_and_grid_are_finite_where_ends_coincide(model):
    vae, params, xs = model
    zeros = jax.tree.map(jnp.zeros_like, params)
    functions = [
        *(
            lambda p, path=path: latent.interpolate(vae, p, xs[0], xs[0], 3, path=path)
            for path in PATHS.values()
        ),
        lambda p: latent.traverse(vae, p, xs[0], num=2),
        lambda p: latent.manifold(vae, p, 2, dimensions=(0, 2)),
        lambda p: latent.shift_latents(
            vae, p, xs[0], jnp.zeros(3), jnp.array([0.0, 1.0])
        ),
    ]
    for function in functions:
        gradient = jax.jit(jax.grad(lambda p, f=function: jnp.sum(f(p) ** 2)))
        for at in (params, zeros):
            assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient(at)))


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
