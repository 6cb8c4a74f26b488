"""The VAE of sentences: what it refuses, and that any sentence has a finite bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sentences import DECODERS, LENGTH, make_vae

import vaejax
from vaejax.distributions import END_TOKEN


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param]


@pytest.mark.slow
def test_an_empty_sentence_and_one_without_end_are_finite(decoder):
    vae = make_vae(decoder)
    params = vae.init(jax.random.key(0), jnp.zeros(LENGTH, jnp.int32))
    with jax.debug_nans(True):
        for x in (jnp.full(LENGTH, END_TOKEN), jnp.ones(LENGTH, jnp.int32)):
            loss = jax.jit(
                jax.value_and_grad(
                    lambda p, x=x: vaejax.negative_elbo(vae, p, jax.random.key(1), x)[0]
                )
            )
            value, gradient = loss(params)
            assert np.isfinite(value) and all(
                np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)
            )


@pytest.mark.sampled
def test_errors_name_the_lengths(decoder):
    vae = make_vae(decoder)
    with pytest.raises(ValueError, match=r"shape \(6,\) and length is 4"):
        vae.init(jax.random.key(0), jnp.zeros(6, jnp.int32))
    wrong = make_vae(
        (lambda key, z, inputs: (), lambda params, z, inputs: jnp.zeros(4))
    )
    with pytest.raises(
        ValueError, match=r"outputs \(4,\); give logits \(4, vocabulary\)"
    ):
        wrong.init(jax.random.key(0), jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match="length is 0"):
        make_vae(decoder, length=0)
    with pytest.raises(TypeError, match="autoregressive"):
        tokens = jnp.zeros(4, jnp.int32)
        narrow = vaejax.models.with_compute_dtype(vae, jnp.bfloat16)
        narrow.decode(vae.init(jax.random.key(0), tokens), jnp.zeros(2))
