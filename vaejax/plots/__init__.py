"""Figures: arrays in, a matplotlib `Figure` out, without pyplot or global settings.

Titles and labels are drawn as they are given: a `$` starts no formula, what cannot be
printed is drawn as an escape, and of a long line the middle is left out. Save a figure
with `figure.savefig("name.png", dpi=200)`, or as ".pdf" for print.
Read `images.py` first.
"""

try:
    import matplotlib.axes  # noqa: F401
except ImportError as error:
    raise ImportError(
        "vaejax.plots needs matplotlib: pip install 'vaejax[plots]'."
    ) from error

from vaejax.plots.images import animation, image_grid, tile
from vaejax.plots.lines import curves, pad_series
from vaejax.plots.palette import COLORS
from vaejax.plots.points import histograms, scatter
from vaejax.plots.tables import bars, heatmaps, matrix

__all__ = [
    "COLORS",
    "animation",
    "bars",
    "curves",
    "heatmaps",
    "histograms",
    "image_grid",
    "matrix",
    "pad_series",
    "scatter",
    "tile",
]
