"""The jackknife against what is known of it, and vectors that are refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from support.leave_out import leave_out

from vaejax.estimators import (
    jackknife,
    marginal_of_weights,
    pareto_k,
    psis_weights,
)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_jackknife_is_the_combination_of_bounds_by_enumeration(spread):
    log_weights = spread * np.random.default_rng(2).normal(size=12) - 90
    n = 12
    once = n * leave_out(log_weights, 0) - (n - 1) * leave_out(log_weights, 1)
    twice = n**2 / 2 * leave_out(log_weights, 0) - (n - 1) ** 2 * leave_out(
        log_weights, 1
    )
    twice += (n - 2) ** 2 / 2 * leave_out(log_weights, 2)
    found = [
        jax.jit(jackknife, static_argnames="order")(
            np.float32(log_weights), order=order
        )
        for order in (1, 2)
    ]
    np.testing.assert_allclose(found, [once, twice], rtol=2e-5)


def test_each_order_takes_more_of_the_bias_away():
    # Weights log N(-1/2, 1), whose mean is 1: log p is 0.
    log_weights = np.float32(np.random.default_rng(3).normal(-0.5, 1, (50_000, 16)))
    bounds = scipy.special.logsumexp(log_weights, axis=1) - math.log(16)
    orders = [
        np.asarray(jax.jit(jax.vmap(lambda w, o=o: jackknife(w, order=o)))(log_weights))
        for o in (1, 2)
    ]
    for worse, better in itertools.pairwise([bounds, *orders]):
        difference = better - worse
        assert abs(difference.mean()) > 5 * difference.std() / math.sqrt(50_000)
        assert abs(better.mean()) < abs(worse.mean()) / 2


@pytest.mark.parametrize(
    "function", [pareto_k, jackknife, psis_weights, marginal_of_weights]
)
def test_a_set_goes_through_vmap(function):
    with pytest.raises(
        ValueError, match=r"shape \(4, 30\); give \[samples\] of one example"
    ):
        function(jnp.zeros((4, 30)))


@pytest.mark.parametrize("function", [pareto_k, psis_weights, marginal_of_weights])
def test_no_weights_are_refused(function):
    with pytest.raises(ValueError, match="log_weights is empty; give at least one"):
        function(jnp.zeros(0))


def test_jackknife_of_many_equal_weights_is_their_value():
    for order in (1, 2):
        np.testing.assert_allclose(
            jackknife(jnp.full(3000, -90.0), order=order), -90, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("num", "order", "message"),
    [(1, 1, "1 log-weights"), (2, 2, "at least 3"), (9, 3, "order is 3")],
)
def test_jackknife_checks_its_order(num, order, message):
    with pytest.raises(ValueError, match=message):
        jackknife(jnp.zeros(num), order=order)
