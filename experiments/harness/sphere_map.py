"""A map of the unit sphere that keeps areas: Hammer's projection onto an ellipse."""

from typing import Any

import numpy as np


def equal_area_map(directions: np.ndarray) -> np.ndarray:
    """Return the places `[..., 2]` of directions `[..., 3]` on Hammer's map."""
    x, y, z = np.moveaxis(directions, -1, 0)
    half = np.arctan2(y, x) / 2  # of the longitude
    across = np.hypot(x, y)
    scale = np.sqrt(2 / (1 + across * np.cos(half)))
    return np.stack([2 * across * np.sin(half), z], axis=-1) * scale[..., None]


def directions_of(longitude: Any, height: Any) -> np.ndarray:
    """Return directions `[..., 3]` of longitudes in radians and of their z."""
    longitude, height = np.broadcast_arrays(longitude, height)
    across = np.sqrt(1 - np.square(height))
    return np.stack(
        [across * np.cos(longitude), across * np.sin(longitude), height], axis=-1
    )


def draw_graticule(axes: Any) -> None:
    """Draw meridians and parallels of the map, every 30 degrees, and its edge."""
    heights, turn = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 91)), np.pi * (1 - 1e-9)
    meridians = [(angle, heights) for angle in np.linspace(-turn, turn, 13)]
    longitudes = np.linspace(-turn, turn, 181)
    parallels = [
        (longitudes, height) for height in np.sin(np.pi / 6 * np.arange(-2, 3))
    ]
    for index, line in enumerate(meridians + parallels):
        places = equal_area_map(directions_of(*line))
        width = 0.8 if index in (0, len(meridians) - 1) else 0.2
        axes.plot(*places.T, color="gray", linewidth=width, zorder=0)
    axes.axis("off")
