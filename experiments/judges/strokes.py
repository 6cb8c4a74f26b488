"""Thickness and slant of the strokes of an image, measured on its pixels."""

import numpy as np
from scipy import ndimage

ZOOM = 4  # between pixels, where the edge of a gray stroke lies


def thickness(images: np.ndarray) -> np.ndarray:
    """Return the mean width of the strokes in pixels, `[num]`; NaN without ink.

    Ink is what is above one half, between pixels too. Across a stroke of width w the
    distance to the edge rises from 0 to w / 2 and falls again, w / 4 in the mean, so
    the width is four times the mean distance.

    Args:
      images: `[num, height, width]`, in [0, 1], bright strokes on black.
    """
    widths = np.full(len(images), np.nan)
    for index, image in enumerate(np.asarray(images, np.float64)):
        # Cut at the border of the frame too.
        ink = np.pad(
            ndimage.zoom(image, ZOOM, order=1, mode="grid-constant", grid_mode=True)
            > 0.5,
            1,
        )
        if ink.any():
            # A sample of the grid is half a step inside the edge at least.
            widths[index] = (
                4 * (np.mean(ndimage.distance_transform_edt(ink)[ink]) - 0.5) / ZOOM
            )
    return widths


def slant(images: np.ndarray) -> np.ndarray:
    """Return the angle of the strokes from the vertical in degrees, `[num]`.

    It is positive to the right, and NaN without ink: the shear that makes the ink's
    column and row uncorrelated, arctan(-cov(column, row) / var(row)), with rows counted
    downwards. Deslanting removes it.

    Args:
      images: `[num, height, width]`, in [0, 1], bright strokes on black.
    """
    images = np.asarray(images, np.float64)
    rows, columns = np.mgrid[: images.shape[1], : images.shape[2]]
    mass = images.sum(axis=(1, 2))

    def mean(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (images * values).sum(axis=(1, 2)) / mass

    rows, columns = (
        coordinates - mean(coordinates)[:, None, None]
        for coordinates in (rows, columns)
    )
    covariance, variance = mean(rows * columns), mean(rows**2)
    # Ink in one row has no slant, and a variance of rounding errors alone.
    with np.errstate(invalid="ignore"):
        return np.degrees(
            np.arctan2(-covariance, np.where(variance > 1e-12, variance, np.nan))
        )
