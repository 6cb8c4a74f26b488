"""Uses of a trained VAE: samples, reconstructions, paths in latent space, embeddings.

Every tool takes any `VAE`. The arguments `latent_point` and `example_point` choose the
value that stands for q(z|x) and p(x|z): `mean` (the default of most), `mode`, or
`draw`, which needs a key. Read `tools.py` first, then `paths.py` and `grids.py`;
`statistics.py` describes the codes of a whole data set. `impute` fills the missing
cells of rows, and `outlier_scores` says which rows and cells a model does not expect.
"""

from vaejax.base import complete, draw, values
from vaejax.latent.grids import manifold, traverse
from vaejax.latent.imputation import Imputation, impute
from vaejax.latent.neighbors import NearestNeighbors, nearest_neighbors
from vaejax.latent.outliers import (
    OutlierScores,
    OutlierThreshold,
    outlier_scores,
    outlier_threshold,
)
from vaejax.latent.paths import (
    LatentPath,
    interpolate,
    linear_path,
    shift_latents,
    spherical_path,
)
from vaejax.latent.points import PointEstimator, mean, mode
from vaejax.latent.statistics import (
    CodeStatistics,
    PosteriorMoments,
    attribute_direction,
    code_statistics,
    posterior_moments,
)
from vaejax.latent.tools import embed, reconstruct, sample

__all__ = [
    "CodeStatistics",
    "Imputation",
    "LatentPath",
    "NearestNeighbors",
    "OutlierScores",
    "OutlierThreshold",
    "PointEstimator",
    "PosteriorMoments",
    "attribute_direction",
    "code_statistics",
    "complete",
    "draw",
    "embed",
    "impute",
    "interpolate",
    "linear_path",
    "manifold",
    "mean",
    "mode",
    "nearest_neighbors",
    "outlier_scores",
    "outlier_threshold",
    "posterior_moments",
    "reconstruct",
    "sample",
    "shift_latents",
    "spherical_path",
    "traverse",
    "values",
]
