"""Samples: histograms of their dimensions, and points in the plane."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from vaejax.plots._text import AS_GIVEN, draw_legend, drawn_text
from vaejax.plots.palette import COLORS


def histograms(
    series: Mapping[str, ArrayLike],
    *,
    titles: Sequence[str],
    title: str = "",
    columns: int = 3,
    num_bins: int = 30,
) -> Figure:
    """Return a figure of a small histogram for each dimension, the series overlaid.

    An axis covers the middle 99 % of all values, so that a few far ones do not hide the
    rest.

    Args:
      series: The values by their labels, `[examples, dimensions]`.
      titles: A title for each dimension.
      title: The title of the figure.
      columns: The number of panels side by side.
      num_bins: The number of bins of a histogram.

    Returns:
      A figure with one axes for each cell of the grid of panels.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> grid = np.linspace(0, 1, 200).reshape(100, 2)
      >>> figure = plots.histograms({"q(z)": grid}, titles=["z0", "z1"])
      >>> [axes.get_title() for axes in figure.axes]
      ['z0', 'z1']
    """
    arrays = {label: np.asarray(values, float) for label, values in series.items()}
    rows, width = -(-len(titles) // columns), min(columns, len(titles))
    figure = Figure(figsize=(2.2 * width + 0.4, 1.7 * rows + 0.6), layout="constrained")
    grid = np.ravel(figure.subplots(rows, width, squeeze=False))
    handles: list[Artist] = []
    for index, (axes, name) in enumerate(zip(grid, titles, strict=False)):
        columns_of = {label: array[:, index] for label, array in arrays.items()}
        patches = _draw_histograms(axes, columns_of, num_bins)
        handles = handles or patches
        axes.set_title(drawn_text(name), fontsize=8, **AS_GIVEN)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    draw_legend(figure, handles, series, loc="outside lower center", ncols=len(handles))
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    return figure


def scatter(
    panels: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    title: str = "",
    size: float = 3.0,
) -> Figure:
    """Return a figure of points in the plane, colored by their class.

    The name of a class is written at the median of its points.

    Args:
      panels: The points by the titles of their panels, `[num, 2]`.
      labels: The classes of the points, `[num]`, the same in every panel.
      title: The title of the figure.
      size: The area of a point in square typographic points.

    Returns:
      A figure with one axes for each panel.

    Raises:
      ValueError: A panel is not `[num, 2]`.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> figure = plots.scatter({"codes": np.zeros((6, 2))}, np.repeat([0, 1], 3))
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['0', '1']
    """
    labels = np.asarray(labels)
    figure = Figure(figsize=(3.6 * len(panels), 3.6), layout="constrained")
    for axes, (name, points) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        points = np.asarray(points)
        if points.shape != (len(labels), 2):
            raise ValueError(
                f"scatter: the points of {name} have shape {points.shape}; give "
                f"[{len(labels)}, 2]."
            )
        for index, label in enumerate(np.unique(labels)):
            _draw_class(axes, points[labels == label], str(label), index, size)
        axes.set_title(drawn_text(name), **AS_GIVEN)
        axes.set(xticks=[], yticks=[])
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    return figure


def _draw_histograms(
    axes: Axes, series: Mapping[str, np.ndarray], num_bins: int
) -> list[Artist]:
    low, high = np.nanquantile(np.concatenate(list(series.values())), [0.005, 0.995])
    bins = np.linspace(low, high, num_bins + 1) if high > low else num_bins
    for color, (label, values) in zip(COLORS, series.items(), strict=False):
        axes.hist(
            values,
            bins,
            density=True,
            histtype="step",
            color=color,
            label=drawn_text(label),
            linewidth=1.3,
        )
    return list(axes.patches)


def _draw_class(
    axes: Axes, points: np.ndarray, name: str, index: int, size: float
) -> None:
    # Classes beyond the number of colors take the same colors with another marker.
    turn, color = index // len(COLORS), COLORS[index % len(COLORS)]
    axes.scatter(
        *points.T,
        s=size,
        color=color,
        marker="ox^s"[turn % 4],
        linewidths=0.3,
        alpha=0.6,
    )
    x, y = np.median(points, axis=0)
    text = axes.text(
        x,
        y,
        drawn_text(name),
        ha="center",
        va="center",
        fontsize=11,
        weight="bold",
        **AS_GIVEN,
    )
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])
