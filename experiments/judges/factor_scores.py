"""Every score of a code against known factors, by one call."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import scipy.stats

import vaejax
from vaejax.base import Key

# D, C and I are disentanglement, completeness and informativeness.
NAMES = {
    "mig": "MIG",
    "disentanglement": "DCI-D",
    "completeness": "DCI-C",
    "informativeness": "DCI-I",
    "sap": "SAP",
    "factor_vae": "FactorVAE",
    "beta_vae": "beta-VAE",
    "modularity": "modularity",
    "irs": "IRS",
}
NUM_VOTES, NUM_TEST_VOTES = 5_000, 2_500  # of the scores by intervention
HELD_OUT = 0.2  # of the examples, on which the forest is scored


def score(key: Key, codes: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """Return every score by its name in `NAMES`.

    Codes are `[num, dimensions]`, factors are integers `[num, num_factors]`.
    """
    dci_key, factor_key, beta_key = jax.random.split(key, 3)
    num = round((1 - HELD_OUT) * len(codes))
    dci = vaejax.metrics.dci_scores(
        dci_key,
        codes[:num],
        factors[:num],
        codes[num:],
        factors[num:],
        importances=vaejax.metrics.random_forest_importances,
    )
    fixed = vaejax.metrics.interventions_of_table(codes, factors)
    votes = {"num_train": NUM_VOTES, "num_eval": NUM_TEST_VOTES}
    return {
        "mig": vaejax.metrics.mutual_information_gap(codes, factors).score,
        "disentanglement": dci.disentanglement,
        "completeness": dci.completeness,
        "informativeness": dci.informativeness,
        "sap": vaejax.metrics.separated_attribute_predictability(codes, factors).score,
        "factor_vae": vaejax.metrics.factor_vae_score(factor_key, fixed, **votes).score,
        "beta_vae": vaejax.metrics.beta_vae_score(beta_key, fixed, **votes).score,
        "modularity": vaejax.metrics.modularity(codes, factors).score,
        "irs": vaejax.metrics.interventional_robustness(codes, factors).score,
    }


def compare(
    values: Mapping[str, np.ndarray], reference: np.ndarray
) -> dict[str, dict[str, float]]:
    """Test whether each arm differs from a reference, paired by seed.

    The test is Student's t test, two-sided.

    Args:
      values: `[seeds]` of every arm.
      reference: `[seeds]`, of the same seeds.

    Returns:
      Mean and standard deviation of the differences of every arm, p, and p times the
      number of arms (Bonferroni). p is None where fewer than two seeds, or no spread,
      leave nothing to test.
    """
    found = {}
    for arm, each in values.items():
        differences = np.asarray(each) - np.asarray(reference)
        differences = differences[np.isfinite(differences)]
        can_tell = (
            len(differences) > 1 and np.ptp(differences) > 1e-12
        )  # of more than rounding
        p = (
            float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)
            if can_tell
            else None
        )
        found[arm] = {
            "mean": float(np.mean(differences)) if len(differences) else None,
            "std": float(np.std(differences, ddof=1)) if len(differences) > 1 else None,
            "num_seeds": len(differences),
            "p": p,
            "p_corrected": None if p is None else min(1.0, p * len(values)),
        }
    return found


def statement(test: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the comparison of beta-TCVAE with the plain VAE, in words."""
    if not test:
        return "beta-TCVAE was not among the methods"
    parts = []
    for arm, found in test.items():
        spread = "" if found["std"] is None else f" ± {found['std']:.3f}"
        p = (
            "untested"
            if found["p"] is None
            else f"p = {found['p']:.2g}, times {len(test)}: {found['p_corrected']:.2g}"
        )
        parts.append(
            f"{arm} {found['mean']:+.3f}{spread} ({p})"
            if found["mean"] is not None
            else f"{arm} diverged"
        )
    return (
        "MIG minus that of the plain VAE, paired by seed, two-sided t test: "
        + "; ".join(parts)
    )
