"""Draws with one factor fixed, and the scores made from them."""

import math
from functools import partial

import jax
import numpy as np
import pytest
import scipy.optimize
from support.factor_tables import (
    CODES,
    FACTORS,
    TINY_FACTORS,
    UNIT,
    binomial_error,
    of_interventions,
    of_noise,
    score_of,
)

from vaejax.metrics import (
    Interventions,
    beta_vae_score,
    factor_vae_score,
    interventional_robustness,
    interventions_of_table,
)
from vaejax.metrics.interventional import _logistic_regression


def test_irs_of_a_rescaled_dimension_is_weighted_by_it():
    codes = np.stack([UNIT[:, 0], CODES["noise"][:, 0]], axis=1)
    scores = [
        interventional_robustness(codes * [scale, 1], FACTORS).score
        for scale in (1, 100)
    ]
    assert scores[0] < 0.6 and scores[1] > 0.95


def test_robustness_of_a_tiny_table():
    codes = np.array(
        [[0.0, 0.0, 5.0], [1.0, 2.0, 5.0], [10.0, 0.0, 5.0], [13.0, 2.0, 5.0]]
    )
    scores = interventional_robustness(codes, TINY_FACTORS, quantile=1.0)
    # The first reaches 7 from its mean; within a value of the factors deviations of 1/2
    # and 3/2, and of 5 and 6.
    np.testing.assert_allclose(
        scores.robustness, [[1 - 1 / 7, 1 - 5.5 / 7], [0, 1], [0, 0]]
    )
    np.testing.assert_allclose(scores.by_dimension, [6 / 7, 1, 0])
    np.testing.assert_allclose(scores.score, (7 * 6 / 7 + 1 * 1) / 8)
    assert interventional_robustness(codes * [[0, 0, 1]], TINY_FACTORS).score == 0
    median = interventional_robustness(CODES["noise"], FACTORS, quantile=0.5).score
    assert median > score_of("IRS", "noise") + 0.1


# Draws


def indexed_table():
    """Codes that name their rows, of factors whose values are of unlike frequency."""
    factors = np.array(
        [[v, w] for v, num in ((5, 2), (-1, 6)) for w in (0, 1) for _ in range(num)]
    )
    return np.arange(len(factors))[:, None] + np.zeros(2), factors


def test_draws_share_the_factor_and_reach_every_row():
    codes, factors = indexed_table()
    draws = interventions_of_table(codes, factors)
    generator = np.random.default_rng(0)
    for factor in (0, 1):
        batches = np.stack(
            [draws.draw_batch(generator, factor, 16)[:, 0] for _ in range(400)]
        ).astype(int)
        values = factors[batches, factor]
        assert np.all(values == values[:, :1]) and set(batches.ravel()) == set(
            range(16)
        )
        # A value is drawn as often as it occurs.
        share = np.mean(factors[:, factor] == factors[-1, factor])
        assert abs(
            np.mean(values[:, 0] == factors[-1, factor]) - share
        ) < 5 * binomial_error(share, 400)
        first, second = (
            pairs[:, 0].astype(int)
            for pairs in draws.draw_pairs(generator, factor, 4000)
        )
        assert np.all(factors[first, factor] == factors[second, factor])
        assert np.mean(factors[first, 1 - factor] == factors[second, 1 - factor]) < 0.8
        assert np.all(
            np.abs(np.bincount(first, minlength=16) / 4000 - 1 / 16)
            < 5 * binomial_error(1 / 16, 4000)
        )
        assert len(np.unique(factors[first, factor])) == 2


@pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])
def test_scores_are_functions_of_the_key(score):
    draws = interventions_of_table(CODES["rotated"], FACTORS)
    results = [
        score(jax.random.key(seed), draws, num_train=300, num_eval=300)
        for seed in (1, 1, 2)
    ]
    for first, second in zip(*results[:2], strict=True):
        np.testing.assert_array_equal(first, second)
    assert results[0].train_accuracy != results[2].train_accuracy


@pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])
@pytest.mark.parametrize("num_factors", [2, 4])
def test_noise_scores_one_in_the_number_of_factors(score, num_factors):
    chance = 1 / num_factors
    assert abs(
        of_interventions(score, of_noise(num_factors)) - chance
    ) < 5 * binomial_error(chance)


def test_with_pairs_enough_the_beta_vae_score_does_not_see_a_rotation():
    draws = interventions_of_table(CODES["rotated"], FACTORS)
    assert of_interventions(beta_vae_score, draws, batch_size=2048) > 0.99


def test_the_linear_classifier_is_at_its_minimum():
    # Two classes of 50 points each at -1 and 1: by symmetry W = (-w, w), b = 0, and
    # penalty w = 100 / (1 + exp(2 w)).
    labels = np.repeat([0, 1], 50)
    for penalty in (0.1, 1.0, 30.0):
        weights, bias = _logistic_regression(
            2.0 * labels[:, None] - 1, labels, 2, penalty
        )
        w = scipy.optimize.brentq(
            lambda w, penalty=penalty: penalty * w - 100 / (1 + math.exp(2 * w)), 0, 20
        )
        np.testing.assert_allclose(weights, [[-w, w]], rtol=1e-2)
        np.testing.assert_allclose(bias, 0, atol=1e-2)


def counted(num_draws):
    """Dimensions 2 and 3 are the factors; 0 hardly moves, and 1 not at all."""

    def draw_batch(generator, factor, num):
        num_draws.append(num)
        codes = generator.normal(size=(num, 4)) * [0.01, 0, 1, 1]
        codes[:, 2 + factor] *= 0.1
        return codes

    return Interventions(2, np.array([0.01, 0, 1, 1]), draw_batch, None)


def test_votes_are_as_many_as_asked_for_and_of_active_dimensions():
    num_draws = []
    found = factor_vae_score(
        jax.random.key(0), counted(num_draws), batch_size=32, num_train=70, num_eval=30
    )
    assert num_draws == [32] * 100 and found.votes.sum() == 70
    assert np.all(found.votes[:2] == 0) and list(found.active) == [
        False,
        False,
        True,
        True,
    ]
    assert found.score == found.train_accuracy == 1 and np.all(
        np.diagonal(found.votes[2:]) > 0
    )
    # The first, let in, is measured in units of its own.
    found = factor_vae_score(
        jax.random.key(0), counted([]), num_train=70, num_eval=30, min_stddev=0.005
    )
    assert found.score == 1 and np.all(found.votes[:2] == 0)


def test_without_an_active_dimension_there_are_no_votes_and_the_score_is_0():
    num_draws = []
    found = factor_vae_score(
        jax.random.key(0), counted(num_draws), num_train=70, num_eval=30, min_stddev=2.0
    )
    assert (found.score, found.train_accuracy, found.votes.sum(), num_draws) == (
        0,
        0,
        0,
        [],
    )


@pytest.mark.parametrize(
    "call",
    [
        partial(factor_vae_score, 0, of_noise(2)),
        partial(beta_vae_score, np.zeros(2, np.uint32), of_noise(2)),
    ],
)
def test_keys_are_typed(call):
    with pytest.raises(TypeError, match=r"jax.random.key\(seed\)"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: interventions_of_table(UNIT, FACTORS[:, :1]),
            "there are 1 factors; give 2 or more",
        ),
        (
            lambda: interventions_of_table(UNIT[:5], np.arange(10).reshape(5, 2) // 4),
            "factor 0 is 2 in one row alone",
        ),
        (
            lambda: interventional_robustness(UNIT, FACTORS, quantile=0.0),
            "quantile is 0.0",
        ),
        (
            lambda: factor_vae_score(jax.random.key(0), of_noise(2), num_train=0),
            "num_train is 0",
        ),
        (
            lambda: factor_vae_score(jax.random.key(0), of_noise(2), batch_size=1),
            "batch_size is 1; give two or more",
        ),
        (
            lambda: beta_vae_score(jax.random.key(0), of_noise(2), num_eval=-1),
            "num_eval is -1",
        ),
        (
            lambda: beta_vae_score(jax.random.key(0), of_noise(2), penalty=-1.0),
            "penalty is -1.0",
        ),
    ],
)
def test_options_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
