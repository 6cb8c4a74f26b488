"""A linear-Gaussian example to anneal, with step sizes, and means with their error."""

import jax
import numpy as np
from support.linear_gaussian import exact_log_marginal, make_params, with_best_encoder

from vaejax.estimators import AnnealingPath, sigmoidal_temperature_schedule

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
# An encoder somewhat wider than the posterior, so that it is a fair place to start and
# not the end.
PARAMS = with_best_encoder(make_params(), widen=0.5)
TRUTH = exact_log_marginal(PARAMS, X)


def keys(seed, num):
    return jax.random.split(jax.random.key(seed), num)


def run(function, *arguments):
    return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def over(function, *arguments):
    return run(jax.vmap(function), *arguments)


def steps(num_temperatures):
    """About what adaptation finds from the prior, at no cost: nine tenths of what is
    stable in any direction.
    """
    precision = np.linalg.norm(PARAMS.loadings, 2) ** 2 / np.exp(PARAMS.log_noise)
    return np.float32(
        1.8
        / np.sqrt(
            1
            + precision
            * np.asarray(sigmoidal_temperature_schedule(num_temperatures))[1:]
        )
    )


def path_of(num_temperatures):
    return AnnealingPath(
        num_temperatures=num_temperatures, step_sizes=steps(num_temperatures)
    )


def assert_mean(values, expected):
    """Within five standard errors, for `[num, ...]` independent values."""
    values = np.asarray(values, np.float64)
    errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) < 5 * errors)
