"""Grids of images, as one image, as a figure and as an animation."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaejax.plots._text import AS_GIVEN, drawn_text, set_ticks, text_list


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
