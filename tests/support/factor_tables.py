"""Tables of codes and factors whose scores are known, and all scores by name."""

import itertools
import math
from functools import cache

import jax
import numpy as np
import scipy.linalg
import scipy.stats

from vaejax.metrics import (
    Interventions,
    beta_vae_score,
    dci_scores,
    factor_vae_score,
    interventional_robustness,
    interventions_of_table,
    lasso_importances,
    modularity,
    mutual_information_gap,
    separated_attribute_predictability,
    squared_correlation,
)

LEVELS = (3, 4, 5, 6)
# Every combination, three times, so that noise has something to be averaged over.
FACTORS = np.tile(list(itertools.product(*map(range, LEVELS))), (3, 1))
UNIT = (FACTORS - FACTORS.mean(axis=0)) / FACTORS.std(axis=0)
NUM_TRAIN, NUM_EVAL = 2000, 1000
# Of the lasso: R of a dimension that is the factor is 1 - PENALTY, and its error
# PENALTY.
PENALTY = 0.02


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
    "SAP": lambda codes: separated_attribute_predictability(codes, FACTORS).score,
    "SAP of quantities": lambda codes: (
        separated_attribute_predictability(
            codes, FACTORS, score=squared_correlation
        ).score
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


def of_noise(num_factors):
    """Codes that do not depend on the factor that is fixed."""
    return Interventions(
        num_factors,
        np.ones(5),
        lambda generator, factor, num: generator.normal(size=(num, 5)),
        lambda generator, factor, num: generator.normal(size=(2, num, 5)),
    )


@cache
def score_of(score, code):
    return SCORES[score](CODES[code])


def binomial_error(probability, num=NUM_EVAL):
    return math.sqrt(probability * (1 - probability) / num)


# The accuracy of chance is 1/C with C classes.
ABOVE_CHANCE = [1 - 1 / levels for levels in LEVELS]
TINY_FACTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
