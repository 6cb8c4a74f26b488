"""Samples at a temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
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
