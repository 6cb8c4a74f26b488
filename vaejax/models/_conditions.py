"""Latents that hold a condition, which the decoder reads, beside their values."""

from typing import NamedTuple

from vaejax.base import Latent, Latents, PyTree, values


class Path(NamedTuple):
    """The part of a latent that is no value of it.

    Attributes:
      condition: the condition.
      path: the path of a hierarchical latent, else None.
    """

    condition: PyTree
    path: PyTree


def beside(z: Latent, condition: PyTree) -> Latents:
    """Return a latent that holds a condition too."""
    path = z.path if isinstance(z, Latents) else None
    return Latents(values(z), Path(condition, path))


def inner(z: Latents) -> Latent:
    """Return the latent without the condition."""
    return z.values if z.path.path is None else Latents(z.values, z.path.path)
