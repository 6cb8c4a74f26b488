"""Scores of disentanglement and of sample quality, on NumPy arrays.

Codes and factors are tables with one row per example, and samples are sets of features:
nothing here depends on a VAE. Read `disentanglement.py` first; `dci.py` has scores from
predictors, `interventional.py` those that fix a factor, `sample_quality.py` distances
of generated examples from real ones.
"""

from vaejax.metrics.dci import (
    DCI,
    Importances,
    ImportanceScores,
    Informativeness,
    dci_from_importances,
    dci_scores,
    gradient_boosted_importances,
    lasso_importances,
    random_forest_importances,
)
from vaejax.metrics.disentanglement import (
    Modularity,
    MutualInformationGap,
    Score,
    SeparatedAttributePredictability,
    balanced_threshold_accuracy,
    modularity,
    mutual_information_gap,
    separated_attribute_predictability,
    squared_correlation,
)
from vaejax.metrics.interventional import (
    BetaVaeScore,
    FactorVaeScore,
    InterventionalRobustness,
    Interventions,
    beta_vae_score,
    factor_vae_score,
    interventional_robustness,
    interventions_of_table,
)
from vaejax.metrics.sample_quality import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    expected_coverage,
    frechet_distance,
    precision_recall,
)

__all__ = [
    "BetaVaeScore",
    "DCI",
    "DensityCoverage",
    "FactorVaeScore",
    "ImportanceScores",
    "Importances",
    "Informativeness",
    "InterventionalRobustness",
    "Interventions",
    "Modularity",
    "MutualInformationGap",
    "PrecisionRecall",
    "Score",
    "SeparatedAttributePredictability",
    "balanced_threshold_accuracy",
    "beta_vae_score",
    "dci_from_importances",
    "dci_scores",
    "density_coverage",
    "expected_coverage",
    "factor_vae_score",
    "frechet_distance",
    "gradient_boosted_importances",
    "interventional_robustness",
    "interventions_of_table",
    "lasso_importances",
    "modularity",
    "mutual_information_gap",
    "precision_recall",
    "random_forest_importances",
    "separated_attribute_predictability",
    "squared_correlation",
]
