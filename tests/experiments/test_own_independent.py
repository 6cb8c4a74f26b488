"""Independent dimensions are fitted to their maximum likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support.programs import users_settings

import vaejax
from experiments.harness import verdict
from experiments.own import independent


@pytest.mark.parametrize("loc", [0.0, 2.5])
def test_a_normal_has_the_moments_of_the_data(loc):
    xs = np.random.default_rng(0).normal(loc, [0.5, 2.0], (400, 2)).astype(np.float32)
    with users_settings():
        found = independent.fit(
            vaejax.normal_head(), jnp.zeros((2, 2)), xs, lambda x: x
        )
        alone = verdict.log_probs(found, jnp.asarray(xs))
    best = stats.norm(xs.mean(axis=0), xs.std(axis=0)).logpdf(xs).sum(axis=1)
    # Below the largest likelihood by at most this, above it by rounding alone.
    assert alone.mean() == pytest.approx(best.mean(), abs=1e-4)


def test_a_bernoulli_has_the_frequencies_of_the_data():
    rng = np.random.default_rng(0)
    xs = (rng.random((500, 2, 2)) < [[0.1, 0.5], [0.9, 0.99]]).astype(np.float32)
    with users_settings():
        found = independent.fit(
            vaejax.Bernoulli.head,
            jnp.zeros((2, 2)),
            xs,
            lambda x: x,
        )
    np.testing.assert_allclose(jax.nn.sigmoid(found.logits), xs.mean(axis=0), atol=5e-3)


@pytest.mark.slow
def test_batches_leave_less_than_a_hundredth_of_a_nat(monkeypatch):
    monkeypatch.setattr(independent, "MOST_VALUES", 0)  # of 64 examples
    xs = np.random.default_rng(0).normal(3, [0.5, 2.0], (5000, 2)).astype(np.float32)
    with users_settings():
        found = independent.fit(
            vaejax.normal_head(), jnp.zeros((2, 2)), xs, lambda x: x
        )
        alone = verdict.log_probs(found, jnp.asarray(xs))
    best = stats.norm(xs.mean(axis=0), xs.std(axis=0)).logpdf(xs).sum(axis=1)
    assert best.mean() - alone.mean() < 0.02  # of two dimensions
