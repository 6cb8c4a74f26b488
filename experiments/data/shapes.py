"""Colored shapes on a colored ground, rendered: images whose factors are known.

Every set is a function of its size and the seed alone: squares, discs, triangles and
rings of some color, size, place and angle on a ground of some color, with edges
smoothed over a pixel.
"""

from typing import NamedTuple

import numpy as np

from experiments.harness import keys

KINDS = ("square", "disc", "triangle", "ring")


class Shapes(NamedTuple):
    """Images and their factors.

    Attributes:
      images: `uint8 [num, size, size, 3]`.
      kinds: `uint8 [num]`, indices into `KINDS`.
      factors: `float32 [num, 6]`: horizontal and vertical place in [-1, 1], radius,
        angle, hue, hue of the ground.
    """

    images: np.ndarray
    kinds: np.ndarray
    factors: np.ndarray


def render(num: int, *, size: int = 64, seed: int = keys.RENDERED_SHAPES) -> Shapes:
    """Render `num` images of `size` by `size` pixels."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, len(KINDS), num).astype(np.uint8)
    low, high = (
        np.array([-0.4, -0.4, 0.25, 0.0, 0.0, 0.0]),
        np.array([0.4, 0.4, 0.5, np.pi / 2, 1.0, 1.0]),
    )
    factors = (low + (high - low) * rng.random((num, 6))).astype(np.float32)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    columns, rows = np.meshgrid(axis, axis)
    images = np.empty((num, size, size, 3), np.uint8)
    for image, kind, (x, y, radius, angle, hue, ground) in zip(
        images, kinds, factors, strict=True
    ):
        across, down = columns - x, rows - y
        turned = (
            np.cos(angle) * across + np.sin(angle) * down,
            np.cos(angle) * down - np.sin(angle) * across,
        )
        inside = np.clip(
            -_distance(KINDS[kind], *turned, radius) * size / 2 + 0.5, 0, 1
        )[..., None]
        color = inside * _color(hue, 0.95) + (1 - inside) * _color(ground, 0.35)
        image[:] = np.rint(255 * color)
    return Shapes(images, kinds, factors)


def _distance(kind: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Approximate distance of a place from the shape; negative inside."""
    if kind == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.8 * radius
    if kind == "disc":
        return np.hypot(x, y) - radius
    if kind == "ring":
        return np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius
    return (
        np.maximum(np.maximum(0.866 * x + 0.5 * y, -0.866 * x + 0.5 * y), -y)
        - 0.55 * radius
    )


def _color(hue: float, value: float) -> np.ndarray:
    """A saturated color: three cosines a third of a turn apart."""
    return value * (0.5 + 0.5 * np.cos(2 * np.pi * (hue + np.array([0, 1, 2]) / 3)))
