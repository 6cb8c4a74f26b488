"""Decoding of many latents, which paths and grids share."""

from typing import Any

import jax

from vaejax._checks import check_key
from vaejax.base import VAE, Example, Key, Latent, Params
from vaejax.latent.points import PointEstimator


def decode_many(
    vae: VAE, params: Params, key: Key | None, zs: Latent, example_point: PointEstimator
) -> Example:
    """Decode `zs`, whose leaves have a leading axis, to one example each."""
    # One key for all: along a path only z differs.
    return jax.vmap(lambda z: example_point(key, vae.decode(params, z)))(zs)


def split_if_given(key: Key | None, num: int) -> Any:
    """Split a key, or repeat None where there is none."""
    if key is not None:
        check_key(key)
    return [None] * num if key is None else jax.random.split(key, num)
