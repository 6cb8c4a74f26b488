"""Mistakes in the choice of steps and dimensions.

What traversals and manifolds decode is tested for every model in
`tests/models/test_conformance.py`.
"""

import jax.numpy as jnp
import pytest

import vaejax


def test_mistakes_name_the_fix(model):
    vae, params, xs = model
    mistakes = [
        (
            lambda: vaejax.traverse(vae, params, xs[0], steps=jnp.zeros((2, 5))),
            r"\[dimensions, num\] with 3",
        ),
        (lambda: vaejax.manifold(vae, params, 3), "latent_size=2"),
        (
            lambda: vaejax.manifold(vae, params, 3, dimensions=(1, 1)),
            "two different ones below 3",
        ),
        (
            lambda: vaejax.manifold(vae, params, 3, dimensions=(0, 3)),
            "two different ones below 3",
        ),
    ]
    for mistake, fix in mistakes:
        with pytest.raises(ValueError, match=fix):
            mistake()
