"""A table of every distribution with its log-density by SciPy or NumPy in float64.

Everything is elementwise: a distribution of one dimension is made of scalars (of one
row of logits, where there are classes), so that one `vmap` scores all points.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats

from vaejax import distributions as vd

HALF = 0.5 / 255


class Density(NamedTuple):
    """A family of distributions over one dimension.

    Attributes:
      make: the class.
      log_prob: `(x, *parameters) -> log p(x)` in float64, elementwise; parameters over
        classes or components have them on the last axis.
      parameters: `[points, ...]` each, where the derivatives are compared.
      events: `[points]`.
      outside: values outside of the support, finite ones.
      kinks: `(x, *parameters) -> bool`, where there is no second derivative.
    """

    make: Callable
    log_prob: Callable
    parameters: tuple[np.ndarray, ...]
    events: np.ndarray
    outside: tuple[float, ...] = ()
    kinks: Callable = lambda x, *parameters: np.zeros(np.shape(x), bool)


def _grid(*axes) -> list[np.ndarray]:
    """Every combination, one column per axis."""
    mesh = np.meshgrid(*[np.arange(len(axis)) for axis in axes], indexing="ij")
    return [
        np.asarray(axis, np.float32)[index.ravel()]
        for axis, index in zip(axes, mesh, strict=True)
    ]


def _density(make, log_prob, events, *parameters, **options) -> Density:
    events, *parameters = _grid(events, *parameters)
    return Density(make, log_prob, tuple(parameters), events, **options)


def bernoulli(x, logits):
    # Zero times an infinite logarithm is zero.
    one, zero = scipy.special.log_expit(logits), scipy.special.log_expit(-logits)
    return np.where(x == 0, 0, x * one) + np.where(x == 1, 0, (1 - x) * zero)


def continuous_bernoulli(x, logits):
    size = np.abs(logits)
    near = size < 1e-3
    safe = np.where(near, 1, size)
    log_normalizer = np.where(
        near, size**2 / 24 - size / 2, np.log(-np.expm1(-safe) / safe)
    )
    return -size * np.where(logits > 0, 1 - x, x) - log_normalizer


def negative_binomial(x, log_mean, log_concentration):
    r, m = np.exp(log_concentration), np.exp(log_mean)
    return (
        scipy.special.gammaln(x + r)
        - scipy.special.gammaln(r)
        - scipy.special.gammaln(x + 1)
        - r * np.log1p(m / r)
        - x * np.log1p(r / m)
    )


def _levels(x, log_cdf, log_sf, location, scale):
    """Log-mass between the edges of a level, on the side of the smaller tail."""
    low, high = (x - HALF - location) / scale, (x + HALF - location) / scale
    flip = low + high > 0
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    inner = log_cdf(near) + np.log1p(-np.exp(log_cdf(far) - log_cdf(near)))
    return np.where(x < HALF, log_cdf(high), np.where(x > 1 - HALF, log_sf(low), inner))


def discretized_logistic(x, location, log_scale):
    log_cdf = scipy.special.log_expit
    return _levels(x, log_cdf, lambda t: log_cdf(-t), location, np.exp(log_scale))


def discretized_normal(x, location, log_variance):
    log_cdf = scipy.special.log_ndtr
    return _levels(
        x, log_cdf, lambda t: log_cdf(-t), location, np.exp(log_variance / 2)
    )


def mixture(x, logits, location, log_scale):
    components = discretized_logistic(np.asarray(x)[..., None], location, log_scale)
    return scipy.special.logsumexp(
        scipy.special.log_softmax(logits, axis=-1) + components, axis=-1
    )


def categorical(x, logits):
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    return np.take_along_axis(log_probs, np.asarray(x, int)[..., None], -1)[..., 0]


def rounded_normal(x, location, log_variance, step, lower, upper, origin):
    scale, middle = np.exp(log_variance / 2), x - origin - location
    low, high = (middle - step / 2) / scale, (middle + step / 2) / scale
    flip = low + high > 0
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    log_cdf = scipy.special.log_ndtr
    inner = log_cdf(near) + np.log1p(-np.exp(log_cdf(far) - log_cdf(near)))
    is_first, is_last = x < lower + step / 2, x > upper - step / 2
    return np.where(is_first, log_cdf(high), np.where(is_last, log_cdf(-low), inner))


def ordinal(x, cuts):
    points = np.cumsum(
        np.concatenate([cuts[..., :1], np.exp(cuts[..., 1:])], axis=-1), axis=-1
    )
    end = np.full_like(points[..., :1], np.inf)
    edges = np.concatenate([-end, points, end], axis=-1)
    rank = np.asarray(x, int)[..., None]
    low, high = (np.take_along_axis(edges, rank + k, -1)[..., 0] for k in (0, 1))
    # On the side of the smaller tail, as a ratio of the two.
    flip = low + high > 0
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    log_cdf = scipy.special.log_expit
    return log_cdf(near) + np.log1p(-np.exp(log_cdf(far) - log_cdf(near)))


def zero_inflated_negative_binomial(x, log_mean, log_concentration, logits):
    counted = negative_binomial(x, log_mean, log_concentration)
    counted = counted + scipy.special.log_expit(-logits)
    with_zeros = np.logaddexp(scipy.special.log_expit(logits), counted)
    return np.where(x == 0, with_zeros, counted)


LOGITS = (0, 0.3, -1, 4, -30, 100)
LEVELS = np.float32([0, 51, 128, 254, 255]) / np.float32(255)
COUNTS = (0, 1, 3, 10, 40)
ROWS = np.float32([[0, 0, 0], [1, -2, 0.5], [-30, 0, 3]])

# Every class of `vaejax.distributions` that has a log-density, but sentences.
DENSITIES = {
    "bernoulli": _density(
        vd.Bernoulli, bernoulli, (0, 0.3, 1), LOGITS, outside=(-1e-3, 1.01, 255, -1)
    ),
    "categorical": _density(
        vd.Categorical, categorical, (0, 1, 2), ROWS, outside=(-1, 3, 100)
    ),
    "continuous_bernoulli": _density(
        vd.ContinuousBernoulli,
        continuous_bernoulli,
        (0, 0.3, 1),
        (*LOGITS, 0.49, 0.51, -0.5),
        outside=(-1e-3, 1.01, 255, -1),
    ),
    "normal": _density(
        vd.Normal,
        lambda x, m, v: scipy.stats.norm.logpdf(x, m, np.exp(v / 2)),
        (0, 0.3, -5),
        (0, 0.3, 2),
        (0, -3, 2),
    ),
    "laplace": _density(
        vd.Laplace,
        lambda x, m, s: scipy.stats.laplace.logpdf(x, m, np.exp(s)),
        (0, 0.3, -5),
        (0, 0.3, 2),
        (0, -3, 2),
        kinks=lambda x, m, s: x == m,
    ),
    "student_t": _density(
        vd.StudentT,
        lambda x, m, s, n: scipy.stats.t.logpdf(x, np.exp(n), m, np.exp(s)),
        (0, 0.3, -5),
        (0, 0.3, 2),
        (0, -3, 2),
        (0, -1, 2, np.log(20), 4),
    ),
    "poisson": _density(
        vd.Poisson,
        lambda x, rate: scipy.stats.poisson.logpmf(x, np.exp(rate)),
        COUNTS,
        (0, -3, 2, np.log(10), 4),
        outside=(-1, 0.3, 2.5),
    ),
    "negative_binomial": _density(
        vd.NegativeBinomial,
        negative_binomial,
        COUNTS,
        (0, -3, 2, np.log(10), 4),
        (0, -3, 2, np.log(10), 4),
        outside=(-1, 0.3, 2.5),
    ),
    "log_normal": _density(
        vd.LogNormal,
        lambda x, m, v: (
            scipy.stats.norm.logpdf(np.log(x), m, np.exp(v / 2)) - np.log(x)
        ),
        (1, 0.3, 5e4),
        (0, 0.3, 9),
        (0, -3, 2),
        outside=(0, -1e-3, -255),
    ),
    "rounded_normal": _density(
        vd.RoundedNormal,
        rounded_normal,
        (0, 1, -5, 40),
        (0, 0.3),
        (0, -4, 2, 9),
        (1, 0.25),
        (-5,),
        (40,),
        (0, 1.5),
    ),
    "ordinal": _density(
        vd.Ordinal,
        ordinal,
        (0, 1, 3),
        np.float32([[0, 0, 0], [1, -2, 0.5], [-30, 0, 3], [2, -9, 2]]),
        outside=(-1, 0.3, 1.5),
    ),
    "zero_inflated_negative_binomial": _density(
        vd.ZeroInflatedNegativeBinomial,
        zero_inflated_negative_binomial,
        COUNTS,
        (0, -3, 2, 4),
        (0, 2, np.log(10)),
        (0, -30, 3),
        outside=(-1, 0.3, 2.5),
    ),
    "discretized_logistic": _density(
        vd.DiscretizedLogistic,
        discretized_logistic,
        LEVELS,
        (0, 0.2, 1, 51 / 255, -0.3),
        (0, -3, -5, 2),
        outside=(-1 / 255, 256 / 255, 0.3, 255),
    ),
    "discretized_normal": _density(
        vd.DiscretizedNormal,
        discretized_normal,
        LEVELS,
        (0, 0.2, 1, 51 / 255, -0.3),
        (0, -3, -7, 2),
        outside=(-1 / 255, 256 / 255, 0.3, 255),
    ),
    "discretized_logistic_mixture": _density(
        vd.DiscretizedLogisticMixture,
        mixture,
        LEVELS,
        ROWS[:2],
        np.float32([[0.1, 0.5, 0.9], [0, 0.2, 1]]),
        np.float32([[-3, -2, -4], [0, 0, 0]]),
        outside=(-1 / 255, 256 / 255, 0.3, 255),
    ),
}


def scalar_log_prob(density: Density):
    """`(parameters, x) -> log p(x)` of one dimension, to be mapped over points."""
    return lambda parameters, x: density.make(*parameters).log_prob(x)


def events_of(density: Density):
    """The points, as classes where only they are scored."""
    is_classes = density.make is vd.Categorical
    return density.events.astype(np.int32) if is_classes else density.events
