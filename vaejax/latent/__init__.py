"""Uses of a trained VAE: samples, reconstructions, paths in latent space, embeddings.

Every tool takes any `VAE`; `latent_point` and `example_point` choose the value that
stands for a distribution. Read `tools.py` first; `statistics.py` has the codes of a
whole data set.
"""

from vaejax.base import complete, draw, values
from vaejax.latent.neighbors import NearestNeighbors, nearest_neighbors
from vaejax.latent.statistics import (
    CodeStatistics,
    PosteriorMoments,
    attribute_direction,
    code_statistics,
    posterior_moments,
)
from vaejax.latent.tools import (
    PointEstimator,
    embed,
    interpolate,
    linear_path,
    manifold,
    mean,
    mode,
    reconstruct,
    sample,
    shift_latents,
    spherical_path,
    traverse,
)

__all__ = [
    "CodeStatistics",
    "NearestNeighbors",
    "PointEstimator",
    "PosteriorMoments",
    "attribute_direction",
    "code_statistics",
    "complete",
    "draw",
    "embed",
    "interpolate",
    "linear_path",
    "manifold",
    "mean",
    "mode",
    "nearest_neighbors",
    "posterior_moments",
    "reconstruct",
    "sample",
    "shift_latents",
    "spherical_path",
    "traverse",
    "values",
]
