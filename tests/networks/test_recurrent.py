"""Networks of sentences: causal, and the recurrence that they state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sentences import DECODERS, perturbed

import vaejax


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param]


@pytest.mark.sampled
def test_no_token_is_seen_before_its_time(decoder):
    length = 12
    network = vaejax.networks.as_network(decoder)
    z, inputs = jnp.ones(2), jnp.ones(length, jnp.int32)
    params = perturbed(network.init(jax.random.key(0), z, inputs))
    logits = network.apply(params, z, inputs)
    for t in range(length):
        changed = network.apply(params, z, inputs.at[t].set(2))
        np.testing.assert_array_equal(changed[:t], logits[:t])
        assert not np.array_equal(changed[t], logits[t])


def test_gru_is_the_recurrence_that_it_says():
    gru, inputs, start = (
        vaejax.networks.GRU(3),
        np.float32([[0.5, -1.0], [2.0, 0.3]]),
        np.float32([0.1, -0.2, 0.3]),
    )
    variables = gru.init(jax.random.key(0), start, inputs)
    params = variables["params"]
    states, h = np.asarray(gru.apply(variables, start, inputs)), start
    for x, state in zip(inputs, states, strict=True):
        a = x @ np.asarray(params["Dense_0"]["kernel"]) + np.asarray(
            params["Dense_0"]["bias"]
        )
        b = h @ np.asarray(params["recurrent"])
        reset, update = (
            1 / (1 + np.exp(-(a + b)[part])) for part in (slice(0, 3), slice(3, 6))
        )
        h = (1 - update) * np.tanh(a[6:] + reset * b[6:]) + update * h
        np.testing.assert_allclose(state, h, rtol=1e-5)


def test_sentences_are_modeled_in_double_precision(decoder):
    vae = vaejax.sequence_vae(
        latent_size=2,
        length=6,
        encoder=vaejax.networks.RecurrentEncoder(5, 3, 4),
        decoder=decoder,
    )

    def loss(params, key, x):
        return vaejax.negative_elbo(vae, params, key, x)[0]

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        key, x = jax.random.key(0), jnp.array([2, 1, 3, 4, 1, 0])
        params = jax.eval_shape(vae.init, key, x)
        assert jax.eval_shape(loss, params, key, x).dtype == jnp.float64
        gradient = jax.eval_shape(jax.grad(loss), params, key, x)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_a_batch_of_sentences_is_refused(decoder):
    z, inputs = jnp.ones(2), jnp.ones((7, 6), jnp.int32)
    with pytest.raises(ValueError, match=r"tokens have shape \(7, 6\); .*jax.vmap"):
        decoder.init(jax.random.key(0), z, inputs)
