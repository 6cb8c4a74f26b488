"""All distributions have in common: parity with SciPy and NumPyro, mass one, draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from support.families import (
    FAMILIES,
    LOCATION,
    LOCATIONS,
    LOG_VARIANCE,
    LOGITS,
    MEAN,
    NU,
    PAIRS,
    WEIGHTS,
    ZEROS,
    A,
    draws,
    in_numpyro,
    log_probs,
)

import vaejax
from experiments.harness.model_options import LIKELIHOODS
from vaejax import Bernoulli, Categorical, Normal, distributions as vd

DISCRETE = [name for name, family in FAMILIES.items() if family.grid is not None]


def one_dimension(distribution, index):
    """The distribution of one of the three dimensions: `[1]`."""
    return jax.tree.map(lambda leaf: leaf[index : index + 1], distribution)


def _outputs(head, value):
    return jnp.full(
        (2,) if head.num_parameters == 1 else (2, head.num_parameters),
        value,
        jnp.float32,
    )


def test_every_head_makes_a_tested_family():
    made = {
        type(head.apply(head.init(jax.random.key(0)), _outputs(head, 0.0)))
        for head in LIKELIHOODS.values()
    }
    tested = {type(family.ours) for family in FAMILIES.values()}
    # These are made by `mixed_head`, and the last by its own head.
    others = {vd.LogNormal, vd.Ordinal, vd.RoundedNormal}
    assert made == tested - others - {vd.ZeroInflatedNegativeBinomial}


@pytest.mark.sampled(every=4)
def test_log_prob_matches_scipy(family, drawn):
    x = drawn[:20]
    np.testing.assert_allclose(
        log_probs(family.ours, x), family.log_prob(x).sum(-1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", PAIRS)
def test_log_prob_matches_numpyro(name):
    (ours, _), convert = PAIRS[name]
    event = draws(ours, 1)[0]
    theirs = in_numpyro(lambda: convert(ours).log_prob(event).sum())
    np.testing.assert_allclose(ours.log_prob(event), theirs, rtol=1e-5)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one(name):
    family = FAMILIES[name]
    for index in range(3):
        one = one_dimension(family.ours, index)
        found = log_probs(one, np.float32(family.grid)[:, None])
        np.testing.assert_allclose(np.exp(np.float64(found)).sum(), 1, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(DISCRETE)))
def test_density_integrates_to_one(name):
    # Over all reals by x = location + tan(angle), so that heavy tails are within the
    # grid.
    family = FAMILIES[name]
    for index in range(3):
        one = one_dimension(family.ours, index)
        if name == "continuous_bernoulli":
            x, weight = (steps := np.linspace(0, 1, 20_001)), 1
        else:
            steps = np.linspace(-math.pi / 2, math.pi / 2, 20_003)[1:-1]
            x, weight = family.mean[index] + np.tan(steps), 1 / np.square(np.cos(steps))
        density = np.exp(np.float64(log_probs(one, np.float32(x)[:, None])))
        np.testing.assert_allclose(np.trapezoid(density * weight, steps), 1, atol=1e-4)


def test_moments_of_draws_within_five_standard_errors(family, drawn):
    num, x = len(drawn), np.float64(drawn)
    assert np.all(
        np.abs(x.mean(axis=0) - family.mean) < 5 * np.sqrt(family.variance / num)
    )
    squares = np.square(x - family.mean)
    assert np.all(
        np.abs(squares.mean(axis=0) - family.variance)
        < 5 * squares.std(axis=0) / math.sqrt(num)
    )


def test_sample_moments_within_five_standard_errors():
    num = 100_000
    variance, p, classes = (
        np.exp(LOG_VARIANCE),
        scipy.special.expit(LOGITS),
        scipy.special.softmax(LOGITS, axis=-1),
    )
    normal = draws(Normal(MEAN, LOG_VARIANCE), num)
    for values, mean, spread in [
        (normal, MEAN, variance),
        (np.square(normal - MEAN), variance, 2 * variance**2),
        (draws(Bernoulli(LOGITS), num), p, p * (1 - p)),
        (np.eye(3)[draws(Categorical(LOGITS), num)], classes, classes * (1 - classes)),
    ]:
        assert np.all(
            np.abs(np.mean(values, axis=0) - mean) < 5 * np.sqrt(spread / num)
        )


@pytest.mark.sampled(every=4)
def test_mean_and_mode(family, drawn):
    np.testing.assert_allclose(family.ours.mean, family.mean, rtol=1e-4)
    mode = np.asarray(family.ours.mode)
    # Where two values are equally likely either may be the mode.
    assert np.all(family.log_prob(drawn[:200]) <= family.log_prob(mode) + 1e-6)


@pytest.mark.sampled(every=4)
def test_sample_and_log_prob_is_both(family):
    event, log_prob = family.ours.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, family.ours.sample(jax.random.key(0)))
    np.testing.assert_allclose(log_prob, family.ours.log_prob(event), rtol=1e-5)
    assert event.dtype == jnp.float32 and log_prob.shape == ()


def test_sample_and_log_prob_is_both_and_draws_differ(pair):
    event, log_prob = pair[0].sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, pair[0].sample(jax.random.key(0)))
    np.testing.assert_allclose(log_prob, pair[0].log_prob(event), rtol=1e-5)
    assert log_prob.shape == ()
    assert len(np.unique(draws(pair[0], 10), axis=0)) > 1


def test_draws_lie_in_the_support(family, drawn):
    assert np.all(family.ours.support.contains(drawn[:1000]))
    assert not family.ours.support.contains(np.float32(np.nan))


def test_log_prob_of_a_batch_is_refused(family):
    with pytest.raises(ValueError, match=r"shape \(5, 3\).*\(3,\).*jax.vmap"):
        family.ours.log_prob(jnp.zeros((5, 3)))


@pytest.mark.parametrize(
    "d",
    [Normal(ZEROS, ZEROS), Bernoulli(ZEROS), Categorical(np.zeros((2, 3), np.float32))],
)
def test_log_prob_of_a_batch_is_refused_and_mapped(d):
    batch = jnp.zeros((5, 2), jnp.int32 if isinstance(d, Categorical) else jnp.float32)
    with pytest.raises(ValueError, match=r"shape \(5, 2\).*\(2,\).*jax.vmap"):
        d.log_prob(batch)
    assert jax.vmap(d.log_prob)(batch).shape == (5,)


@pytest.mark.sampled(every=6)
@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("output", [1e3, -1e3])
def test_gradients_through_the_head_are_finite_at_extreme_outputs(name, output):
    head = LIKELIHOODS[name]
    params, outputs = head.init(jax.random.key(0)), _outputs(head, output)
    with jax.debug_nans(True):
        log_prob = jax.jit(
            jax.value_and_grad(lambda o, x: head.apply(params, o).log_prob(x))
        )
        for x in ([0.0, 1.0], [1.0, 0.0]):
            value, gradient = log_prob(outputs, np.float32(x))
            assert np.isfinite(value) and np.all(np.isfinite(gradient))


TINY = math.log(1e-6)  # a variance of 1e-12
SHARP = {
    "normal": vaejax.Normal(A, np.full(3, 2 * TINY, np.float32)),
    "laplace": vaejax.distributions.Laplace(A, np.full(3, TINY, np.float32)),
    "student_t": vaejax.distributions.StudentT(
        A, np.full(3, TINY, np.float32), np.log(NU)
    ),
    "discretized_logistic": vaejax.distributions.DiscretizedLogistic(
        LOCATION, np.full(3, TINY, np.float32)
    ),
    "discretized_logistic_mixture": vaejax.distributions.DiscretizedLogisticMixture(
        WEIGHTS, LOCATIONS, np.full((3, 2), TINY, np.float32)
    ),
    "discretized_normal": vaejax.distributions.DiscretizedNormal(
        LOCATION, np.full(3, 2 * TINY, np.float32)
    ),
    "rounded_normal": vd.RoundedNormal(A, np.full(3, 2 * TINY, np.float32)),
}


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("name", SHARP)
def test_gradients_are_finite_at_a_variance_of_1e_minus_12(name):
    log_prob = jax.jit(jax.value_and_grad(lambda d, event: d.log_prob(event)))
    with jax.debug_nans(True):
        for event in (
            np.float32([0, 1, 0]),
            np.float32([51 / 255, 128 / 255, 247 / 255]),
        ):
            value, gradient = log_prob(SHARP[name], event)
            assert np.isfinite(value)
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
