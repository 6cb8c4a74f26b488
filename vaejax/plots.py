"""Figures: arrays in, a matplotlib `Figure` out, without pyplot or global settings.

Titles and labels are drawn as they are given: a `$` starts no formula, what cannot be
printed is drawn as an escape, and of a long line the middle is left out. Save a figure
with `figure.savefig("name.png", dpi=200)`, or as ".pdf" for print.
"""

import io
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

try:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import (
        MaxNLocator,
        NullFormatter,
        NullLocator,
        StrMethodFormatter,
    )

    from vaejax._figure_text import (
        AS_GIVEN,
        draw_legend,
        drawn_text,
        label_axes,
        set_ticks,
        text_list,
    )
except ImportError as error:
    raise ImportError(
        "vaejax.plots needs matplotlib: pip install 'vaejax[plots]'."
    ) from error

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

#: Seven colors told apart by readers with any color vision (Okabe & Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def tile(images: ArrayLike, *, gap: int = 1) -> np.ndarray:
    """Return a grid of images as one image, with a gray gap between them.

    One channel is gray and three are red, green and blue; of any other number each
    channel is a gray panel of its own, side by side in one cell.

    Args:
      images: `[rows, columns, height, width]` or `[..., channels]` in [0, 1]; values
        outside are clipped.
      gap: The width of the gap in pixels.

    Returns:
      An image `[rows * (height + gap) - gap, columns * (width + gap) - gap]`, with a
      last axis of 3 for red, green and blue; `float32`.

    Raises:
      ValueError: The images have neither four nor five axes.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> plots.tile(np.zeros((2, 3, 8, 8))).shape
      (17, 26)
    """
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    if images.ndim not in (4, 5):
        raise ValueError(
            f"tile: images have shape {images.shape}; give [rows, columns, height, "
            "width] or [..., channels]."
        )
    if images.ndim == 5 and images.shape[-1] != 3:
        images = np.concatenate(np.moveaxis(images, -1, 0), axis=-1)
    rows, columns, height, width, *channels = images.shape
    canvas = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, *channels),
        0.5,
        np.float32,
    )
    for row, column in np.ndindex(rows, columns):
        top, left = row * (height + gap), column * (width + gap)
        canvas[top : top + height, left : left + width] = images[row, column]
    return canvas


def image_grid(
    images: ArrayLike,
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    cell_inches: float = 0.5,
) -> Figure:
    """Return a figure of a grid of images, labeled at its rows and columns.

    Args:
      images: `[rows, columns, height, width]` or `[..., channels]` in [0, 1], with
        channels as in `tile`.
      title: The title of the figure.
      row_labels: A label for each row, or none.
      column_labels: A label for each column, or none.
      cell_inches: The height of one image in inches.

    Returns:
      A figure with one axes.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> figure = plots.image_grid(np.zeros((2, 3, 8, 8)), row_labels=["x", "mean"])
      >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
      ['x', 'mean']
    """
    canvas = tile(images)
    rows, columns, height = np.shape(images)[:3]
    width = (canvas.shape[1] + 1) // columns - 1
    row_labels, column_labels = text_list(row_labels), text_list(column_labels)
    margin = 0.075 * max((len(label) for label in row_labels), default=0)
    size = (
        columns * cell_inches * width / height + margin + 0.2,
        rows * cell_inches + 0.45,
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(drawn_text(title), fontsize=9, **AS_GIVEN)
    for axis, labels, length in (
        (axes.yaxis, row_labels, height),
        (axes.xaxis, column_labels, width),
    ):
        set_ticks(axis, _middles(len(labels), length), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def curves(
    x: Sequence[float],
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    scale_from: int = 0,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Return a figure of lines over x, each a mean over seeds with a band of one std.

    Args:
      x: The positions of the points, `[points]`.
      series: The lines by their labels, `[points]` or `[points, seeds]`. A line breaks
        off where a value is not finite.
      xlabel: The label of the x-axis.
      ylabel: The label of the y-axis, with the unit.
      title: The title of the figure.
      scale_from: The index of the first point that the scale of the y-axis covers,
        since the first points of a training curve outgrow the rest. A logarithmic
        y-axis covers all.
      log_x: True for a logarithmic x-axis.
      log_y: True for a logarithmic y-axis.

    Returns:
      A figure with one axes.

    Raises:
      ValueError: The length of a series is not that of `x`; see `pad_series`.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> figure = plots.curves(
      ...     [1, 2, 3], {"train": np.ones((3, 5))}, xlabel="epoch", ylabel="nats"
      ... )
      >>> figure.axes[0].get_ylabel()
      'nats'
    """
    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    arrays = [_points_of(label, values, len(x)) for label, values in series.items()]
    lines = [
        _draw_curve(axes, x, values, color=color, label=drawn_text(label))
        for color, label, values in zip(
            itertools.cycle(COLORS), series, arrays, strict=False
        )
    ]
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        _scale_y(axes, [values[scale_from:] for values in arrays])
    label_axes(axes, xlabel, ylabel)
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    _set_x_ticks(axes, x, log_x)
    axes.grid(alpha=0.3)
    # Above the axes, where its markers are not taken for data.
    draw_legend(axes, lines, series, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def pad_series(
    series: Mapping[str, ArrayLike],
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Return epochs from 1 on, and series of different lengths continued with NaN.

    The first two arguments of `curves`, for runs of which some stopped early.

    Args:
      series: The values by their labels, `[epochs]` or `[epochs, seeds]`, with any
        number of epochs.

    Returns:
      The numbers of the epochs and the series, `[epochs, seeds]`, all as long as the
      longest.

    Example:
      >>> from vaejax import plots
      >>> epochs, series = plots.pad_series({"a": [3.0, 2.0, 1.0], "b": [4.0]})
      >>> epochs, series["b"].shape
      ([1, 2, 3], (3, 1))
    """
    arrays = {
        label: (array := np.asarray(values, float)).reshape(len(array), -1)
        for label, values in series.items()
    }
    length = max(map(len, arrays.values()))
    padded = {
        label: np.pad(array, ((0, length - len(array)), (0, 0)), constant_values=np.nan)
        for label, array in arrays.items()
    }
    return list(range(1, length + 1)), padded


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
    figure = Figure(
        figsize=(max(3.2, 0.3 * len(labels) + 1.2), 2.8), layout="constrained"
    )
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
    rotation = 90 if max(map(len, labels)) > 4 else 0
    set_ticks(axes.xaxis, range(len(values)), labels, rotation=rotation)
    label_axes(axes, xlabel, ylabel)
    axes.grid(alpha=0.3, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(drawn_text(title), fontsize=9, **AS_GIVEN)
    return figure


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


def animation(
    frames: ArrayLike,
    *,
    seconds: float = 0.08,
    zoom: int = 2,
    there_and_back: bool = True,
) -> bytes:
    """Return a GIF that shows grids of images one after the other, repeated for ever.

    Args:
      frames: Grids of images, `[frames, rows, columns, height, width]` or
        `[..., channels]` in [0, 1], with channels as in `tile`.
      seconds: The time that each frame is shown.
      zoom: The side of each pixel in screen pixels, a positive integer.
      there_and_back: True to return through the same frames, so that nothing jumps.

    Returns:
      The bytes of the file.

    Raises:
      ValueError: The frames have neither five nor six axes.

    Example:
      >>> import numpy as np
      >>> from vaejax import plots
      >>> plots.animation(np.zeros((3, 1, 1, 8, 8)))[:6]
      b'GIF89a'
    """
    # Comes with matplotlib.
    from PIL import Image

    if np.ndim(frames) not in (5, 6):
        raise ValueError(
            f"animation: frames have shape {np.shape(frames)}; give [frames, rows, "
            "columns, height, width] or [..., channels]."
        )
    tiles = [
        np.uint8(np.rint(255 * np.clip(tile(frame), 0, 1)))
        .repeat(zoom, axis=0)
        .repeat(zoom, axis=1)
        for frame in np.asarray(frames)
    ]
    if there_and_back:
        tiles += tiles[-2:0:-1]
    first, *rest = map(Image.fromarray, tiles)
    file = io.BytesIO()
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=round(1000 * seconds),
        loop=0,
    )
    return file.getvalue()


def _middles(num: int, length: int) -> list[float]:
    """Return the middles of tiles of a length, with a gap of one pixel between them."""
    return [index * (length + 1) + (length - 1) / 2 for index in range(num)]


def _points_of(label: str, values: ArrayLike, num: int) -> np.ndarray:
    """Return a series as `[points, seeds]`; raise a ValueError at another length."""
    values = np.asarray(values, float)
    if len(values) != num:
        raise ValueError(
            f"curves: {label!r} has {len(values)} points and x has {num}; see "
            "pad_series."
        )
    return values.reshape(num, -1)


def _draw_curve(
    axes: Axes, x: Sequence[float], values: np.ndarray, *, color: str, label: str
) -> Artist:
    mean = values.mean(axis=1)
    marker = "o" if len(mean) < 8 else None
    (line,) = axes.plot(x, mean, color=color, label=label, linewidth=1.5, marker=marker)
    if values.shape[1] > 1:
        std = values.std(axis=1, ddof=1)
        axes.fill_between(
            x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0
        )
        if len(mean) == 1:  # a band of no width
            axes.errorbar(x, mean, std, color=color, capsize=3)
    return line


def _scale_y(axes: Axes, series: Sequence[np.ndarray]) -> None:
    """Scale the y-axis to the finite values of the series, and to their bands."""
    shown = []
    for values in series:
        shown.append(values.ravel())
        if values.shape[1] > 1:
            mean, std = values.mean(axis=1), values.std(axis=1, ddof=1)
            shown += [mean - std, mean + std]
    # A diverged series has no place on the axis, and breaks off.
    finite = np.concatenate(shown)
    finite = finite[np.isfinite(finite)]
    if finite.size:
        low, high = finite.min(), finite.max()
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _set_x_ticks(axes: Axes, x: Sequence[float], log: bool) -> None:
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        if len(x) < 8:
            names = [f"{v:,.0f}" if v == round(v) else f"{v:.3g}" for v in x]
            axes.set_xticks(list(x), names)
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        integers = bool(np.all(np.equal(np.mod(x, 1), 0)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=integers))
    if len(x) == 1:
        axes.set_xticks(list(x))


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
