"""The flow prior: its density, its parameters, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax import networks
from vaejax.priors import with_flow_prior

X = jnp.ones(5)


def make_vae(latent_size=2):
    return vaejax.gaussian_vae(
        latent_size=latent_size,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (5,)),
    )


def test_encoder_and_decoder_stay_and_the_density_is_that_of_the_change_of_variables():
    plain, layers = make_vae(), networks.coupling_layers(2, num_layers=2)
    vae = with_flow_prior(plain, layers)

    def density(key):
        params = vae.init(key, X)
        params["prior"] = jax.tree.map(lambda leaf: leaf + 0.3, params["prior"])
        z = jnp.array([0.4, -1.3])

        def inverse(z):
            for layer in reversed(layers.apply(params["prior"], None)):
                z, _ = layer.inverse(z)
            return z

        base = plain.prior(params).log_prob(inverse(z))
        jacobian = jax.jacobian(inverse)(z)
        expected = base + jnp.linalg.slogdet(jacobian)[1]
        return params, vae.prior(params).log_prob(z), expected

    params, log_prob, expected = jax.jit(density)(jax.random.key(0))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    assert set(params) == {"encoder", "decoder", "likelihood", "posterior", "prior"}
    assert vae.encode is plain.encode and vae.decode is plain.decode


def shapes_of(vae):
    return jax.eval_shape(vae.init, jax.random.key(0), X)


def test_what_cannot_be_a_prior_is_refused():
    vae = make_vae()
    with pytest.raises(TypeError, match="FlowLayers"):
        with_flow_prior(vae, (1, 2))
    with pytest.raises(ValueError, match="need a context"):
        with_flow_prior(vae, networks.planar_layers(2))
    with pytest.raises(ValueError, match="need a context"):
        with_flow_prior(vae, networks.coupling_layers(2, num_context=1))
    once = with_flow_prior(vae, networks.coupling_layers(2))
    with pytest.raises(TypeError, match="without 'prior'"):
        shapes_of(with_flow_prior(once, networks.coupling_layers(2)))
    # Layers of planar form without a context, as a user may write them.
    planar = networks.planar_layers(2, num_layers=1)
    fixed = networks.FlowLayers(
        planar.init, lambda params, _: planar.apply(params, jnp.ones((2, 3)))
    )
    with pytest.raises(TypeError, match="PlanarLayer has no inverse"):
        shapes_of(with_flow_prior(vae, fixed))
    with pytest.raises(ValueError, match="size of z"):
        shapes_of(with_flow_prior(vae, networks.coupling_layers(3)))
