"""The autoregressive distribution over sentences: mass one, draws, ends, dropout."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sentences import DECODERS, LENGTH, VOCABULARY, make_vae, perturbed

import vaejax
from vaejax.distributions import END_TOKEN, token_mask


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param]


@pytest.fixture
def likelihood(decoder):
    vae = make_vae(decoder)
    params = perturbed(vae.init(jax.random.key(0), jnp.zeros(LENGTH, jnp.int32)))
    return vae.decode(params, jnp.array([0.5, -1.0]))


def all_sentences():
    """Every sentence once: those that end early are END from there on."""
    rows = itertools.product(range(VOCABULARY), repeat=LENGTH)
    return jnp.array(
        [
            row
            for row in rows
            if END_TOKEN not in row or not any(row[row.index(END_TOKEN) :])
        ],
        jnp.int32,
    )


@pytest.mark.slow
def test_probabilities_of_all_sentences_sum_to_one(likelihood):
    sentences = all_sentences()
    assert len(sentences) == sum(2**n for n in range(LENGTH)) + 2**LENGTH
    np.testing.assert_allclose(
        jnp.sum(jnp.exp(jax.vmap(likelihood.log_prob)(sentences))), 1, rtol=1e-5
    )


@pytest.mark.slow
def test_sampling_follows_the_probabilities_within_five_standard_errors(likelihood):
    num = 5000
    drawn = jax.jit(jax.vmap(likelihood.sample))(
        jax.random.split(jax.random.key(1), num)
    )
    sentences = all_sentences()
    expected = np.exp(jax.vmap(likelihood.log_prob)(sentences))
    drawn = np.asarray(drawn)
    counts = np.array(
        [
            np.sum(np.all(drawn == sentence, axis=1))
            for sentence in np.asarray(sentences)
        ]
    )
    assert counts.sum() == num
    assert np.all(
        np.abs(counts / num - expected)
        < 5 * np.sqrt(expected * (1 - expected) / num) + 1e-9
    )


@pytest.mark.slow
def test_the_mode_takes_the_likeliest_token_at_each_step(likelihood):
    mode = np.asarray(likelihood.mode)
    for t in range(int(jnp.sum(token_mask(jnp.asarray(mode))))):
        logits = likelihood.logits_fn(
            jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.asarray(mode)[:-1]])
        )
        assert mode[t] == jnp.argmax(logits[t])


@pytest.mark.slow
def test_what_follows_the_end_counts_for_nothing(decoder):
    vae = make_vae(decoder)
    params = perturbed(vae.init(jax.random.key(0), jnp.zeros(LENGTH, jnp.int32)))
    short, padded = (
        jnp.array([1, END_TOKEN, END_TOKEN, END_TOKEN]),
        jnp.array([1, END_TOKEN, 2, 1]),
    )
    likelihood = vae.decode(params, jnp.ones(2))
    np.testing.assert_allclose(
        likelihood.log_prob(padded), likelihood.log_prob(short), rtol=1e-6
    )
    np.testing.assert_array_equal(
        vae.encode(params, padded).mean, vae.encode(params, short).mean
    )


def test_token_mask_ends_with_the_first_end():
    tokens = jnp.array(
        [
            [1, 2, END_TOKEN, END_TOKEN],
            [END_TOKEN, END_TOKEN, END_TOKEN, END_TOKEN],
            [1, 1, 1, 1],
            [1, END_TOKEN, 2, END_TOKEN],
        ]
    )
    expected = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    np.testing.assert_array_equal(
        jax.vmap(token_mask)(tokens), np.array(expected, bool)
    )


@pytest.mark.slow
def test_word_dropout_hides_tokens_from_the_decoder_alone(decoder):
    vae = make_vae(decoder, length=4)
    tokens = jnp.array([1, 2, 1, END_TOKEN])
    params = perturbed(vae.init(jax.random.key(0), tokens))
    everything = vaejax.distributions.make_word_dropout(1.0, VOCABULARY)(
        jax.random.key(0), tokens
    )
    np.testing.assert_array_equal(everything.inputs, [VOCABULARY] * 4)
    np.testing.assert_array_equal(everything.tokens, tokens)
    np.testing.assert_array_equal(
        vaejax.distributions.make_word_dropout(0.0, VOCABULARY)(
            jax.random.key(0), tokens
        ).inputs,
        tokens,
    )
    np.testing.assert_array_equal(
        vae.encode(params, everything).mean, vae.encode(params, tokens).mean
    )
    likelihood = vae.decode(params, jnp.ones(2))
    assert abs(likelihood.log_prob(everything) - likelihood.log_prob(tokens)) > 1e-3
    many = jax.vmap(
        lambda key: vaejax.distributions.make_word_dropout(0.3, VOCABULARY)(key, tokens)
    )(jax.random.split(jax.random.key(1), 4000))
    rate = np.mean(np.asarray(many.inputs) == VOCABULARY)
    assert abs(rate - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 16_000)
    with pytest.raises(ValueError, match="rate is 1.5"):
        vaejax.distributions.make_word_dropout(1.5, VOCABULARY)


def test_tokens_of_another_length_or_dtype_are_refused(decoder):
    vae, tokens = make_vae(decoder), jnp.zeros(4, jnp.int32)
    likelihood = vae.decode(vae.init(jax.random.key(0), tokens), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(6,\).*\(4,\)"):
        likelihood.log_prob(jnp.zeros(6, jnp.int32))
    with pytest.raises(TypeError, match="tokens are float32"):
        likelihood.log_prob(jnp.zeros(4))
    with pytest.raises(TypeError, match="uint8, which cannot hold 256"):
        vaejax.distributions.make_word_dropout(0.5, 256)(
            jax.random.key(0), tokens.astype(jnp.uint8)
        )
