"""Bernoulli and Categorical: parity, mass one, and extreme logits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from support.families import LOGITS, ZEROS, draws

from vaejax import Bernoulli, Categorical, kl_divergence


def test_log_prob_matches_scipy():
    binary = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    bernoulli = scipy.stats.bernoulli(scipy.special.expit(LOGITS)).logpmf(binary).sum()
    np.testing.assert_allclose(Bernoulli(LOGITS).log_prob(binary), bernoulli, rtol=1e-5)
    categorical = scipy.special.log_softmax(LOGITS, axis=-1)[[0, 1], [2, 0]].sum()
    np.testing.assert_allclose(
        Categorical(LOGITS).log_prob(jnp.array([2, 0])), categorical, rtol=1e-5
    )


def test_probabilities_of_discrete_events_sum_to_one():
    binary = np.indices((2,) * 6).reshape(6, -1).T.reshape(-1, 2, 3).astype(np.float32)
    np.testing.assert_allclose(
        np.exp(jax.vmap(Bernoulli(LOGITS).log_prob)(binary)).sum(), 1, rtol=1e-5
    )
    classes = jnp.asarray(np.indices((3, 3)).reshape(2, -1).T)
    np.testing.assert_allclose(
        np.exp(jax.vmap(Categorical(LOGITS).log_prob)(classes)).sum(), 1, rtol=1e-5
    )


def test_mean_and_mode():
    np.testing.assert_allclose(
        Bernoulli(LOGITS).mean, scipy.special.expit(LOGITS), rtol=1e-6
    )
    np.testing.assert_array_equal(Bernoulli(LOGITS).mode, [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(Categorical(LOGITS).mode, [2, 2])
    assert not hasattr(Categorical(LOGITS), "mean")


@pytest.mark.parametrize("logit", [1e3, -1e3])
def test_bernoulli_at_extreme_logits(debug_nans, logit):
    log_prob = jax.jit(
        jax.value_and_grad(lambda logits, event: Bernoulli(logits).log_prob(event))
    )
    logits = np.full(2, logit, np.float32)
    right, wrong = (logits > 0).astype(np.float32), (logits < 0).astype(np.float32)
    for event, value, gradient in [(right, 0, 0), (wrong, -2000, -np.sign(logit))]:
        assert log_prob(logits, event)[0] == value
        np.testing.assert_array_equal(log_prob(logits, event)[1], gradient)
    np.testing.assert_array_equal(draws(Bernoulli(logits), 3), [right] * 3)
    kl = jax.jit(
        jax.value_and_grad(
            lambda logits: kl_divergence(Bernoulli(logits), Bernoulli(-logits))
        )
    )
    assert kl(logits)[0] == 2000
    np.testing.assert_array_equal(kl(logits)[1], np.sign(logit))


def test_bernoulli_gradient_at_logit_zero():
    gradient = jax.grad(lambda logits: Bernoulli(logits).log_prob(np.float32([0, 1])))(
        ZEROS
    )
    np.testing.assert_array_equal(gradient, [-0.5, 0.5])


def _score(logit, x):
    return Bernoulli(logit).log_prob(x)


@pytest.mark.parametrize("x", np.float32([0, 0.3, 1]))
def test_bernoulli_second_and_third_derivatives(x):
    for logit in np.float32([0, 1e-3, -2, 5, -40, 1e3]):
        s = scipy.special.expit(np.float64(logit))
        second = -s * scipy.special.expit(-np.float64(logit))
        found = jax.grad(jax.grad(_score))(logit, x)
        np.testing.assert_allclose(found, second, rtol=1e-5, atol=1e-30)
        found = jax.grad(jax.grad(jax.grad(_score)))(logit, x)
        np.testing.assert_allclose(found, second * (1 - 2 * s), rtol=1e-5, atol=1e-7)


def test_bernoulli_at_infinite_logits():
    for logit in (np.inf, -np.inf):
        right, wrong = np.float32(logit > 0), np.float32(logit < 0)
        scores = jax.value_and_grad(_score)
        assert scores(np.float32(logit), right) == (0, 0)
        assert scores(np.float32(logit), wrong) == (-np.inf, 1 - 2 * right)


def test_bernoulli_outside_of_the_unit_interval():
    for x in np.float32([-1e-10, -1, 1 + 2e-7, 255, np.inf, -np.inf]):
        assert _score(np.float32(0.7), x) == -np.inf
    value, gradient = jax.value_and_grad(_score)(np.float32(0.7), np.float32(255))
    assert value == -np.inf and np.isfinite(gradient)
    assert np.isnan(_score(np.float32(0.7), np.float32(np.nan)))
    gray = scipy.special.log_expit([0.7, -0.7]) @ [0.3, 0.7]
    np.testing.assert_allclose(
        _score(np.float32(0.7), np.float32(0.3)), gray, rtol=1e-6
    )


def test_bernoulli_refuses_gray_levels():
    gray = jnp.array([0, 200], jnp.uint8)
    with pytest.raises(ValueError, match="uint8 up to 200.*binarize.*astype"):
        Bernoulli(ZEROS).log_prob(gray)
    with pytest.raises(TypeError, match="uint8; gray levels.*binarize.*astype"):
        jax.jit(Bernoulli(ZEROS).log_prob)(gray // 200)
    binary = Bernoulli(ZEROS).log_prob(gray // 200)
    np.testing.assert_allclose(binary, 2 * math.log(0.5), rtol=1e-6)


def test_categorical_at_extreme_logits(debug_nans):
    logits = np.float32([1e3, -1e3, 0])
    log_prob = jax.jit(
        jax.value_and_grad(lambda logits, event: Categorical(logits).log_prob(event))
    )
    assert [log_prob(logits, jnp.int32(i))[0] for i in range(3)] == [0, -2000, -1000]
    np.testing.assert_array_equal(log_prob(logits, jnp.int32(1))[1], [-1, 1, 0])
    kl = jax.jit(
        jax.value_and_grad(
            lambda logits: kl_divergence(Categorical(logits), Categorical(-logits))
        )
    )
    assert kl(logits)[0] == 2000
    assert np.all(np.isfinite(kl(logits)[1]))
