"""The likelihood that is proposed for an array, and those that do not suit it."""

import numpy as np
import pytest

from experiments.harness import model_options

RNG = np.random.default_rng(0)
REAL = RNG.normal(3, 2, (50, 4))


def with_value(value):
    array = REAL.copy()
    array[17, 2] = value
    return array


@pytest.mark.parametrize(
    ("array", "likelihood"),
    [
        (RNG.integers(0, 2, (20, 5)).astype(bool), "bernoulli"),
        (RNG.integers(0, 2, (20, 5)), "bernoulli"),
        (RNG.integers(0, 2, (20, 4, 4)).astype(np.uint8), "bernoulli"),
        (RNG.integers(0, 2, (20, 4, 4)).astype(np.uint8) * 255, "bernoulli"),
        (RNG.integers(0, 256, (20, 4, 4)).astype(np.uint8), "discretized_logistic"),
        (np.array([[[0, 1, 255]]] * 4, np.uint8), "discretized_logistic"),
        (RNG.integers(0, 256, (20, 4, 4)), "discretized_logistic"),
        (RNG.integers(0, 256, (20, 4, 4, 3)).astype(np.int32), "discretized_logistic"),
        (RNG.integers(0, 256, (20, 4, 4)).astype(np.float32), "discretized_logistic"),
        (RNG.integers(0, 17, (20, 8, 8)).astype(np.float64), "discretized_logistic"),
        (RNG.integers(0, 256, (20, 4, 4)) / 255, "discretized_logistic"),
        (RNG.integers(0, 65536, (20, 4, 4)).astype(np.uint16), "discretized_normal"),
        (RNG.integers(0, 4096, (20, 4, 4)).astype(np.float32), "discretized_normal"),
        (RNG.integers(-9, 256, (20, 4, 4)), "normal"),
        (RNG.integers(0, 70_000, (20, 4, 4)), "normal"),
        (RNG.random((20, 4, 4)) * 255, "normal"),
        (RNG.random((20, 4, 4)), "continuous_bernoulli"),
        (REAL, "normal"),
        (RNG.poisson(4, (2000, 5)), "poisson"),
        (RNG.poisson(4, (2000, 5)).astype(np.float32), "poisson"),
        (RNG.negative_binomial(1, 0.2, (2000, 5)), "negative_binomial"),
        (RNG.negative_binomial(0.5, 0.1, (2000, 90)), "negative_binomial"),
        (np.rint(RNG.normal(45, 13, (2000, 5))).astype(np.int64), "normal"),
        (RNG.integers(1990, 2021, (2000, 5)), "normal"),
        (np.minimum(RNG.negative_binomial(1, 0.01, (900, 90)), 255), "normal"),
        (RNG.integers(-5, 5, (20, 4)), "normal"),
        (RNG.integers(10**8, 2 * 10**8, (20, 4)), "normal"),
    ],
)
def test_the_likelihood_suits_the_values(array, likelihood):
    description = model_options.describe_array(array)
    assert (
        description.likelihood == likelihood and likelihood in model_options.LIKELIHOODS
    )
    assert description[:3] == (len(array), array.shape[1:], str(array.dtype))
    assert (description.minimum, description.maximum) == (array.min(), array.max())
    assert (
        likelihood in description.text()
        and str(list(array.shape[1:])) in description.text()
    )


@pytest.mark.parametrize(
    ("array", "likelihood", "message"),
    [
        (
            with_value(3.7).round(1),
            "bernoulli",
            "bernoulli is over 0 and 1: choose normal",
        ),
        (
            np.array([[0, 1], [2, 0]]),
            "bernoulli",
            r"holds 2 in example 1 \(at \[1, 0\]\).*choose poisson",
        ),
        (REAL, "continuous_bernoulli", r"over values in \[0, 1\]"),
        (REAL, "poisson", "over counts"),
        (np.array([[0.5, 0.1]]), "discretized_logistic", "8-bit intensities"),
    ],
)
def test_a_likelihood_that_does_not_suit_is_refused(array, likelihood, message):
    with pytest.raises(ValueError, match=message):
        model_options.check_suits(array, likelihood)


def test_every_suitable_likelihood_suits():
    pixels = RNG.integers(0, 256, (9, 4, 4)).astype(np.uint8)
    for array in (
        pixels,
        pixels // 128 * 255,
        REAL,
        RNG.integers(0, 2, (9, 2)),
        RNG.poisson(3, (9, 2)),
        RNG.random((9, 2)),
    ):
        model_options.check_suits(array, model_options.describe_array(array).likelihood)
