"""One-hot choices and their relaxations: densities, draws, edges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from support.families import LOGITS

from vaejax import Categorical
from vaejax.distributions import (
    ExpRelaxedCategorical,
    OneHotCategorical,
    RelaxedCategorical,
)

NUM = 100_000
PROBABILITIES = scipy.special.softmax(LOGITS, axis=-1)


def draws(distribution, num=NUM):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.jit(jax.vmap(distribution.sample))(keys))


def concrete_log_prob(y, logits, temperature):
    """The density as it is written in the paper, in float64."""
    y, weights, num = np.float64(y), np.exp(np.float64(logits)), logits.shape[-1]
    ratio = weights * y ** (-temperature - 1)
    total = (weights * y**-temperature).sum(axis=-1, keepdims=True)
    constant = math.lgamma(num) + (num - 1) * math.log(temperature)
    return (np.log(ratio / total).sum(axis=-1) + constant).sum()


def test_one_hot_is_the_categorical():
    one_hot, classes = OneHotCategorical(LOGITS), Categorical(LOGITS)
    for event in (np.array([0, 2]), np.array([1, 1])):
        vectors = np.eye(3, dtype=np.float32)[event]
        np.testing.assert_allclose(
            one_hot.log_prob(vectors), classes.log_prob(event), rtol=1e-6
        )
    np.testing.assert_allclose(one_hot.mean, PROBABILITIES, rtol=1e-5)
    np.testing.assert_array_equal(one_hot.mode.argmax(axis=-1), classes.mode)
    events = draws(one_hot)
    assert set(np.unique(events)) == {0, 1} and np.all(events.sum(axis=-1) == 1)
    errors = np.sqrt(PROBABILITIES * (1 - PROBABILITIES) / NUM)
    assert np.all(np.abs(events.mean(axis=0) - PROBABILITIES) < 5 * errors)


def test_events_that_are_not_one_hot_are_impossible_and_ruled_out_classes_count_0():
    half = jnp.full((1, 2), 0.5)
    assert OneHotCategorical(jnp.zeros((1, 2))).log_prob(half) == -jnp.inf
    certain = OneHotCategorical(jnp.array([[0.0, -jnp.inf]]))
    assert certain.log_prob(jnp.array([[1.0, 0.0]])) == 0
    assert certain.log_prob(jnp.array([[0.0, 1.0]])) == -jnp.inf


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_density_is_that_of_the_paper(temperature):
    relaxed = RelaxedCategorical(LOGITS, temperature)
    logs = ExpRelaxedCategorical(LOGITS, temperature)
    for y in (PROBABILITIES, PROBABILITIES[::-1]):
        y = np.float32(y)
        expected = concrete_log_prob(y, LOGITS, temperature)
        np.testing.assert_allclose(relaxed.log_prob(y), expected, rtol=1e-4)
        # The two differ by the logarithm of the Jacobian, sum log y.
        found = logs.log_prob(np.log(y))
        np.testing.assert_allclose(found - np.log(y).sum(), expected, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.6, 1.5])
def test_density_integrates_to_one(temperature):
    # Two classes: y = (s, 1 - s) with s = sigmoid(a), ds = s (1 - s) da.
    a = np.linspace(-80, 80, 40_001)
    s = scipy.special.expit(a)
    relaxed = RelaxedCategorical(jnp.array([[0.4, -0.7]]), temperature)
    events = jnp.asarray(np.stack([s, 1 - s], axis=-1)[:, None], jnp.float32)
    density = np.exp(np.float64(jax.vmap(relaxed.log_prob)(events)))
    np.testing.assert_allclose(np.trapezoid(density * s * (1 - s), a), 1, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_draws_lie_on_the_simplex_and_round_to_the_categorical(temperature):
    events = draws(RelaxedCategorical(LOGITS, temperature))
    assert np.all(events > 0)
    np.testing.assert_allclose(events.sum(axis=-1), 1, atol=1e-5)
    chosen = np.eye(3)[events.argmax(axis=-1)].mean(axis=0)
    errors = np.sqrt(PROBABILITIES * (1 - PROBABILITIES) / NUM)
    assert np.all(np.abs(chosen - PROBABILITIES) < 5 * errors)


def test_mean_log_density_ratio_is_the_one_of_the_logarithms():
    """KL(q || p) of two relaxations is the same in both forms: within five standard
    errors over the draws, and exactly at each of them.
    """
    q, p = LOGITS, -0.5 * LOGITS
    keys = jax.random.split(jax.random.key(2), 1_000)

    def ratios(make):
        def one(key):
            event, log_q = make(q, 0.8).sample_and_log_prob(key)
            return log_q - make(p, 0.8).log_prob(event)

        return np.asarray(jax.jit(jax.vmap(one))(keys))

    with jax.debug_key_reuse(False):
        plain, logs = ratios(RelaxedCategorical), ratios(ExpRelaxedCategorical)
    np.testing.assert_allclose(plain, logs, atol=2e-4)
    assert logs.mean() > 5 * logs.std() / math.sqrt(len(logs)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("make", [RelaxedCategorical, ExpRelaxedCategorical])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
def test_densities_of_draws_are_finite_with_finite_gradients(make, temperature):
    @jax.jit
    @jax.vmap
    def both(key):
        def ratio(logits):
            event, log_q = make(logits, temperature).sample_and_log_prob(key)
            return log_q - make(-logits, temperature).log_prob(event)

        return jax.value_and_grad(ratio)(30 * jnp.asarray(LOGITS))

    with jax.debug_nans(True):
        values, gradients = both(jax.random.split(jax.random.key(3), 2_000))
    assert np.all(np.isfinite(values)) and np.all(np.isfinite(gradients))


def test_straight_through_draws_are_one_hot_with_the_gradient_of_the_relaxation():
    weights = jnp.arange(6.0).reshape(2, 3)

    def at(straight_through):
        def dot(logits):
            relaxed = RelaxedCategorical(logits, 0.7, straight_through)
            return jnp.sum(weights * relaxed.sample(jax.random.key(4)))

        return jax.value_and_grad(dot)(jnp.asarray(LOGITS))

    (value, gradient), (_, of_relaxed) = at(True), at(False)
    assert float(value) in {float(a + b) for a in (0, 1, 2) for b in (3, 4, 5)}
    np.testing.assert_allclose(gradient, of_relaxed, rtol=1e-5)
    event, log_prob = RelaxedCategorical(LOGITS, 0.7, True).sample_and_log_prob(
        jax.random.key(4)
    )
    np.testing.assert_array_equal(np.sort(event, axis=-1), [[0, 0, 1]] * 2)
    expected = Categorical(LOGITS).log_prob(event.argmax(axis=-1))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        OneHotCategorical,
        lambda logits: RelaxedCategorical(logits, 0.5),
        lambda logits: ExpRelaxedCategorical(logits, 0.5),
    ],
)
def test_events_are_one_of_the_shape_and_half_precision_has_single_densities(make):
    distribution = make(jnp.zeros((2, 3), jnp.bfloat16))
    event, log_prob = distribution.sample_and_log_prob(jax.random.key(0))
    assert event.dtype == jnp.bfloat16 and event.shape == (2, 3)
    assert log_prob.dtype == jnp.float32 and np.isfinite(log_prob)
    assert np.isfinite(distribution.log_prob(event))
    with pytest.raises(ValueError, match=r"over \(2, 3\)"):
        distribution.log_prob(jnp.zeros((5, 2, 3)))
