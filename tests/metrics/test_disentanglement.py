"""Scores against known factors: constructed codes whose scores are known, tiny tables
by hand, and what is refused.
"""

import itertools
import math
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
from vaejax.metrics import dci_scores

from vaejax.metrics import (
    Interventions,
    balanced_threshold_accuracy,
    beta_vae_score,
    dci_from_importances,
    factor_vae_score,
    gradient_boosted_importances,
    interventional_robustness,
    interventions_of_table,
    lasso_importances,
    modularity,
    mutual_information_gap,
    sap,
    squared_correlation,
)
from vaejax.metrics.interventional import _logistic_regression

LEVELS = (3, 4, 5, 6)
# Every combination, three times, so that noise has something to be averaged over.
FACTORS = np.tile(list(itertools.product(*map(range, LEVELS))), (3, 1))
UNIT = (FACTORS - FACTORS.mean(axis=0)) / FACTORS.std(axis=0)
NUM_TRAIN, NUM_EVAL = 2000, 1000
PENALTY = 0.02  # of the lasso: R of a dimension that is the factor is 1 - PENALTY, and its error PENALTY


def noise(num_dimensions, seed=0):
    return np.random.default_rng(seed).normal(size=(len(FACTORS), num_dimensions))


def rotation(seed):
    return scipy.stats.ortho_group.rvs(4, random_state=np.random.default_rng(seed))


INACTIVE = np.zeros((len(FACTORS), 2))
CODES = {
    "perfect": np.hstack([UNIT, INACTIVE]),
    "jitter": np.hstack([UNIT, INACTIVE]) + 0.02 * noise(6),
    "rotated": UNIT @ rotation(5),
    "evenly mixed": UNIT @ scipy.linalg.hadamard(4) / 2,
    "duplicated": np.hstack([UNIT, UNIT]),
    "one left out": np.hstack([UNIT[:, 1:], INACTIVE]),
    # A dimension that tells the twelve pairs of the first two factors apart.
    "two in one": np.stack(
        [4.0 * FACTORS[:, 0] + FACTORS[:, 1], *UNIT.T[2:], INACTIVE[:, 0]], axis=1
    ),
    "noise": noise(6),
}
SCORES = {
    "MIG": lambda codes: mutual_information_gap(codes, FACTORS).score,
    "modularity": lambda codes: modularity(codes, FACTORS).score,
    "SAP": lambda codes: sap(codes, FACTORS).score,
    "SAP of quantities": lambda codes: (
        sap(codes, FACTORS, score=squared_correlation).score
    ),
    "disentanglement": lambda codes: lasso_dci(codes).disentanglement,
    "completeness": lambda codes: lasso_dci(codes).completeness,
    "informativeness": lambda codes: lasso_dci(codes).informativeness,
    "FactorVAE": lambda codes: of_interventions(
        factor_vae_score, interventions_of_table(codes, FACTORS)
    ),
    "beta-VAE": lambda codes: of_interventions(
        beta_vae_score, interventions_of_table(codes, FACTORS)
    ),
    "IRS": lambda codes: interventional_robustness(codes, FACTORS).score,
}


def lasso_dci(codes, key=0):
    return dci_scores(
        jax.random.key(key),
        codes,
        FACTORS,
        codes,
        FACTORS,
        importances=lasso_importances,
    )


def of_interventions(score, draws, key=0, **options):
    return score(
        jax.random.key(key), draws, num_train=NUM_TRAIN, num_eval=NUM_EVAL, **options
    ).score


@cache
def score_of(score, code):
    return SCORES[score](CODES[code])


def binomial_error(probability, num=NUM_EVAL):
    return math.sqrt(probability * (1 - probability) / num)


# known values

# The accuracy of chance is 1/C with C classes.
ABOVE_CHANCE = [1 - 1 / levels for levels in LEVELS]
THREE_QUARTERS = (0.75 - 5 * binomial_error(0.75), 0.75 + 5 * binomial_error(0.75))
# A value is the analytic one; a pair is of bounds.
KNOWN = {
    "perfect": {
        "MIG": 1,
        "modularity": 1,
        "SAP": np.mean(ABOVE_CHANCE),
        "SAP of quantities": 1,
        "disentanglement": 1,
        "completeness": 1,
        "informativeness": 1 - PENALTY,
        "FactorVAE": 1,
        "beta-VAE": 1,
        "IRS": 1,
    },
    "jitter": {
        "MIG": (0.95, 1),
        "SAP": (np.mean(ABOVE_CHANCE) - 0.06, np.mean(ABOVE_CHANCE)),
        "SAP of quantities": (0.99, 1),
        "disentanglement": 1,
        "completeness": 1,
        "informativeness": (0.95, 1 - PENALTY),
        "FactorVAE": 1,
        "beta-VAE": 1,
        "IRS": (0.92, 0.98),
    },
    "rotated": {
        "MIG": (0, 0.3),
        "SAP": (0, 0.15),
        "SAP of quantities": (0, 0.3),
        "disentanglement": (0, 0.2),
        "completeness": (0, 0.2),
        "informativeness": (0.95, 1),
        "FactorVAE": (0.5, 0.9),
        "beta-VAE": (0.75, 0.95),
        "IRS": (0.3, 0.5),
    },
    # All dimensions know as much of each factor: nothing sees a difference, but
    # together they know all.
    "evenly mixed": {
        "MIG": (0, 0.01),
        "SAP": (0, 0.01),
        "SAP of quantities": 0,
        "disentanglement": 0,
        "completeness": 0,
        "informativeness": 1 - 2 * PENALTY,
        "FactorVAE": (0, 0.35),
        "beta-VAE": (0, 0.35),
    },
    # H of two equal shares out of eight dimensions is log 2 / log 8.
    "duplicated": {
        "MIG": 0,
        "modularity": 1,
        "SAP": 0,
        "SAP of quantities": 0,
        "disentanglement": 1,
        "completeness": 1 - math.log(2) / math.log(8),
        "informativeness": 1 - PENALTY,
        "FactorVAE": 1,
        "beta-VAE": 1,
        "IRS": 1,
    },
    # Kim & Mnih 2018, section 4: the linear classifier takes "no dimension" for the
    # factor that is left out.
    "one left out": {
        "MIG": 3 / 4,
        "modularity": 1,
        "SAP": np.sum(ABOVE_CHANCE[1:]) / 4,
        "SAP of quantities": 3 / 4,
        "disentanglement": 1,
        "completeness": 3 / 4,
        "informativeness": (1 - PENALTY) * 3 / 4,
        "FactorVAE": THREE_QUARTERS,
        "beta-VAE": 1,
        "IRS": 1,
    },
    # A gap between dimensions does not see one that knows too much; modularity and
    # disentanglement do.
    "two in one": {
        "MIG": 1,
        "modularity": (3 - (math.log(3) / math.log(4)) ** 2 / 3) / 3,
        "disentanglement": (0.8, 0.9),
        "completeness": 1,
        "FactorVAE": THREE_QUARTERS,
        "beta-VAE": 1,
        "IRS": (0.8, 0.9),
    },
    "noise": {
        "MIG": (
            0,
            0.022,
        ),  # the bias of the histogram, (20 - 1)(C - 1) / (2 num log C), is 0.016 to 0.024
        "SAP": (0, 0.02),
        "SAP of quantities": (0, 0.01),
        "informativeness": (-0.01, 0.01),
        "FactorVAE": (0.2, 0.35),
        "beta-VAE": (0.2, 0.3),
        "IRS": (0.15, 0.35),
    },
}
CASES = [(code, score) for code, scores in KNOWN.items() for score in scores]


@pytest.mark.parametrize(
    ("code", "score"), CASES, ids=[", ".join(case) for case in CASES]
)
def test_constructed_codes_have_their_scores(code, score):
    found, known = score_of(score, code), KNOWN[code][score]
    if isinstance(known, tuple):
        assert known[0] <= found <= known[1]
    else:
        np.testing.assert_allclose(found, known, atol=1e-9)


def test_every_score_puts_the_perfect_code_first_and_all_but_one_tell_it_from_a_mixture():
    for score in SCORES:
        best = max(score_of(score, code) for code in CODES)
        np.testing.assert_allclose(score_of(score, "perfect"), best, atol=1e-9)
        if score != "informativeness":
            assert score_of(score, "evenly mixed") < 0.4
    assert score_of("informativeness", "evenly mixed") > 0.95


ORDER, SCALE = [2, 3, 0, 1], np.array([0.1, 19.0, 1.1, 5.0])


@pytest.mark.parametrize("score", SCORES)
def test_order_and_scale_of_dimensions_change_nothing(score):
    # IRS weighs dimensions by how far they reach.
    scale = 1.7 if score == "IRS" else SCALE
    codes = (CODES["rotated"] * scale)[:, ORDER]
    # The linear classifier is fitted by steps, to some digits.
    atol = 2 / NUM_EVAL if score == "beta-VAE" else 1e-6
    np.testing.assert_allclose(
        SCORES[score](codes), score_of(score, "rotated"), atol=atol
    )


def test_irs_of_a_rescaled_dimension_is_weighted_by_it():
    codes = np.stack([UNIT[:, 0], CODES["noise"][:, 0]], axis=1)
    scores = [
        interventional_robustness(codes * [scale, 1], FACTORS).score
        for scale in (1, 100)
    ]
    assert scores[0] < 0.6 and scores[1] > 0.95


def test_labels_are_only_names_where_they_are_classes():
    labels = np.array([17, -3, 250, 4, 99, -80])[FACTORS]
    for score in (mutual_information_gap, modularity, sap, interventional_robustness):
        codes = CODES["rotated"]
        np.testing.assert_allclose(
            score(codes, labels).score, score(codes, FACTORS).score, atol=1e-12
        )
    # The lasso and the correlation take them for quantities.
    assert abs(sap(CODES["perfect"], labels, score=squared_correlation).score - 1) > 0.1


def test_arrays_of_jax_in_single_precision_are_taken():
    codes, factors = jnp.asarray(CODES["perfect"], jnp.float32), jnp.asarray(FACTORS)
    assert mutual_information_gap(codes, factors).score == 1
    assert sap(codes, factors).score == score_of("SAP", "perfect")


# by hand

TINY_FACTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
TINY_CODES = np.array(
    [[0.0, 0.0, 7.0], [0.0, 0.0, 7.0], [1.0, 0.0, 7.0], [1.0, 1.0, 7.0]]
)


def test_information_of_a_tiny_table():
    # H(1/4) is 0.811278 bits; the second dimension knows H(1/4) - 1/2 bits of either
    # factor, the third nothing.
    known = 0.811278124459 - 0.5
    gap = mutual_information_gap(TINY_CODES, TINY_FACTORS, num_bins=2)
    np.testing.assert_allclose(
        gap.normalized, [[1, 0], [known, known], [0, 0]], atol=1e-9
    )
    np.testing.assert_allclose(gap.gaps, [1 - known, known], atol=1e-9)
    np.testing.assert_allclose(gap.score, 0.5)
    modular = modularity(TINY_CODES, TINY_FACTORS, num_bins=2)
    np.testing.assert_allclose(
        modular.information, gap.normalized * math.log(2), atol=1e-9
    )
    # Of two factors known alike: 1 - 1 / (2 - 1).
    np.testing.assert_allclose(modular.by_dimension, [1, 0, np.nan], atol=1e-9)
    np.testing.assert_allclose(modular.score, 0.5)


def test_bins_have_equal_width_and_hold_their_left_edge():
    codes = np.array([[0.0], [0.99], [1.0], [1.99], [2.0], [4.0]]).repeat(2, axis=1)
    factors = np.array([[0], [0], [1], [1], [2], [3]])
    # Four bins, of which the last is closed on both sides: 4 is alone in it, and 2
    # alone in the third.
    assert mutual_information_gap(codes, factors, num_bins=4).normalized[0, 0] == 1
    assert mutual_information_gap(codes, factors, num_bins=2).normalized[0, 0] < 0.6


def test_information_of_independent_dimensions_is_the_bias_of_the_histogram():
    rng = np.random.default_rng(3)
    codes, factors = rng.uniform(size=(1000, 200)), rng.integers(5, size=(1000, 1))
    information = modularity(codes, np.hstack([factors, factors])).information[:, 0]
    bias = 19 * 4 / (2 * 1000)
    # 2 num I is about chi-squared of 76 degrees of freedom; the next order is a few per
    # cent.
    assert (
        abs(information.mean() - bias)
        < 5 * math.sqrt(2 * 76) / (2 * 1000) / math.sqrt(200) + 0.05 * bias
    )


def test_more_classes_than_bins_are_not_known_in_full():
    factors = np.arange(40)[:, None]
    codes = np.hstack([factors, 0 * factors]).astype(float)
    np.testing.assert_allclose(
        mutual_information_gap(codes, factors).score, math.log(20) / math.log(40)
    )
    assert mutual_information_gap(codes, factors, num_bins=40).score == 1


def test_dci_of_a_tiny_matrix():
    scores = dci_from_importances([[2, 1], [1, 0], [0, 3]])
    # H(1/3) is 0.918296 bits; the entropies of (2, 1, 0) / 3 and (1, 0, 3) / 4 are
    # 0.636514 and 0.562335 nats.
    np.testing.assert_allclose(scores.by_dimension, [0.081704, 1, 1], atol=1e-6)
    np.testing.assert_allclose(
        scores.disentanglement, 3 / 7 * 0.081704 + 4 / 7, atol=1e-6
    )
    np.testing.assert_allclose(scores.by_factor, [0.420620, 0.488140], atol=1e-6)
    np.testing.assert_allclose(
        scores.completeness, (0.420620 + 0.488140) / 2, atol=1e-6
    )


@pytest.mark.parametrize(
    ("importances", "disentanglement", "completeness"),
    [
        (np.eye(3), 1, 1),
        (np.ones((4, 3)), 0, 0),
        (np.zeros((2, 2)), 0, 0),
        ([[1, 0], [0, 0]], 1, 0.5),
        # Ten times the weight in one row weighs ten times as much in disentanglement
        # alone.
        (
            [[10, 10], [1, 0], [0, 1]],
            2 / 22,
            1 - scipy.stats.entropy([10, 1]) / math.log(3),
        ),
    ],
)
def test_dci_of_matrices_that_are_known(importances, disentanglement, completeness):
    scores = dci_from_importances(importances)
    np.testing.assert_allclose(
        [scores.disentanglement, scores.completeness],
        [disentanglement, completeness],
        atol=1e-12,
    )


def test_thresholds_are_the_best_of_all():
    rng = np.random.default_rng(4)
    for _ in range(20):
        # Ties among the codes, which no threshold can part, and classes of unlike
        # sizes.
        code, factor = (
            rng.integers(6, size=9).astype(float),
            np.append(rng.integers(3, size=6), [0, 1, 2]),
        )
        best = 0
        for thresholds in itertools.combinations_with_replacement(
            np.arange(-0.5, 6), 2
        ):
            intervals = np.searchsorted(thresholds, code)
            for classes in itertools.product(range(3), repeat=3):
                right = np.array(classes)[intervals] == factor
                best = max(best, np.mean([right[factor == c].mean() for c in range(3)]))
        np.testing.assert_allclose(balanced_threshold_accuracy(code, factor), best)


def test_thresholds_are_one_fewer_than_classes():
    # Two classes in turn: one threshold gets one block in three of one class wrong.
    np.testing.assert_allclose(
        balanced_threshold_accuracy(np.arange(6.0), np.array([0, 0, 1, 1, 0, 0])), 0.75
    )
    assert (
        balanced_threshold_accuracy(np.arange(6.0), np.array([0, 0, 1, 1, 2, 2])) == 1
    )


def test_sap_takes_a_score_for_each_factor_and_none_of_an_inactive_dimension():
    mixed = sap(
        CODES["perfect"],
        FACTORS,
        score=[squared_correlation, *[balanced_threshold_accuracy] * 3],
    )
    np.testing.assert_allclose(mixed.gaps, [1, *ABOVE_CHANCE[1:]], atol=1e-12)
    assert np.all(mixed.scores[4:] == 0)
    # The same dimension, active at a lower threshold.
    shrunk = CODES["perfect"] * 1e-3
    assert sap(shrunk, FACTORS, min_variance=1e-5).score == 0
    np.testing.assert_allclose(sap(shrunk, FACTORS).score, np.mean(ABOVE_CHANCE))


def test_sap_does_not_see_a_second_factor_in_a_dimension():
    codes = np.stack([6 * UNIT[:, 0] + UNIT[:, 1], 0 * UNIT[:, 0]], axis=1)
    found = sap(codes, FACTORS[:, :2], score=squared_correlation)
    np.testing.assert_allclose(found.gaps, [36 / 37, 1 / 37], atol=1e-9)


def test_squared_correlation_is_that_of_scipy():
    code, factor = CODES["rotated"][:, 1], FACTORS[:, 3]
    np.testing.assert_allclose(
        squared_correlation(code, factor),
        scipy.stats.linregress(code, factor).rvalue ** 2,
    )


def test_lasso_is_at_its_minimum():
    rng = np.random.default_rng(5)
    codes = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 3
    factor = np.int64(np.round(codes @ [1, 0, -2, 0, 0.3] + rng.normal(size=300)))
    importance, _ = lasso_importances(None, codes, factor, penalty=0.1)
    inputs, target = scipy.stats.zscore(codes), scipy.stats.zscore(factor)
    least_squares = np.linalg.lstsq(inputs, target)[0]
    # At the minimum |Z'(v - Z w)| / num is the penalty where w is not 0, and no more
    # where it is. The signs of w are not returned, so that one choice of them must do.
    candidates = [importance * signs for signs in itertools.product([-1, 1], repeat=5)]
    slopes = np.array([inputs.T @ (target - inputs @ w) / 300 for w in candidates])
    misses = np.where(
        importance > 0,
        slopes - 0.1 * np.sign(candidates),
        np.maximum(np.abs(slopes) - 0.1, 0),
    )
    assert np.min(np.max(np.abs(misses), axis=1)) < 1e-9
    assert np.any(importance == 0) and np.any(importance > 0)
    exact, informativeness = lasso_importances(None, codes, factor, penalty=0.0)
    np.testing.assert_allclose(exact, np.abs(least_squares), atol=1e-6)
    residual = 1 - np.sqrt(np.mean((target - inputs @ least_squares) ** 2))
    np.testing.assert_allclose(informativeness(codes, factor), residual, atol=1e-9)


def test_informativeness_is_that_of_the_other_table():
    codes, other = CODES["perfect"], CODES["noise"]
    scores = dci_scores(
        jax.random.key(0), codes, FACTORS, other, FACTORS, importances=lasso_importances
    )
    np.testing.assert_allclose(scores.train_informativeness, 1 - PENALTY, atol=1e-9)
    # Noise of variance 1 in place of a factor of variance 1: the errors add.
    np.testing.assert_allclose(
        scores.informativeness, 1 - math.sqrt(1 + (1 - PENALTY) ** 2), atol=0.05
    )


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


# the trees of scikit-learn


def test_trees_of_known_codes():
    pytest.importorskip("sklearn")
    factors = FACTORS[:, :2]
    known = {
        "perfect": (UNIT[:, :2], 1, 1),
        "duplicated": (np.hstack([UNIT[:, :2]] * 2), 1, 1 - math.log(2) / math.log(4)),
        # The one dimension is important for both factors.
        "two in one": (CODES["two in one"][:, [0, 3]], 0, 1),
    }
    for codes, disentanglement, completeness in known.values():
        scores = dci_scores(jax.random.key(0), codes, factors, codes, factors)
        assert scores.informativeness == 1
        # Trees that choose between equal dimensions at random share a weight only on
        # average.
        np.testing.assert_allclose(
            scores[:2], [disentanglement, completeness], atol=0.05
        )


def test_trees_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ImportError, match=r"pip install 'vaejax\[analysis\]'"):
        gradient_boosted_importances(jax.random.key(0), UNIT, FACTORS[:, 0])


# draws


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


def of_noise(num_factors):
    """Codes drawn anew each time, whatever is fixed."""
    return Interventions(
        num_factors,
        np.ones(5),
        lambda generator, factor, num: generator.normal(size=(num, 5)),
        lambda generator, factor, num: generator.normal(size=(2, num, 5)),
    )


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


# what is refused

TABLE_SCORES = {
    "mutual_information_gap": mutual_information_gap,
    "modularity": modularity,
    "sap": sap,
    "dci": lambda codes, factors: dci_scores(
        jax.random.key(0), codes, factors, UNIT, FACTORS, importances=lasso_importances
    ),
    "dci (test)": lambda codes, factors: dci_scores(
        jax.random.key(0), UNIT, FACTORS, codes, factors, importances=lasso_importances
    ),
    "interventions_of_table": interventions_of_table,
    "interventional_robustness": interventional_robustness,
}
WITH_NAN = np.where(np.arange(4) == 2, np.nan, UNIT)
BAD_TABLES = {
    "lengths": (
        UNIT[1:],
        FACTORS,
        r"codes have shape \(1079, 4\) and factors \(1080, 4\)",
    ),
    "one axis": (UNIT[:, 0], FACTORS, r"shape \(1080,\)"),
    "no rows": (UNIT[:0], FACTORS[:0], r"shape \(0, 4\)"),
    "not a number": (WITH_NAN, FACTORS, "1080 of 4320 codes are not finite"),
    "infinite": (
        np.where(np.arange(1080)[:, None] == 7, np.inf, UNIT),
        FACTORS,
        "4 of 4320 codes are not finite",
    ),
    "floats": (UNIT, UNIT, "factors are float64; give integers"),
    "constant": (UNIT, FACTORS * [1, 1, 0, 1] + 3, "factor 2 is 3 in all 1080 rows"),
    "no dimension": (UNIT[:, :0], FACTORS, "there are 0 dimensions; give"),
}


@pytest.mark.parametrize("name", TABLE_SCORES)
@pytest.mark.parametrize("bad", BAD_TABLES)
def test_tables_are_checked(name, bad):
    codes, factors, message = BAD_TABLES[bad]
    with pytest.raises(ValueError, match=message) as error:
        TABLE_SCORES[name](codes, factors)
    assert str(error.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mutual_information_gap(UNIT[:, :1], FACTORS),
            "there are 1 dimensions; give 2 or more",
        ),
        (lambda: sap(UNIT[:, :1], FACTORS), "there are 1 dimensions; give 2 or more"),
        (
            lambda: TABLE_SCORES["dci"](UNIT[:, :1], FACTORS),
            "there are 1 dimensions; give 2 or more",
        ),
        (
            lambda: TABLE_SCORES["dci"](UNIT, FACTORS[:, :1]),
            "there are 1 factors; give 2 or more",
        ),
        (
            lambda: modularity(UNIT, FACTORS[:, :1]),
            "there are 1 factors; give 2 or more",
        ),
        (
            lambda: interventions_of_table(UNIT, FACTORS[:, :1]),
            "there are 1 factors; give 2 or more",
        ),
        (
            lambda: TABLE_SCORES["dci"](UNIT[:, :2], FACTORS),
            "have 2 and 4 columns, those to test on 4 and 4",
        ),
        (lambda: mutual_information_gap(UNIT, FACTORS, num_bins=0), "num_bins is 0"),
        (lambda: modularity(UNIT, FACTORS, num_bins=2.5), "num_bins is 2.5"),
        (
            lambda: sap(UNIT, FACTORS, score=[squared_correlation] * 3),
            "3 scores for 4 factors",
        ),
        (lambda: dci_from_importances(np.ones((3, 1))), r"shape \(3, 1\); give"),
        (lambda: dci_from_importances([[1, -1], [0, 1]]), r"lie in \[-1.0, 1.0\]"),
        (lambda: dci_from_importances([[1, np.nan], [0, 1]]), "give finite weights"),
        (
            lambda: lasso_importances(None, UNIT, FACTORS[:, 0], penalty=-1.0),
            "penalty is -1.0",
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


@pytest.mark.parametrize(
    "call",
    [
        partial(factor_vae_score, 0, of_noise(2)),
        partial(beta_vae_score, np.zeros(2, np.uint32), of_noise(2)),
    ],
)
def test_keys_are_typed(call):
    with pytest.raises(TypeError, match=r"give one of jax.random.key\(seed\)"):
        call()
