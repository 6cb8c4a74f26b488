"""Numbers in cells of color, and bars of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vaejax.plots._text import AS_GIVEN, drawn_text, label_axes, set_ticks, text_list
from vaejax.plots.palette import COLORS


def heatmaps(
    grids: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    label: str,
    title: str = "",
    columns: int = 3,
) -> Figure:
    """Return a figure of small heat maps that share one scale of colors.

    The scale goes from 0 to the 99 % quantile of all values, so that a few large ones
    do not hide the rest.

    Args:
      grids: Non-negative values by the titles of their panels, `[rows, columns]`; the
        first row is at the bottom.
      xlabel: The label of the x-axes.
      ylabel: The label of the y-axes.
      label: The label of the scale of colors, with the unit.
      title: The title of the figure.
      columns: The number of panels side by side.

    Returns:
      A figure with one axes for each cell of the grid of panels, and the scale.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> figure = plots.heatmaps(
      ...     {"seed 0": np.ones((5, 4))}, xlabel="latent", ylabel="epoch", label="nats"
      ... )
      >>> len(figure.axes)
      2
    """
    arrays = {name: np.asarray(values, float) for name, values in grids.items()}
    rows, width = -(-len(arrays) // columns), min(columns, len(arrays))
    figure = Figure(figsize=(2.2 * width + 0.8, 1.9 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, width, squeeze=False, sharex=True, sharey=True)
    everything = np.concatenate([array.ravel() for array in arrays.values()])
    high = np.nanquantile(everything, 0.99)
    for axes, (name, array) in zip(panels.flat, arrays.items(), strict=False):
        extent = (0.5, array.shape[1] + 0.5, 0.5, len(array) + 0.5)
        drawn = axes.imshow(
            array,
            aspect="auto",
            origin="lower",
            cmap="viridis",
            vmin=0,
            vmax=high,
            extent=extent,
        )
        axes.set_title(drawn_text(name), fontsize=8, **AS_GIVEN)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels.flat[len(arrays) :]:
        axes.set_visible(False)
    bar = figure.colorbar(drawn, ax=panels, extend="max", shrink=0.8)
    bar.set_label(drawn_text(label), **AS_GIVEN)
    figure.supxlabel(drawn_text(xlabel), fontsize=9, **AS_GIVEN)
    figure.supylabel(drawn_text(ylabel), fontsize=9, **AS_GIVEN)
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    return figure


def matrix(
    values: ArrayLike,
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    label: str,
    title: str = "",
    limits: tuple[float, float] = (-1, 1),
) -> Figure:
    """Return a figure of a table in colors, each cell with its number.

    If the range of the colors starts below 0, white is at 0; otherwise high values are
    dark.

    Args:
      values: The numbers, `[rows, columns]`.
      row_labels: A label for each row.
      column_labels: A label for each column.
      label: The label of the scale of colors.
      title: The title of the figure.
      limits: The range of the colors; a range that starts below 0 is symmetric.

    Returns:
      A figure with the table and the scale.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> figure = plots.matrix(
      ...     np.eye(2), row_labels="ab", column_labels="xy", label="correlation"
      ... )
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['1.00', '0.00', '0.00', '1.00']
    """
    values = np.asarray(values, float)
    figure = Figure(
        figsize=(0.62 * values.shape[1] + 2.0, 0.28 * len(values) + 1.0),
        layout="constrained",
    )
    axes = figure.subplots()
    low, high = limits
    # Both are told apart without color vision.
    cmap = "PuOr" if low < 0 else "Blues"
    drawn = axes.imshow(values, aspect="auto", cmap=cmap, vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(values):
        dark = abs(value) > 0.6 * max(abs(low), abs(high))
        axes.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "black",
        )
    set_ticks(axes.xaxis, range(values.shape[1]), text_list(column_labels))
    set_ticks(axes.yaxis, range(len(values)), text_list(row_labels))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label(drawn_text(label), **AS_GIVEN)
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    return figure


def bars(
    values: ArrayLike,
    *,
    labels: Sequence[str],
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Figure:
    """Return a figure of bars, each a mean over seeds with an error bar of one std.

    Args:
      values: The heights, `[bars]` or `[bars, seeds]`; NaN of a seed is left out.
      labels: A label for each bar.
      xlabel: The label of the x-axis.
      ylabel: The label of the y-axis, with the unit.
      title: The title of the figure.

    Returns:
      A figure with one axes.

    Example:
      >>> from vaejax import plots
      >>> figure = plots.bars(
      ...     [0.5, 2.0], labels=["z0", "z1"], xlabel="latent", ylabel="KL (nats)"
      ... )
      >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
      [0.5, 2.0]
    """
    values = np.asarray(values, float).reshape(len(labels), -1)
    labels = text_list(labels)
    longest = max(map(len, labels))
    width = max(3.2, 0.3 * len(labels) + 1.2)
    # Labels of up to 12 letters leave enough of the height to the bars.
    height = 2.8 + 0.06 * max(0, longest - 12)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    # The values of a seed that diverged are NaN.
    error = np.nanstd(values, axis=1, ddof=1) if values.shape[1] > 1 else None
    axes.bar(
        range(len(values)),
        np.nanmean(values, axis=1),
        yerr=error,
        color=COLORS[0],
        capsize=2,
    )
    rotation = 90 if longest > 4 else 0
    set_ticks(axes.xaxis, range(len(values)), labels, rotation=rotation)
    label_axes(axes, xlabel, ylabel)
    axes.grid(alpha=0.3, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    return figure
