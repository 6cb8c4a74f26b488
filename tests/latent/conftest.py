"""The model on which latent tools are tested."""

import jax
import jax.numpy as jnp
import pytest
from support.prototypes import linear_gaussian


@pytest.fixture(scope="session")
def model():
    """Three latent dimensions; the last is not used: its posterior is the prior."""
    vae = linear_gaussian(3)
    params = vae.init(jax.random.key(0), jnp.zeros((3, 4)))
    params["encoder"] = params["encoder"].at[2].set(0).at[1].multiply(3)
    params["posterior_log_variance"] = jnp.array([-2.0, -1.0, 0.0])
    return vae, params, 2 + jax.random.normal(jax.random.key(1), (200, 3, 4))
