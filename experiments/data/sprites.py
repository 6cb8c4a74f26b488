"""White shapes on black, rendered from their factors.

Shape, scale, orientation, horizontal and vertical place are those of dSprites (Matthey
et al. 2017), in whose full grid every combination of them occurs once, in 737,280
images of 64 x 64 pixels; a coarser grid of smaller images is the usual one here.
Drawing is ours: a pixel is white where its center lies in the shape. Nothing is random
and nothing is stored.

Orientations run once around. The square looks the same after a quarter of a turn and
the ellipse after half of one, as in dSprites: of these shapes no code can tell all
orientations apart.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vaejax.base import Array

FACTORS = ("shape", "scale", "orientation", "horizontal", "vertical")
SHAPES = ("square", "ellipse", "heart")
SMALLEST, LARGEST = 0.22, 0.44  # radius, of an image that reaches from -1 to 1
FARTHEST = 0.5  # of a center from the middle, along each axis: nothing is cut off


class Grid(NamedTuple):
    """The number of values of each factor, in the order of `FACTORS`, and of pixels.

    Attributes:
      sizes: number of values of each factor.
      pixels: pixels per side.
    """

    sizes: tuple[int, ...] = (3, 6, 20, 12, 12)
    pixels: int = 32

    @property
    def num(self) -> int:
        return math.prod(self.sizes)

    def factors(self) -> np.ndarray:
        """Return every combination once, the last factor fastest, `uint8 [num, 5]`."""
        return np.stack(
            np.unravel_index(np.arange(self.num), self.sizes), axis=1
        ).astype(np.uint8)

    def draw(self, num: int, *, seed: int) -> np.ndarray:
        """Return combinations drawn without replacement, `uint8 [num, 5]`."""
        return self.factors()[
            np.random.default_rng(seed).choice(self.num, num, replace=False)
        ]


COARSE = Grid()
FULL = Grid((3, 6, 40, 32, 32), 64)


def render(grid: Grid, factors: Array) -> Array:
    """Render one image of zeros and ones, float32 `[pixels, pixels]`.

    `factors` are the indices `[5]` of the values of its factors. Shapes turn
    counter-clockwise; places run from left to right and from top to bottom.
    """
    # The last orientation is one step short of the first, which is a whole turn on.
    steps = [1, _steps(grid, 1), grid.sizes[2], _steps(grid, 3), _steps(grid, 4)]
    shape, scale, turn, horizontal, vertical = factors.astype(jnp.float32) / jnp.array(
        steps, jnp.float32
    )
    radius = SMALLEST + (LARGEST - SMALLEST) * scale
    axis = (jnp.arange(grid.pixels, dtype=jnp.float32) + 0.5) / grid.pixels * 2 - 1
    across = axis[None, :] - FARTHEST * (2 * horizontal - 1)
    up = -(axis[:, None] - FARTHEST * (2 * vertical - 1))
    cosine, sine = jnp.cos(2 * jnp.pi * turn), jnp.sin(2 * jnp.pi * turn)
    x, y = (
        (cosine * across + sine * up) / radius,
        (cosine * up - sine * across) / radius,
    )
    return jnp.select(
        [shape == 0, shape == 1], [_square(x, y), _ellipse(x, y)], _heart(x, y)
    ).astype(jnp.float32)


def middle(grid: Grid) -> Array:
    """Render the largest heart, upright, as near to the middle as the grid has it."""
    _, scales, _, columns, rows = grid.sizes
    return render(grid, jnp.array([2, scales - 1, 0, columns // 2, rows // 2]))


def _steps(grid: Grid, factor: int) -> int:
    return max(grid.sizes[factor] - 1, 1)


def _square(x: Array, y: Array) -> Array:
    return jnp.maximum(jnp.abs(x), jnp.abs(y)) <= 0.7


def _ellipse(x: Array, y: Array) -> Array:
    return jnp.square(x) + jnp.square(y / 0.55) <= 1


def _heart(x: Array, y: Array) -> Array:
    # (x^2 + y^2 - 1)^3 <= x^2 y^3, which reaches from -1.14 to 1.14 across and from -1
    # to 1.24 up.
    x, y = 1.2 * x, 1.2 * y + 0.1
    return jnp.square(x) + jnp.square(y) - 1 <= jnp.cbrt(jnp.square(x)) * y
