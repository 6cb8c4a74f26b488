"""The Gaussian VAE: the parts of its parameters, and arguments that it refuses."""

import jax
import jax.numpy as jnp
import pytest

import vaejax
from vaejax.distributions import (
    fixed_variance_normal_head,
    shared_variance_normal_head,
)

X = jnp.zeros((4, 3))


def make_vae(**options):
    options = {"decoder": vaejax.MLP((5,), (4, 3))} | options
    return vaejax.gaussian_vae(latent_size=2, encoder=vaejax.MLP((5,)), **options)


def shapes_of(vae):
    return jax.eval_shape(vae.init, jax.random.key(0), X)


def test_parameters_are_those_of_the_parts():
    params = shapes_of(make_vae(likelihood=shared_variance_normal_head()))
    assert set(params) == {"encoder", "decoder", "likelihood", "posterior"}
    assert params["likelihood"].shape == () and params["posterior"] == ()
    # The features, then one layer that makes a mean and a log-variance of them.
    features, outputs = params["encoder"]
    assert features["Dense_0"]["kernel"].shape == (12, 5)
    assert outputs["Dense_0"]["kernel"].shape == (5, 2 * 2)


@pytest.mark.parametrize("posterior", [fixed_variance_normal_head(variance=0.1), None])
def test_the_posterior_is_of_the_head_that_is_asked_for(posterior):
    vae = make_vae(posterior=posterior)
    encoded = jax.eval_shape(vae.encode, shapes_of(vae), X)
    assert isinstance(encoded, vaejax.Normal) and encoded.mean.shape == (2,)
    assert encoded.log_variance.shape == (() if posterior else (2,))


def test_a_decoder_that_does_not_fit_x_is_refused():
    with pytest.raises(ValueError, match=r"outputs \(4, 2\) .*\(4, 3\)"):
        shapes_of(make_vae(decoder=vaejax.MLP((5,), (4, 2))))
    with pytest.raises(ValueError, match=r"2 parameter.* output \(4, 3, 2\)"):
        shapes_of(make_vae(likelihood=vaejax.Normal))
    with pytest.raises(ValueError, match=r"\(6, 4, 3\), which has a batch.*x\[0\]"):
        jax.eval_shape(make_vae().init, jax.random.key(0), jnp.zeros((6, 4, 3)))


def test_arguments_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="latent_size is 0"):
        vaejax.gaussian_vae(
            latent_size=0, encoder=vaejax.MLP((5,)), decoder=vaejax.MLP((5,), (4, 3))
        )
    with pytest.raises(TypeError, match="network is the class MLP"):
        make_vae(decoder=vaejax.MLP)
    with pytest.raises(TypeError, match=r"give a vaejax\.Head"):
        make_vae(likelihood=vaejax.Categorical)
