"""Networks that draw, as dropout does, within a family of VAEs over a key."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax.models import with_network_noise
from vaejax.networks import with_noise


class NoisyEncoder(nn.Module):
    deterministic: bool

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=self.deterministic)(nn.Dense(400)(x))


def noisy_family(key):
    encoder = with_noise(NoisyEncoder(deterministic=key is None), key)
    return vaejax.gaussian_vae(
        latent_size=2, encoder=encoder, decoder=vaejax.MLP((), (3,))
    )


def test_each_example_has_dropout_of_its_own_and_evaluation_none():
    x = jnp.ones(3)
    params = noisy_family(None).init(jax.random.key(0), x)
    jax.tree.map(
        np.testing.assert_array_equal,
        params["decoder"],
        noisy_family(jax.random.key(5)).init(jax.random.key(0), x)["decoder"],
    )

    def mean(vae, params, key, x):
        posterior = vae.encode(params, x)
        return posterior.mean, vae.encode(params, x).mean

    means, again = jax.vmap(
        partial(with_network_noise(mean, noisy_family), params), in_axes=(0, None)
    )(jax.random.split(jax.random.key(1), 2000), x)
    np.testing.assert_array_equal(means, again)
    spread = means.std(axis=0)
    assert np.all(spread > 0)
    # Dropout keeps the mean of the linear layers that follow.
    expected = noisy_family(None).encode(params, x).mean
    assert np.all(np.abs(means.mean(axis=0) - expected) < 5 * spread / np.sqrt(2000))


@pytest.mark.slow
def test_a_model_with_dropout_trains_in_one_program():
    x = jnp.ones((8, 3))
    params = noisy_family(None).init(jax.random.key(0), x[0])
    loss_fn = vaejax.mean_over_batch(
        with_network_noise(vaejax.negative_elbo, noisy_family)
    )
    gradient = jax.jit(jax.grad(loss_fn, has_aux=True))(
        params, jax.random.key(1), x, beta=0.5
    )[0]
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_noise_without_a_key_is_refused():
    with pytest.raises(TypeError, match=r"NoisyEncoder asks .*networks.with_noise"):
        network = with_noise(NoisyEncoder(deterministic=False), None)
        network.apply(network.init(jax.random.key(0), jnp.ones(3)), jnp.ones(3))
    with pytest.raises(TypeError, match="with_noise: module is of type tuple"):
        with_noise((lambda key, x: (), lambda params, x: x), jax.random.key(0))
    with pytest.raises(TypeError, match="give a function"):
        with_network_noise(vaejax.negative_elbo, None)
