"""The tables of distributions, and what SciPy and NumPyro say of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import scipy.integrate
import scipy.special
import scipy.stats

import vaejax
from vaejax import Bernoulli, Categorical, Normal
from vaejax.base import Distribution

LEVELS = np.arange(256) / 255


class Family(NamedTuple):
    """A distribution of three dimensions that differ, and what SciPy says of it.

    Attributes:
      ours: the distribution.
      log_prob: `x -> [*x]`, elementwise, float64, for x of shape `[..., 3]`.
      grid: the values that hold all the mass, of a discrete one; None of a density.
      mean, variance: `[3]`.
    """

    ours: Distribution
    log_prob: object
    grid: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray


def of_scipy(
    ours: Distribution, make, *parameters: np.ndarray, grid: np.ndarray | None = None
) -> Family:
    frozen = make(*(np.float64(parameter) for parameter in parameters))
    return Family(
        ours,
        frozen.logpdf if grid is None else frozen.logpmf,
        grid,
        frozen.mean(),
        frozen.var(),
    )


def of_levels(ours: Distribution, cdf) -> Family:
    """8-bit pixels: the mass between the midpoints of neighboring levels, by SciPy's
    cumulative distribution.
    """
    edges = (np.arange(255) + 0.5)[:, None] / 255
    inner = np.array([cdf(np.broadcast_to(edge, 3)) for edge in edges])
    mass = np.diff(np.concatenate([np.zeros((1, 3)), inner, np.ones((1, 3))]), axis=0)
    mean = (LEVELS[:, None] * mass).sum(axis=0)

    def log_prob(x):
        return np.log(
            np.take_along_axis(
                mass, np.rint(np.atleast_2d(x) * 255).astype(int), axis=0
            ).reshape(x.shape)
        )

    return Family(
        ours,
        log_prob,
        LEVELS,
        mean,
        (np.square(LEVELS[:, None] - mean) * mass).sum(axis=0),
    )


A, B = np.float32([0.3, -1.2, 2.0]), np.float32([-0.5, 0.4, 0.1])
LOCATION, LOG_SCALE = np.float32([0.2, 0.5, 0.97]), np.float32([-3.0, -1.0, -2.0])
NU = np.float32([5.0, 9.0, 30.0])
COUNTS = np.arange(400)
CONCENTRATION, COUNT_MEAN = np.exp(np.float64(B) + 1), np.exp(np.float64(A))
WEIGHTS = np.float32([[0.3, -1.0], [0.0, 2.0], [1.0, 0.5]])
LOCATIONS = np.float32([[0.1, 0.8], [0.4, 0.5], [-0.1, 1.05]])
LOG_SCALES = np.float32([[-3.0, -2.5], [-1.0, -4.0], [-3.0, -2.0]])


def continuous_bernoulli() -> Family:
    log_odds = np.float64(np.float32([0.4, -3.0, 1e-4]))
    normalizer = np.log(np.expm1(log_odds) / log_odds)
    mean = 1 / -np.expm1(-log_odds) - 1 / log_odds
    density = [lambda x, i=i: np.exp(log_odds[i] * x - normalizer[i]) for i in range(3)]
    variance = [
        scipy.integrate.quad(lambda x, i=i: (x - mean[i]) ** 2 * density[i](x), 0, 1)[0]
        for i in range(3)
    ]
    ours = vaejax.distributions.ContinuousBernoulli(np.float32([0.4, -3.0, 1e-4]))
    return Family(
        ours, lambda x: x * log_odds - normalizer, None, mean, np.array(variance)
    )


def rounded_normal() -> Family:
    """One dimension without ends, one whose ends matter, and one of many steps."""
    ones = np.ones(3, np.float32)
    lower, upper = np.float32([[-np.inf, -2, -40], [np.inf, 3, 40]])
    location, stddev = np.float64(A), np.array([0.3, 1.5, 8])
    grid = np.arange(-60.0, 61)[:, None]
    low, high = ((grid + side - location) / stddev for side in (-0.5, 0.5))
    mass = scipy.stats.norm.cdf(np.where(grid >= upper, np.inf, high))
    mass -= scipy.stats.norm.cdf(np.where(grid <= lower, -np.inf, low))
    mass = np.where((grid >= lower) & (grid <= upper), mass, 0)
    mean = (grid * mass).sum(axis=0)
    variance = (np.square(grid - mean) * mass).sum(axis=0)

    def log_prob(x):
        place = np.rint(np.atleast_2d(x) + 60).astype(int)
        with np.errstate(divide="ignore"):
            return np.log(np.take_along_axis(mass, place, axis=0)).reshape(x.shape)

    ours = vaejax.distributions.RoundedNormal(
        A - 1, np.float32(2 * np.log(stddev)), ones, lower, upper, ones
    )
    return Family(ours, log_prob, grid[:, 0], mean, variance)


def ordinal() -> Family:
    cuts = np.float32([[-1, 0.3], [0.5, -2], [0.1, 1]])
    below = scipy.special.expit(np.stack([cuts[:, 0], cuts[:, 0] + np.exp(cuts[:, 1])]))
    mass = np.diff(np.concatenate([np.zeros((1, 3)), below, np.ones((1, 3))]), axis=0)
    ranks = np.arange(3)[:, None]
    mean = (ranks * mass).sum(axis=0)
    variance = (np.square(ranks - mean) * mass).sum(axis=0)

    def log_prob(x):
        place = np.atleast_2d(x).astype(int)
        return np.log(np.take_along_axis(mass, place, axis=0)).reshape(x.shape)

    ours = vaejax.distributions.Ordinal(cuts)
    return Family(ours, log_prob, np.arange(3), mean, variance)


def zero_inflated() -> Family:
    counts = scipy.stats.nbinom(
        CONCENTRATION, CONCENTRATION / (CONCENTRATION + COUNT_MEAN)
    )
    logits = np.float32([-2, 0.5, 1])
    share = scipy.special.expit(np.float64(logits))
    mean, variance = (1 - share) * counts.mean(), counts.var()
    variance = (1 - share) * (variance + share * np.square(counts.mean()))

    def log_prob(x):
        return np.log((1 - share) * counts.pmf(x) + share * (x == 0))

    ours = vaejax.distributions.ZeroInflatedNegativeBinomial(A, B + 1, logits)
    return Family(ours, log_prob, COUNTS, mean, variance)


def mixture_cdf(x):
    components = scipy.stats.logistic(LOCATIONS, np.exp(LOG_SCALES)).cdf(x[:, None])
    return (scipy.special.softmax(WEIGHTS, axis=-1) * components).sum(axis=-1)


# Every likelihood, by name.
FAMILIES = {
    "bernoulli": of_scipy(
        vaejax.Bernoulli(A),
        scipy.stats.bernoulli,
        scipy.special.expit(A),
        grid=np.arange(2),
    ),
    "continuous_bernoulli": continuous_bernoulli(),
    "normal": of_scipy(vaejax.Normal(A, B), scipy.stats.norm, A, np.exp(B / 2)),
    "laplace": of_scipy(
        vaejax.distributions.Laplace(A, B), scipy.stats.laplace, A, np.exp(B)
    ),
    "student_t": of_scipy(
        vaejax.distributions.StudentT(A, B, np.log(NU)), scipy.stats.t, NU, A, np.exp(B)
    ),
    "discretized_logistic": of_levels(
        vaejax.distributions.DiscretizedLogistic(LOCATION, LOG_SCALE),
        scipy.stats.logistic(LOCATION, np.exp(LOG_SCALE)).cdf,
    ),
    "discretized_logistic_mixture": of_levels(
        vaejax.distributions.DiscretizedLogisticMixture(WEIGHTS, LOCATIONS, LOG_SCALES),
        mixture_cdf,
    ),
    "discretized_normal": of_levels(
        vaejax.distributions.DiscretizedNormal(LOCATION, 2 * LOG_SCALE),
        scipy.stats.norm(LOCATION, np.exp(LOG_SCALE)).cdf,
    ),
    "poisson": of_scipy(
        vaejax.distributions.Poisson(A), scipy.stats.poisson, np.exp(A), grid=COUNTS
    ),
    "log_normal": of_scipy(
        vaejax.distributions.LogNormal(A, B - 2),
        scipy.stats.lognorm,
        np.exp(B / 2 - 1),
        np.zeros(3),
        np.exp(np.float64(A)),
    ),
    "rounded_normal": rounded_normal(),
    "ordinal": ordinal(),
    "negative_binomial": of_scipy(
        vaejax.distributions.NegativeBinomial(A, B + 1),
        scipy.stats.nbinom,
        CONCENTRATION,
        CONCENTRATION / (CONCENTRATION + COUNT_MEAN),
        grid=COUNTS,
    ),
    "zero_inflated_negative_binomial": zero_inflated(),
}

MEAN = np.array([[0.3, -1.0, 5.0], [0.0, 2.0, -0.5]], np.float32)
LOG_VARIANCE = np.array([[0.0, -3.0, 1.5], [-0.7, 0.4, 2.0]], np.float32)
LOGITS = np.array([[0.3, -1.0, 2.0], [0.0, -2.0, 1.2]], np.float32)
ZEROS = np.zeros(2, np.float32)

# A pair of each family, and how to make the same in NumPyro.
PAIRS = {
    "normal": (
        (Normal(MEAN, LOG_VARIANCE), Normal(MEAN[::-1], 0.5 * LOG_VARIANCE)),
        lambda d: numpyro.Normal(d.mean, jnp.exp(d.log_variance / 2)),
    ),
    "bernoulli": (
        (Bernoulli(LOGITS), Bernoulli(-0.5 * LOGITS)),
        lambda d: numpyro.Bernoulli(logits=d.logits),
    ),
    "categorical": (
        (Categorical(LOGITS), Categorical(-0.5 * LOGITS)),
        lambda d: numpyro.Categorical(logits=d.logits),
    ),
}


def in_numpyro(function):
    """NumPyro is not written for the strict promotion that the tests turn on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.jit(function)()


def draws(distribution, num):
    return np.asarray(
        jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(0), num))
    )


# What the tests of a family share, so that each program is compiled once.
NUM_DRAWS = 30_000
log_probs = jax.jit(
    jax.vmap(lambda distribution, x: distribution.log_prob(x), (None, 0))
)


@functools.cache
def draws_of(name: str) -> np.ndarray:
    """Draws of one of the `FAMILIES`, `[NUM_DRAWS, 3]`."""
    return draws(FAMILIES[name].ours, NUM_DRAWS)
