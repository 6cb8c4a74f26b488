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
