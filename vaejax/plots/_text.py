"""Titles and labels of figures, drawn as they are given, whatever they hold."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from vaejax._files import one_line

#: Options of a text that is no formula and no TeX, such as the name of a file.
AS_GIVEN: dict[str, Any] = {"parse_math": False, "usetex": False}
# A figure grows with its texts, and has at most 2^16 pixels.
_LONGEST_LINE, _MOST_LINES = 120, 4


def drawn_text(text: object) -> str:
    """Return a text as it is drawn, in few lines of bounded length.

    What cannot be printed is an escape, and of a long line the middle is left out.
    """
    *lines, last = str(text).split("\n", _MOST_LINES - 1)
    half = _LONGEST_LINE // 2
    return "\n".join(
        line if len(line) <= _LONGEST_LINE else f"{line[:half]}...{line[-half:]}"
        for line in map(one_line, [*lines, last])
    )


def text_list(texts: Iterable[object]) -> list[str]:
    """Return texts as they are drawn."""
    return [drawn_text(text) for text in texts]


def set_ticks(
    axis: Axis, places: Sequence[float], labels: Sequence[str], **options: Any
) -> None:
    """Set the ticks of an axis, with labels that are ready to be drawn."""
    axis.set_ticks(places, labels, fontsize=8, **options, **AS_GIVEN)


def label_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Label both axes."""
    axes.set_xlabel(drawn_text(xlabel), **AS_GIVEN)
    axes.set_ylabel(drawn_text(ylabel), **AS_GIVEN)


def draw_legend(
    owner: Axes | Figure,
    handles: Sequence[Artist],
    labels: Iterable[object],
    **options: Any,
) -> None:
    """Draw a legend of every label; matplotlib leaves out those that begin with `_`."""
    names = text_list(labels)[: len(handles)]
    numbers = [str(index) for index in range(len(names))]
    legend = owner.legend(handles, numbers, frameon=False, fontsize=8, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, **AS_GIVEN)
