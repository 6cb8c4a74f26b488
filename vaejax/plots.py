"""Figures: arrays in, a matplotlib `Figure` out. No global state: nothing here touches
pyplot or its settings.

Save one with `figure.savefig("name.png", dpi=200)`, or as ".pdf" for print.
"""

import io
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike

# Okabe & Ito 2008: told apart by readers with any color vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def tile(images: ArrayLike, *, gap: int = 1) -> np.ndarray:
    """Images `[rows, columns, height, width]` or `[..., channels]` in [0, 1] as one,
    with a gray gap between them.

    One channel is gray and three are red, green and blue; of any other number each
    channel is a gray panel of its own, side by side in one cell.

    Raises:
      ValueError: there are not four or five axes.
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
    """A grid of images `[rows, columns, height, width]` or `[..., channels]`, labeled
    at its rows and columns.

    Any number of channels, as `tile` shows them.
    """
    canvas = tile(images)
    rows, columns, height = np.shape(images)[:3]
    width = (canvas.shape[1] + 1) // columns - 1
    margin = 0.075 * max((len(label) for label in row_labels), default=0)
    size = (
        columns * cell_inches * width / height + margin + 0.2,
        rows * cell_inches + 0.45,
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        canvas,
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes.set_title(title, fontsize=9)
    axes.set_yticks(
        [row * (height + 1) + (height - 1) / 2 for row in range(len(row_labels))],
        row_labels,
        fontsize=8,
    )
    axes.set_xticks(
        [
            column * (width + 1) + (width - 1) / 2
            for column in range(len(column_labels))
        ],
        column_labels,
        fontsize=8,
    )
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
    """Lines over `x`: each of `series` is `[len(x)]`, or `[len(x), seeds]` drawn as its
    mean with a band of one std.

    The y-axis is scaled to the points from index `scale_from` on: the first ones of a
    training curve dwarf the rest. A logarithmic y-axis shows all.
    """
    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    low, high = np.inf, -np.inf
    for color, (label, values) in zip(
        itertools.cycle(COLORS), series.items(), strict=False
    ):
        values = np.asarray(values, float)
        if len(values) != len(x):
            raise ValueError(
                f"curves: {label!r} has {len(values)} points and x has {len(x)}; see "
                "of_one_length."
            )
        values = values.reshape(len(x), -1)
        # A diverged series has no place on the axis, and breaks off.
        finite = values[scale_from:][np.isfinite(values[scale_from:])]
        low, high = (
            min(low, np.min(finite, initial=np.inf)),
            max(high, np.max(finite, initial=-np.inf)),
        )
        mean = values.mean(axis=1)
        axes.plot(
            x,
            mean,
            color=color,
            label=label,
            linewidth=1.5,
            marker="o" if len(mean) < 8 else None,
        )
        if values.shape[1] > 1:
            std = values.std(axis=1, ddof=1)
            low, high = (
                min(low, *(mean - std)[scale_from:]),
                max(high, *(mean + std)[scale_from:]),
            )
            axes.fill_between(
                x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0
            )
            if len(mean) == 1:  # a band of no width
                axes.errorbar(x, mean, std, color=color, capsize=3)
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif low <= high:
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.suptitle(title, fontsize=9)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        if len(x) < 8:
            axes.set_xticks(
                list(x),
                [
                    f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
                    for value in x
                ],
            )
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(
            MaxNLocator(integer=bool(np.all(np.equal(np.mod(x, 1), 0))))
        )
    if len(x) == 1:
        axes.set_xticks(list(x))
    axes.grid(alpha=0.3)
    # Above the axes, where its markers are not taken for data.
    axes.legend(
        frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def heatmaps(
    grids: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    label: str,
    title: str = "",
    columns: int = 3,
) -> Figure:
    """A small panel for each of `grids`, `[rows, columns]`, of one scale of colors;
    the first row is at the bottom.

    The scale ends at the 99 % quantile of all values, so that a few do not hide the
    rest.
    """
    arrays = {name: np.asarray(values, float) for name, values in grids.items()}
    rows = -(-len(arrays) // columns)
    figure = Figure(
        figsize=(2.2 * min(columns, len(arrays)) + 0.8, 1.9 * rows + 0.4),
        layout="constrained",
    )
    panels = figure.subplots(
        rows, min(columns, len(arrays)), squeeze=False, sharex=True, sharey=True
    )
    high = np.nanquantile(
        np.concatenate([array.ravel() for array in arrays.values()]), 0.99
    )
    for axes, (name, array) in itertools.zip_longest(
        panels.flat, arrays.items(), fillvalue=(None, None)
    ):
        if name is None:
            axes.set_visible(False)
            continue
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
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(drawn, ax=panels, label=label, extend="max", shrink=0.8)
    figure.supxlabel(xlabel, fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    figure.suptitle(title, fontsize=9)
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
    """A table `[rows, columns]` in colors, each cell with its number; `limits` is the
    range of the colors.

    A range about zero has white at zero, another one is dark where it is high.
    """
    values = np.asarray(values, float)
    figure = Figure(
        figsize=(0.62 * values.shape[1] + 2.0, 0.28 * len(values) + 1.0),
        layout="constrained",
    )
    axes = figure.subplots()
    low, high = limits
    # Both are told apart without color vision.
    drawn = axes.imshow(
        values, aspect="auto", cmap="PuOr" if low < 0 else "Blues", vmin=low, vmax=high
    )
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
    axes.set_xticks(range(values.shape[1]), column_labels, fontsize=8)
    axes.set_yticks(range(len(values)), row_labels, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.8)
    figure.suptitle(title, fontsize=9)
    return figure


def bars(
    values: ArrayLike,
    *,
    labels: Sequence[str],
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Figure:
    """A bar for each of `values`, `[bars]`, or `[bars, seeds]` drawn as mean with an
    error bar of one std.
    """
    values = np.asarray(values, float).reshape(len(labels), -1)
    figure = Figure(
        figsize=(max(3.2, 0.3 * len(labels) + 1.2), 2.8), layout="constrained"
    )
    axes = figure.subplots()
    # A seed that diverged is not a number.
    error = np.nanstd(values, axis=1, ddof=1) if values.shape[1] > 1 else None
    axes.bar(
        range(len(values)),
        np.nanmean(values, axis=1),
        yerr=error,
        color=COLORS[0],
        capsize=2,
    )
    axes.set_xticks(
        range(len(values)),
        labels,
        fontsize=8,
        rotation=90 if max(map(len, labels)) > 4 else 0,
    )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    return figure


def animation(
    frames: ArrayLike,
    *,
    seconds: float = 0.08,
    zoom: int = 2,
    there_and_back: bool = True,
) -> bytes:
    """A GIF of `frames`, `[frames, rows, columns, height, width]` or with channels,
    each a grid; it runs for ever.

    Args:
      frames: images in [0, 1].
      seconds: each frame.
      zoom: screen pixels a side of each pixel.
      there_and_back: whether it returns through the same frames, so that nothing jumps.

    Raises:
      ValueError: there are not five or six axes.
    """
    # Comes with matplotlib.
    from PIL import Image

    if np.ndim(frames) not in (5, 6):
        raise ValueError(
            f"animation: frames have shape {np.shape(frames)}; give [frames, rows, "
            "columns, height, width] or "
            "[..., channels]."
        )
    tiles = [
        np.uint8(np.rint(255 * np.clip(tile(frame), 0, 1)))
        .repeat(zoom, axis=0)
        .repeat(zoom, axis=1)
        for frame in frames
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


def of_one_length(
    series: Mapping[str, ArrayLike],
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Epochs from 1 on, and every series `[epochs, seeds]` continued with NaN: the
    shorter ones break off.
    """
    arrays = {
        label: np.asarray(values, float).reshape(len(values), -1)
        for label, values in series.items()
    }
    length = max(map(len, arrays.values()))
    padded = {
        label: np.pad(array, ((0, length - len(array)), (0, 0)), constant_values=np.nan)
        for label, array in arrays.items()
    }
    return list(range(1, length + 1)), padded


def histograms(
    series: Mapping[str, ArrayLike],
    *,
    titles: Sequence[str],
    title: str = "",
    columns: int = 3,
    num_bins: int = 30,
) -> Figure:
    """A small histogram for each dimension; each of `series` is `[examples,
    dimensions]`, drawn over the others.

    The axis covers the middle 99 % of all values, so that a few far ones do not hide
    the rest.
    """
    arrays = {label: np.asarray(values, float) for label, values in series.items()}
    rows = -(-len(titles) // columns)
    width = min(columns, len(titles))
    figure = Figure(figsize=(2.2 * width + 0.4, 1.7 * rows + 0.6), layout="constrained")
    grid = np.ravel(figure.subplots(rows, width, squeeze=False))
    for index, (axes, name) in enumerate(zip(grid, titles, strict=False)):
        values = np.concatenate([array[:, index] for array in arrays.values()])
        low, high = np.nanquantile(values, [0.005, 0.995])
        bins = np.linspace(low, high, num_bins + 1) if high > low else num_bins
        for color, (label, array) in zip(COLORS, arrays.items(), strict=False):
            axes.hist(
                array[:, index],
                bins,
                density=True,
                histtype="step",
                color=color,
                label=label,
                linewidth=1.3,
            )
        axes.set_title(name, fontsize=8)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(title, fontsize=9)
    return figure


def scatter(
    panels: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    title: str = "",
    size: float = 3.0,
) -> Figure:
    """Points `[num, 2]` in a panel each, colored by their class, which is written at
    the middle of its points.

    Args:
      panels: points by the name of their panel.
      labels: classes, `[num]`, the same for every panel.
      title: above all.
      size: of a point, in square points.

    Raises:
      ValueError: a panel is not `[num, 2]`.
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
            # More classes than colors take them again with another marker.
            among, turn = points[labels == label], index // len(COLORS)
            color = COLORS[index % len(COLORS)]
            axes.scatter(
                *among.T,
                s=size,
                color=color,
                marker="ox^s"[turn % 4],
                linewidths=0.3,
                alpha=0.6,
            )
            text = axes.text(
                *np.median(among, axis=0),
                str(label),
                ha="center",
                va="center",
                fontsize=11,
                weight="bold",
            )
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        axes.set(title=name, xticks=[], yticks=[])
    figure.suptitle(title, fontsize=9)
    return figure
