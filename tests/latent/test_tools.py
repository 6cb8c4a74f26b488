"""Samples at a temperature, tools that draw, and distributions that lack a mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.case_setup import example, row, setup

import vaejax
from vaejax import latent
from vaejax.distributions import Normal


def test_temperature_scales_the_prior_about_its_mean(model):
    vae, params, _ = model
    moved = vae._replace(prior=lambda params: Normal(jnp.full(3, 5.0), jnp.zeros(3)))

    def latents(temperature):
        as_it_is = moved._replace(decode=lambda params, z: Normal(z, jnp.zeros(3)))
        return vaejax.sample(
            as_it_is, params, jax.random.key(4), 4000, temperature=temperature
        )

    for temperature in (0.5, 2.0):
        draws = latents(temperature)
        assert np.all(np.abs(draws.mean(0) - 5) < 5 * temperature / np.sqrt(4000))
        np.testing.assert_allclose(draws.std(0), temperature, rtol=5 / np.sqrt(8000))
    np.testing.assert_array_equal(latents(0.0), np.full((4000, 3), 5.0))


def test_mistakes_name_the_fix(model):
    vae, params, _ = model
    key = jax.random.key(0)
    mistakes = [
        (lambda: vaejax.sample(vae, params, key, 2, temperature=-1.0), "from 0 on"),
        (
            lambda: vaejax.sample(vae, params, key, 2, temperature=float("nan")),
            "from 0 on",
        ),
    ]
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()


def test_tools_that_draw_follow_their_key():
    case = row("flow_posterior")
    params, batch = setup(case)
    choices = {"latent_point": latent.draw, "example_point": latent.draw}

    @jax.jit
    def use(key):
        path_key, moved_key = jax.random.split(key)
        path = vaejax.interpolate(
            case.vae,
            params,
            example(batch, 0),
            example(batch, 1),
            5,
            key=path_key,
            **choices,
        )
        return path, vaejax.traverse(
            case.vae, params, example(batch, 0), num=4, key=moved_key, **choices
        )

    path, moved = use(jax.random.key(14))
    assert path.shape == (5, *batch.shape[1:]) and moved.shape == (
        3,
        4,
        *batch.shape[1:],
    )
    for again, other, first in zip(
        use(jax.random.key(14)), use(jax.random.key(15)), (path, moved), strict=True
    ):
        assert np.array_equal(again, first) and not np.array_equal(other, first)


def test_a_missing_mean_is_an_error_that_says_what_to_choose():
    case = row("flow_posterior")
    params, batch = setup(case)
    x = case.x_of(example(batch, 0))
    with pytest.raises(TypeError, match=r"PlanarFlow has no mean.*draw"):
        vaejax.interpolate(case.vae, params, x, x, 3)
    with pytest.raises(TypeError, match="key"):
        vaejax.interpolate(case.vae, params, x, x, 3, latent_point=latent.draw)
    case = row("sequence")
    with pytest.raises(TypeError, match=r"Autoregressive has no mean.*mode"):
        vaejax.sample(case.vae, setup(case)[0], jax.random.key(0), 2)


def test_embedding_by_draws_gives_each_example_its_own():
    case = row("mlp_bernoulli")
    params, batch = setup(case)
    xs = jnp.stack([case.x_of(example(batch, 0))] * 3)
    points = vaejax.embed(
        case.vae, params, xs, key=jax.random.key(0), latent_point=latent.draw
    )
    assert np.all(np.std(points, axis=0) > 0)
    with pytest.raises(TypeError, match="key"):
        vaejax.embed(case.vae, params, xs, latent_point=latent.draw)


@pytest.mark.parametrize(
    "temperature", [np.float32(-1), np.float64("nan"), jnp.float32(-1), -1, np.inf]
)
def test_temperatures_of_numpy_and_jax_are_checked(model, temperature):
    vae, params, _ = model
    with pytest.raises(ValueError, match="temperature is"):
        vaejax.sample(vae, params, jax.random.key(0), 2, temperature=temperature)
