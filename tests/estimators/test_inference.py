"""Inference gaps on a linear-Gaussian model, where they are known; active units."""

from functools import partial

import jax
import numpy as np
import pytest
from support.linear_gaussian import (
    exact_elbo,
    exact_log_marginal,
    make_params,
    vae,
    with_best_encoder,
)

from vaejax import active_units
from vaejax.estimators import inference_gap, optimal_posterior

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)


def test_the_best_posterior_of_the_family_is_found():
    params = make_params()
    best = with_best_encoder(params)
    with jax.numpy_dtype_promotion("standard"):
        found = jax.jit(partial(optimal_posterior, vae))(params, jax.random.key(1), X)
    exact = vae.encode(best, X)
    np.testing.assert_allclose(found.mean, exact.mean, atol=0.02)
    np.testing.assert_allclose(found.log_variance, exact.log_variance, atol=0.1)


def test_the_inference_gaps_are_those_of_closed_forms():
    params = make_params()
    log_p, elbo = exact_log_marginal(params, X), float(exact_elbo(params, X))
    best = float(exact_elbo(with_best_encoder(params), X))
    with jax.numpy_dtype_promotion("standard"):
        gap = jax.jit(partial(inference_gap, vae))(
            params, jax.random.key(1), X, np.float32(log_p)
        )
    np.testing.assert_allclose(sum(gap), log_p, rtol=1e-5)
    # Over keys the first deviates by 0.015 and the others by 0.08.
    np.testing.assert_allclose(gap.approximation, log_p - best, atol=0.075)
    np.testing.assert_allclose(
        [gap.amortization, gap.elbo], [best - elbo, elbo], atol=0.4
    )
    assert log_p - best > 0.2


def test_at_the_best_encoder_only_the_approximation_gap_is_left():
    params = with_best_encoder(make_params())
    log_p = exact_log_marginal(params, X)
    with jax.numpy_dtype_promotion("standard"):
        gap = jax.jit(partial(inference_gap, vae))(
            params, jax.random.key(1), X, np.float32(log_p)
        )
    np.testing.assert_allclose(gap.amortization, 0, atol=0.02)
    np.testing.assert_allclose(
        gap.approximation, log_p - float(exact_elbo(params, X)), atol=0.075
    )


def test_the_inference_gap_checks_its_counts():
    for counts in ({"num_samples": 0}, {"num_steps": 0}):
        with pytest.raises(ValueError, match="is 0; give a positive integer"):
            inference_gap(
                vae, make_params(), jax.random.key(1), X, np.float32(0), **counts
            )


def test_active_units_counts_the_means_that_vary():
    alternating = np.where(np.arange(10) % 2, 1.0, -1.0).astype(np.float32)
    means = alternating[:, None] * np.float32([0, 0.09, 0.11, 2]) + np.float32(
        [5, 0, 0, 0]
    )
    assert active_units(means) == 2
    assert active_units(means, threshold=1.0) == 1
    assert active_units(means.reshape(10, 2, 2)) == 2
    with pytest.raises(ValueError, match="two examples"):
        active_units(means[:1])
