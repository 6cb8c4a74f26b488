"""The Hamiltonian transition on a posterior that is known exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.annealing import PARAMS, X, assert_mean, keys, over, run
from support.linear_gaussian import draw_posterior, vae

from vaejax.estimators import hamiltonian_transition


@pytest.mark.parametrize(
    ("exact", "num_steps"), [(True, 1), pytest.param(False, 30, marks=pytest.mark.slow)]
)
def test_hamiltonian_transition_keeps_and_reaches_its_target(exact, num_steps):
    def log_density(z):
        joined = jnp.concatenate([z["a"], z["b"]])
        return vae.decode(PARAMS, joined).log_prob(X) + vae.prior(PARAMS).log_prob(
            joined
        )

    def move(key, z):
        def step(z, i):
            return hamiltonian_transition(
                log_density,
                jax.random.fold_in(key, i),
                z,
                step_size=0.5,
                num_leapfrog=3,
            )

        z, acceptances = jax.lax.scan(step, z, jnp.arange(num_steps))
        return jnp.concatenate([z["a"], z["b"]]), acceptances

    samples = draw_posterior(PARAMS, X, 20_000)
    starts = samples if exact else np.zeros_like(samples)
    moved, acceptances = over(
        move, keys(1, 20_000), {"a": starts[:, :1], "b": starts[:, 1:]}
    )
    reference = draw_posterior(PARAMS, X, 1_000_000, seed=1)
    mean, covariance = reference.mean(axis=0), np.cov(reference.T)
    # So coarse a step that without the correction the moments would be others.
    assert 0.5 < acceptances.mean() < 0.9
    centered = moved - mean
    assert_mean(centered, 0)
    assert_mean(centered[:, :, None] * centered[:, None, :], covariance)


def test_hamiltonian_transition_stays_where_the_density_is_not_a_number():
    def log_density(z):
        return jnp.where(jnp.abs(z) < 1, 0, jnp.nan)

    z, acceptance = run(
        partial(hamiltonian_transition, log_density, step_size=100.0),
        jax.random.key(1),
        np.float32(0),
    )
    assert z == acceptance == 0
