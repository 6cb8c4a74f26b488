"""Quantizers, their codes, and the distributions over them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax.distributions import (
    Autoregressive,
    Codebook,
    CodeVectors,
    FiniteScalars,
    Quantized,
    code_perplexity,
)

LEVELS = [(5, 4), (2, 3, 8), (7,), (8, 5, 5, 5)]
VECTORS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
COUNTS = np.float32([1, 2, 0.5, 3, 1e-4, 7])
CODEBOOK = Codebook(COUNTS, COUNTS[:, None] * VECTORS)


@pytest.mark.parametrize("levels", LEVELS)
def test_finite_scalars_number_all_their_vectors(levels):
    quantizer = FiniteScalars(levels)
    indices = jnp.arange(quantizer.num_codes, dtype=jnp.int32)
    vectors = quantizer.vectors_of(indices)
    np.testing.assert_array_equal(quantizer.indices(vectors), indices)
    assert len(np.unique(vectors, axis=0)) == quantizer.num_codes
    for column, num in zip(np.asarray(vectors).T, levels, strict=True):
        values = np.unique(column)
        assert len(values) == num
        np.testing.assert_allclose(values * (num // 2), np.arange(num) - num // 2)


@pytest.mark.sampled
@pytest.mark.parametrize("levels", LEVELS)
def test_finite_scalars_round_to_vectors_and_reach_every_level(levels):
    quantizer = FiniteScalars(levels)
    features = 3 * jax.random.normal(jax.random.key(0), (5_000, len(levels)))
    z = quantizer.quantize(features)
    np.testing.assert_allclose(z, quantizer.vectors_of(quantizer.indices(z)), atol=1e-6)
    for column, num in zip(np.asarray(z).T, levels, strict=True):
        assert len(np.unique(np.round(column * (num // 2)))) == num
    # Zero is a level, whatever their number.
    np.testing.assert_array_equal(quantizer.quantize(0 * features[:1]), 0)


def test_the_gradient_of_a_rounding_is_that_of_the_squashing():
    quantizer = FiniteScalars((5, 4))
    features = jnp.array([[0.3, -0.8], [2.0, 0.1]])
    gradient = jax.grad(lambda h: jnp.sum(quantizer.quantize(h)))(features)
    width = np.array([4, 3]) * 1.001 / 2
    shift = np.tan(np.array([0, 0.5]) / width)
    slope = width / np.cosh(np.float64(features) + shift) ** 2 / 2
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)


def test_a_codebook_takes_the_nearest_vector_and_knows_it_again():
    features = np.random.default_rng(1).normal(size=(2, 40, 3)).astype(np.float32)
    distances = np.square(features[..., None, :] - VECTORS).sum(axis=-1)
    np.testing.assert_array_equal(
        CODEBOOK.indices(jnp.asarray(features)), distances.argmin(axis=-1)
    )
    z = CODEBOOK.quantize(jnp.asarray(features))
    np.testing.assert_allclose(z, VECTORS[distances.argmin(axis=-1)], rtol=1e-5)
    np.testing.assert_array_equal(CODEBOOK.indices(z), distances.argmin(axis=-1))


def test_statistics_are_counts_and_sums_by_code():
    features = np.random.default_rng(2).normal(size=(4, 5, 3)).astype(np.float32)
    found = CODEBOOK.statistics(jnp.asarray(features))
    indices = np.asarray(CODEBOOK.indices(jnp.asarray(features)))
    for code in range(6):
        own = features[indices == code]
        assert found["count"][code] == len(own)
        np.testing.assert_allclose(found["sum"][code], own.sum(axis=0), atol=1e-5)


def test_a_quantized_posterior_is_one_latent_of_log_probability_zero():
    posterior = Quantized(jnp.ones((4, 3)), CODEBOOK)
    z, log_prob = posterior.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(z, posterior.mean)
    assert log_prob == 0 and posterior.indices.shape == (4,)
    gradient = jax.grad(lambda h: jnp.sum(Quantized(h, CODEBOOK).mean))(
        jnp.ones((4, 3))
    )
    np.testing.assert_array_equal(gradient, 1)


def by_previous(inputs):
    """Logits of 4 codes, of which each depends on the code before."""
    table = jnp.array([[0.0, 1, -1, 2], [3, 0, 0, 1], [0, 0, 2, 0], [1, 1, 0, -2]])
    return table[inputs]


@pytest.mark.slow
def test_autoregressive_codes_have_probabilities_of_sum_one_and_no_end():
    codes = Autoregressive(jax.tree_util.Partial(by_previous), length=3, has_end=False)
    quantizer = FiniteScalars((2, 2))
    prior = CodeVectors(codes, quantizer, shape=(3, 2))
    every = jnp.array(list(itertools.product(range(4), repeat=3)), jnp.int32)
    log_probs = jax.vmap(lambda c: prior.log_prob(quantizer.vectors_of(c)))(every)
    np.testing.assert_allclose(np.exp(np.float64(log_probs)).sum(), 1, rtol=1e-5)
    # All sequences are drawn as often as they are likely; code 0 ends none.
    num = 50_000
    draws = jax.jit(jax.vmap(prior.sample))(jax.random.split(jax.random.key(0), num))
    places = np.asarray(quantizer.indices(draws)) @ [16, 4, 1]
    shares = np.bincount(places, minlength=64) / num
    expected = np.exp(np.float64(log_probs))
    assert np.all(
        np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / num) + 1e-9
    )
    assert prior.mode.shape == (3, 2)


def test_uniform_codes_have_the_length_of_the_code():
    uniform = CodeVectors(
        vaejax.Categorical(jnp.zeros((4, 6))), CODEBOOK, shape=(2, 2, 3)
    )
    z, log_prob = uniform.sample_and_log_prob(jax.random.key(0))
    assert z.shape == (2, 2, 3)
    np.testing.assert_allclose(log_prob, -4 * np.log(6), rtol=1e-6)
    assert np.isnan(uniform.log_prob(z.at[0, 0, 0].set(jnp.nan)))


def test_perplexity_is_one_of_one_code_and_all_of_all():
    assert code_perplexity(jnp.full((3, 4), 2), 8) == 1
    np.testing.assert_allclose(code_perplexity(jnp.arange(8), 8), 8, rtol=1e-6)
