"""The layout of manifolds, and mistakes in the choice of steps and dimensions.

What traversals decode is tested for every model in
`tests/models/test_conformance.py`.
"""

from statistics import NormalDist

import jax.numpy as jnp
import pytest
from support.case_setup import assert_close, row, setup

import vaejax


def test_the_manifold_is_laid_out_as_the_axes_of_a_figure():
    case = row("linear_gaussian")
    params, _ = setup(case)
    cells = vaejax.manifold(case.vae, params, 3)
    low, middle, high = (NormalDist().inv_cdf(mass) for mass in (1 / 6, 1 / 2, 5 / 6))
    for (r, c), z in {
        (0, 0): (low, high),
        (0, 2): (high, high),
        (1, 1): (middle, middle),
        (2, 0): (low, low),
    }.items():
        assert_close(cells[r, c], case.vae.decode(params, jnp.array(z)).mean)
    case = row("mlp_bernoulli")
    with pytest.raises(ValueError, match="latent_size=2"):
        vaejax.manifold(case.vae, setup(case)[0], 3)


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
