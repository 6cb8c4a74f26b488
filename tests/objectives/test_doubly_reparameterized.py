"""Doubly reparameterized gradients against quadrature, on a linear-Gaussian model."""

from functools import partial

import jax
import numpy as np
import pytest
from support import quadrature
from support.linear_gaussian import make_params, recording, vae, with_best_encoder
from support.quadrature import (
    IWAE,
    assert_gradient_is_unbiased,
    assert_value_is_the_iwae,
    encoder_gradients,
    mixed,
    negated,
    negative_wake,
)

from vaejax.objectives import negative_dreg

# The objective, the exact loss whose gradient the encoder follows, and that of the
# decoder.
CASES = {
    "dreg": (
        partial(negative_dreg, num_samples=2),
        negated(IWAE),
        negated(IWAE),
    ),
    "rws-dreg": (
        partial(negative_dreg, num_samples=2, alpha=1.0),
        negative_wake,
        negated(IWAE),
    ),
    "dreg, alpha 0.3": (
        partial(negative_dreg, num_samples=2, alpha=0.3),
        mixed((-0.7, IWAE), (0.3, negative_wake)),
        negated(IWAE),
    ),
}
# At the exact posterior the encoder is left alone, draw by draw.
VANISHING = {
    "dreg": partial(negative_dreg, num_samples=4),
    "rws-dreg": partial(negative_dreg, num_samples=4, alpha=1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_unbiased_within_five_standard_errors(name):
    assert_gradient_is_unbiased(*CASES[name])


@pytest.mark.parametrize("name", VANISHING)
def test_gradients_vanish_at_the_exact_posterior(name, x64):
    # Orthogonal loadings, so that a diagonal posterior is exact.
    params = with_best_encoder(make_params(orthogonal=True))
    gradients = encoder_gradients(VANISHING[name], params, np.arange(5.0))
    np.testing.assert_allclose(gradients, 0, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_value_is_the_iwae_of_the_same_samples(alpha):
    objective = partial(negative_dreg, num_samples=6, alpha=alpha)
    assert_value_is_the_iwae(objective)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_num_samples_is_a_positive_integer(count):
    with pytest.raises(ValueError, match=f"is {count}; give a positive integer"):
        negative_dreg(
            vae,
            quadrature.PARAMS,
            jax.random.key(1),
            quadrature.X,
            num_samples=count,
        )


def test_each_sample_is_decoded_once():
    recorded, decoded = recording(vae)
    program = jax.jit(partial(negative_dreg, recorded, num_samples=3))
    jax.block_until_ready(program(quadrature.PARAMS, jax.random.key(1), quadrature.X))
    jax.effects_barrier()
    assert len(decoded) == len(set(decoded)) == 3
