"""Temperature schedules, and paths that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.annealing import PARAMS, X
from support.linear_gaussian import vae

from vaejax.estimators import (
    AnnealingPath,
    annealed_importance_sampling,
    linear_temperature_schedule,
    sigmoidal_temperature_schedule,
)


@pytest.mark.parametrize(
    "temperature_schedule",
    [linear_temperature_schedule, sigmoidal_temperature_schedule],
)
@pytest.mark.parametrize("num", [1, 10, 1000])
def test_spacing_rises_from_exactly_zero_to_exactly_one(temperature_schedule, num):
    inverse_temperatures = np.asarray(temperature_schedule(num))
    assert inverse_temperatures.shape == (num + 1,)
    assert inverse_temperatures[0] == 0 and inverse_temperatures[-1] == 1
    assert np.all(np.diff(inverse_temperatures) > 0)


def test_sigmoidal_spacing_is_that_of_the_formula():
    sigmoids = 1 / (1 + np.exp(-np.linspace(-4, 4, 11)))
    expected = (sigmoids - sigmoids[0]) / (sigmoids[-1] - sigmoids[0])
    np.testing.assert_allclose(sigmoidal_temperature_schedule(10), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"step_sizes": np.ones(7, np.float32)},
            r"shape \(7,\) and num_temperatures is 8",
        ),
        ({"step_sizes": np.float32(1)}, r"shape \(\) and num_temperatures is 8"),
        (
            {"temperature_schedule": lambda num: jnp.linspace(0, 1, num)},
            r"shape \(8,\); give num_temperatures \+ 1 = 9",
        ),
        (
            {"temperature_schedule": lambda num: jnp.linspace(0, 0.5, num + 1)},
            "from 0 to 0.5; they must begin at exactly 0",
        ),
        (
            {"temperature_schedule": lambda num: jnp.linspace(0.2, 1, num + 1)},
            "from 0.2 to 1; they must begin at exactly 0",
        ),
        (
            {
                "temperature_schedule": lambda num: (
                    jnp.linspace(0, 1, num + 1).at[3].set(0.9)
                )
            },
            "never fall",
        ),
    ],
)
def test_schedules_must_be_as_long_as_the_path(options, message):
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(
            vae,
            PARAMS,
            jax.random.key(0),
            X,
            path=AnnealingPath(num_temperatures=8, **options),
        )
