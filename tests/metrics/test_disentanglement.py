"""All scores on constructed codes whose scores are known; information, modularity and
SAP by hand; the tables that every score refuses.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.factor_tables import (
    ABOVE_CHANCE,
    CODES,
    FACTORS,
    NUM_EVAL,
    PENALTY,
    SCORES,
    TINY_FACTORS,
    UNIT,
    binomial_error,
    score_of,
)

from vaejax.metrics import (
    balanced_threshold_accuracy,
    dci_scores,
    interventional_robustness,
    interventions_of_table,
    lasso_importances,
    modularity,
    mutual_information_gap,
    separated_attribute_predictability,
    squared_correlation,
)

# Known values


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
        # The bias of the histogram, (20 - 1)(C - 1) / (2 num log C), is 0.016 to 0.024.
        "MIG": (0, 0.022),
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


def test_every_score_puts_the_perfect_code_first_and_all_but_one_see_a_mixture():
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


def test_labels_are_only_names_where_they_are_classes():
    labels = np.array([17, -3, 250, 4, 99, -80])[FACTORS]
    for score in (
        mutual_information_gap,
        modularity,
        separated_attribute_predictability,
        interventional_robustness,
    ):
        codes = CODES["rotated"]
        np.testing.assert_allclose(
            score(codes, labels).score, score(codes, FACTORS).score, atol=1e-12
        )
    # The lasso and the correlation take them for quantities.
    assert (
        abs(
            separated_attribute_predictability(
                CODES["perfect"], labels, score=squared_correlation
            ).score
            - 1
        )
        > 0.1
    )


def test_arrays_of_jax_in_single_precision_are_taken():
    codes, factors = jnp.asarray(CODES["perfect"], jnp.float32), jnp.asarray(FACTORS)
    assert mutual_information_gap(codes, factors).score == 1
    assert separated_attribute_predictability(codes, factors).score == score_of(
        "SAP", "perfect"
    )


# By hand


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
    mixed = separated_attribute_predictability(
        CODES["perfect"],
        FACTORS,
        score=[squared_correlation, *[balanced_threshold_accuracy] * 3],
    )
    np.testing.assert_allclose(mixed.gaps, [1, *ABOVE_CHANCE[1:]], atol=1e-12)
    assert np.all(mixed.scores[4:] == 0)
    # The same dimension, active at a lower threshold.
    shrunk = CODES["perfect"] * 1e-3
    assert (
        separated_attribute_predictability(shrunk, FACTORS, min_variance=1e-5).score
        == 0
    )
    np.testing.assert_allclose(
        separated_attribute_predictability(shrunk, FACTORS).score, np.mean(ABOVE_CHANCE)
    )


def test_sap_does_not_see_a_second_factor_in_a_dimension():
    codes = np.stack([6 * UNIT[:, 0] + UNIT[:, 1], 0 * UNIT[:, 0]], axis=1)
    found = separated_attribute_predictability(
        codes, FACTORS[:, :2], score=squared_correlation
    )
    np.testing.assert_allclose(found.gaps, [36 / 37, 1 / 37], atol=1e-9)


def test_squared_correlation_is_that_of_scipy():
    code, factor = CODES["rotated"][:, 1], FACTORS[:, 3]
    np.testing.assert_allclose(
        squared_correlation(code, factor),
        scipy.stats.linregress(code, factor).rvalue ** 2,
    )


# Arguments that are refused


TABLE_SCORES = {
    "mutual_information_gap": mutual_information_gap,
    "modularity": modularity,
    "separated_attribute_predictability": separated_attribute_predictability,
    "dci_scores": lambda codes, factors: dci_scores(
        jax.random.key(0), codes, factors, UNIT, FACTORS, importances=lasso_importances
    ),
    "dci_scores (test)": lambda codes, factors: dci_scores(
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
        (
            lambda: separated_attribute_predictability(UNIT[:, :1], FACTORS),
            "there are 1 dimensions; give 2 or more",
        ),
        (
            lambda: modularity(UNIT, FACTORS[:, :1]),
            "there are 1 factors; give 2 or more",
        ),
        (lambda: mutual_information_gap(UNIT, FACTORS, num_bins=0), "num_bins is 0"),
        (lambda: modularity(UNIT, FACTORS, num_bins=2.5), "num_bins is 2.5"),
        (
            lambda: separated_attribute_predictability(
                UNIT, FACTORS, score=[squared_correlation] * 3
            ),
            "3 scores for 4 factors",
        ),
    ],
)
def test_options_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
