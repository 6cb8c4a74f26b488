"""Series over x, each a mean over seeds with a band."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike

from vaejax.plots._text import AS_GIVEN, draw_legend, drawn_text, label_axes
from vaejax.plots.palette import COLORS


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
