"""Distributions of cells of a table: rounded and positive real values, and ranks.

`RoundedNormal` is for real values that lie in steps, such as ages in whole years, where
a density would grow without bound; `LogNormal` for positive values; `Ordinal` for
classes with an order. `Mixed` puts columns of all kinds together.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import check_event, check_key
from vaejax.base import Array, Key, Support
from vaejax.distributions._shared import (
    REAL,
    SampleThenLogProb,
    density_dtype,
    draw_around,
    drawn,
    inverse_scale,
    log1mexp,
    scored_as_vectors,
    shape_of,
    standardized,
    with_parameters,
)
from vaejax.distributions._tails import log_normal_cdf, log_normal_mass

_LOG_2_PI = math.log(2 * math.pi)
_POSITIVE = Support("finite numbers above 0", lambda x: (x > 0) & (x < math.inf))
# How many there are is not known here.
_RANKS = Support("ranks 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))
# Cells to each side over which an expected value is summed.
_NUM_CELLS = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoundedNormal(SampleThenLogProb):
    """Distribution of real values that lie in steps, each with the mass of a Normal.

    P(x) is the mass of N(origin + location, exp(log_variance)) within half a step of x;
    the cells of `lower` and `upper` take the tails beyond them. Use it for values that
    are measured or noted in steps, such as ages in whole years: a density alone grows
    without bound where values repeat. Any number between `lower` and `upper` may be the
    middle of a cell, and the probabilities of numbers one step apart sum to one. Draws
    lie on `lower` plus whole steps; where there is no `lower`, on `upper` less whole
    steps; with neither, on multiples of the step.

    Attributes:
      location: `[*event]`, the mean before rounding, less `origin`.
      log_variance: `[*event]`, or a scalar; of the Normal before rounding.
      step: `[*event]`, or a scalar: the distance of neighboring values, above 0.
      lower: `[*event]`, or a scalar: the smallest value; minus infinity for none.
      upper: `[*event]`, or a scalar: the largest value; infinity for none.
      origin: `[*event]`, or a scalar: subtracted from an event first, so that a large
        offset costs no digits.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import RoundedNormal
      >>> year = RoundedNormal(jnp.full(1, 2019.5), jnp.zeros(1), upper=2020.0)
      >>> round(float(year.log_prob(jnp.full(1, 2020.0))), 3)  # log(1/2)
      -0.693

    Source: Ho et al. 2020 (DDPM), equation 13, for steps of any width.
    """

    location: Array
    log_variance: Array
    step: Array | float = 1.0
    lower: Array | float = -math.inf
    upper: Array | float = math.inf
    origin: Array | float = 0.0

    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        half = self.step / 2
        # False for NaN, which is NaN in the log-probability too.
        is_outside = (
            (jnp.abs(event) == jnp.inf)
            | (event < self.lower - half)
            | (event > self.upper + half)
        )
        log_probs = self._log_probs(jnp.where(is_outside, self.origin, event))
        return jnp.sum(jnp.where(is_outside, -jnp.inf, log_probs))

    def _log_probs(self, event: Array) -> Array:
        """Return the log-probability of each value, which is not judged."""
        log_scale = self.log_variance / 2
        width = inverse_scale(log_scale) * self.step
        middle = standardized(event - self.origin, self.location, log_scale)
        lower, upper = middle - width / 2, middle + width / 2
        is_first = event < self.lower + self.step / 2
        is_last = event > self.upper - self.step / 2
        between = log_normal_mass(lower, upper, width, jnp.log(self.step) - log_scale)
        tails = log_normal_cdf(jnp.where(is_first, upper, -lower))
        log_probs = jnp.where(is_first | is_last, tails, between)
        return jnp.where(is_first & is_last, 0, log_probs)

    def sample(self, key: Key) -> Array:
        check_key(key)
        _, shape, dtype = drawn(self)
        self = self._in_full()
        log_scale = self.log_variance / 2
        real = draw_around(jax.random.normal, key, self.location, log_scale, shape)
        return self._rounded(real).astype(dtype)

    @property
    def mean(self) -> Array:
        """The expected value, to about 1e-5 of a standard deviation."""
        self = self._in_full()
        scale = jnp.exp(self.log_variance / 2)
        # Rounding moves the mean of a wide Normal only at the ends.
        above = _excess(self, self.upper - self.origin - self.location)
        below = _excess(self, self.location + self.origin - self.lower)
        # The mean of a narrow one as a sum of the masses beyond the edges of cells.
        middle, total = self._rounded(self.location), 0.0
        error = middle - self.origin - self.location
        for k in range(1, _NUM_CELLS + 1):
            far = self.step * (k - 0.5)
            is_there = middle + far < self.upper
            total += jnp.where(is_there, _normal_tail((error + far) / scale), 0)
            is_there = middle - far > self.lower
            total -= jnp.where(is_there, _normal_tail((far - error) / scale), 0)
        wide = self.origin + self.location - above + below
        return jnp.where(scale > 4 * self.step, wide, middle + self.step * total)

    @property
    def mode(self) -> Array:
        """The likeliest value: the cell of the mean, or one of the ends."""
        self, shape, dtype = drawn(self)
        self = self._in_full()
        best = self._rounded(self.location)
        for end in (self.lower, self.upper):
            end = jnp.broadcast_to(end, shape)
            finite = jnp.where(jnp.abs(end) == jnp.inf, best, end)
            is_better = self._log_probs(finite) > self._log_probs(best)
            best = jnp.where(is_better, finite, best)
        return jnp.broadcast_to(best, shape).astype(dtype)

    def _in_full(self) -> "RoundedNormal":
        """Return the distribution with parameters of single precision or more."""
        dtype = density_dtype(*jax.tree.leaves(self))
        return with_parameters(self, dtype, shape_of(self))

    def _rounded(self, real: Array) -> Array:
        """Return the value whose cell holds each real number, given less the origin."""
        anchor = jnp.where(self.upper < jnp.inf, self.upper, 0)
        anchor = jnp.where(self.lower > -jnp.inf, self.lower, anchor)
        steps = jnp.round((real + (self.origin - anchor)) / self.step)
        return jnp.clip(anchor + steps * self.step, self.lower, self.upper)


def _normal_tail(x: Array) -> Array:
    return jax.scipy.stats.norm.sf(x)


def _excess(distribution: RoundedNormal, distance: Array) -> Array:
    """Return how far beyond an end a wide rounded Normal lies on average.

    The end is at a distance beyond the location. Over cells the integral of the tail
    is a sum at their middles, which differs by the derivative at the end.
    """
    scale = jnp.exp(distribution.log_variance / 2)
    t = jnp.minimum(distance / scale, 40)
    density = jnp.exp(jax.scipy.stats.norm.logpdf(t))
    integral = scale * (density - t * _normal_tail(t))
    return integral - jnp.square(distribution.step) / 24 * density / scale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogNormal(SampleThenLogProb):
    """Log-normal distribution with independent dimensions: log x is Normal.

    log p(x) = -1/2 sum_i [log 2 pi + log_variance_i
    + (log x_i - location_i)^2 / exp(log_variance_i)] - sum_i log x_i.

    Use it for positive values whose ratios matter, such as incomes.

    Attributes:
      location: `[*event]`, the mean of log x, which is the logarithm of the median.
      log_variance: `[*event]`, or a scalar; of log x.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import LogNormal
      >>> standard = LogNormal(location=jnp.zeros(1), log_variance=jnp.zeros(1))
      >>> round(float(standard.log_prob(jnp.ones(1))), 3)  # -1/2 log(2 pi)
      -0.919

    Source: Johnson et al. 1994 (Continuous Univariate Distributions 1), chapter 14; for
    columns of a table Nazabal et al. 2020 (HI-VAE), "positive real-valued data".
    """

    location: Array
    log_variance: Array

    support: ClassVar[Support] = _POSITIVE

    def log_prob(self, event: Array) -> Array:
        self, event = scored_as_vectors(self, event)
        is_outside = (event <= 0) | (event == jnp.inf)
        log_x = jnp.log(jnp.where(is_outside, 1, event))
        error = standardized(log_x, self.location, self.log_variance / 2)
        log_probs = -0.5 * (_LOG_2_PI + self.log_variance + jnp.square(error)) - log_x
        return jnp.sum(jnp.where(is_outside, -jnp.inf, log_probs))

    def sample(self, key: Key) -> Array:
        check_key(key)
        self, shape, _ = drawn(self)
        log_scale = self.log_variance / 2
        return jnp.exp(
            draw_around(jax.random.normal, key, self.location, log_scale, shape)
        )

    @property
    def mean(self) -> Array:
        mean = jnp.exp(self.location + jnp.exp(self.log_variance) / 2)
        return jnp.broadcast_to(mean, shape_of(self))

    @property
    def mode(self) -> Array:
        mode = jnp.exp(self.location - jnp.exp(self.log_variance))
        return jnp.broadcast_to(mode, shape_of(self))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ordinal(SampleThenLogProb):
    """Distribution over classes with an order: cumulative logits.

    P(x <= k) = sigmoid(c_k) for cut points c_0 < c_1 < ..., of which there is one less
    than there are classes. Use it for answers on a scale and for grades: moving all cut
    points together, one number, moves all mass up or down. Events are ranks from 0, in
    any dtype.

    Attributes:
      cuts: `[*event, classes - 1]`: the first cut point, and then the logarithm of the
        distance of each from the one before.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Ordinal
      >>> grade = Ordinal(cuts=jnp.zeros((1, 3)))
      >>> round(float(grade.log_prob(jnp.zeros(1))), 3)  # log(1/2)
      -0.693

    Source: McCullagh 1980, section 2; in a VAE Nazabal et al. 2020 (HI-VAE),
    "ordinal data".
    """

    cuts: Array

    support: ClassVar[Support] = _RANKS

    def log_prob(self, event: Array) -> Array:
        event = check_event(self, event, jnp.shape(self.cuts)[:-1])
        log_probs = self._log_probs()
        event = jnp.asarray(event).astype(log_probs.dtype)
        # False for NaN, which is NaN in the log-probability too.
        no_rank = (event < 0) | (event > log_probs.shape[-1] - 1)
        no_rank |= event - jnp.floor(event) > 0
        is_known = (event == event) & ~no_rank
        rank = jnp.where(is_known, event, 0).astype(jnp.int32)[..., None]
        found = jnp.take_along_axis(log_probs, rank, axis=-1)[..., 0]
        found = jnp.where(is_known, found, jnp.where(no_rank, -jnp.inf, jnp.nan))
        return jnp.sum(found)

    def sample(self, key: Key) -> Array:
        check_key(key)
        _, shape, dtype = drawn(self)
        points = self._points()
        noise = jax.random.logistic(key, (*shape[:-1], 1), points.dtype)
        return jnp.sum(jnp.broadcast_to(noise, shape) > points, axis=-1).astype(dtype)

    @property
    def mean(self) -> Array:
        """The expected rank."""
        probabilities = jnp.exp(self._log_probs())
        ranks = jnp.arange(probabilities.shape[-1], dtype=probabilities.dtype)
        return jnp.sum(probabilities * jnp.broadcast_to(ranks, probabilities.shape), -1)

    @property
    def mode(self) -> Array:
        _, _, dtype = drawn(self)
        return jnp.argmax(self._log_probs(), axis=-1).astype(dtype)

    def _points(self) -> Array:
        cuts = jnp.asarray(self.cuts).astype(density_dtype(self.cuts))
        # Beyond exp(80) a sum of them may be infinite.
        gaps = jnp.exp(jnp.where(cuts[..., 1:] > 80, 80, cuts[..., 1:]))
        steps = jnp.concatenate([cuts[..., :1], gaps], axis=-1)
        return jnp.cumsum(steps, axis=-1)

    def _log_probs(self) -> Array:
        """Return the log-probability of every rank, `[*event, classes]`."""
        points = self._points()
        log_gaps = self.cuts[..., 1:].astype(points.dtype)
        # log(1 - exp(-gap)), where the gap may be below the smallest number.
        is_tiny = log_gaps < -15
        gaps = jnp.exp(jnp.clip(log_gaps, -15, 80))
        log_part = jnp.where(is_tiny, log_gaps, log1mexp(gaps))
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for the sigmoid s: no difference is
        # taken. The ends keep one factor.
        end = jnp.zeros_like(points[..., :1])
        below = jnp.concatenate([jax.nn.softplus(-points), end], axis=-1)
        above = jnp.concatenate([end, jax.nn.softplus(points)], axis=-1)
        return jnp.concatenate([end, log_part, end], axis=-1) - below - above
