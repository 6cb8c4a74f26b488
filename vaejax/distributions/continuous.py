"""More likelihoods: for intensities and for real values with outliers; their heads; and
the table of all heads.

Like those of `vaejax.distributions` they are normalised, in nats, summed over one
event. `vaejax.pixels` and `vaejax.counts` have those of 8-bit pixels and of counts.
"""

import dataclasses
import math
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from vaejax.base import Array, Distribution, Head, Key, Params, Support
from vaejax.counts import NegativeBinomial, Poisson, stirling_rest
from vaejax.distributions import (
    REAL,
    Bernoulli,
    SampleThenLogProb,
    as_head,
    check_bounds,
    check_event,
    draw_around,
    fixed_variance_normal_head,
    log1mexp,
    normal_head,
    shared_variance_normal_head,
    simple_head,
    soft_bounds,
)
from vaejax.pixels import (
    DiscretizedLogistic,
    DiscretizedNormal,
    discretized_logistic_mixture_head,
)

INTENSITIES = Support("values in [0, 1]", lambda x: (x >= 0) & (x <= 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContinuousBernoulli(SampleThenLogProb):
    """A density on [0, 1]: log p(x) = sum_i [l_i x_i - log((exp(l_i) - 1) / l_i)].

    Use it for intensities that are not binary, where the cross-entropy would be no
    density. Its density is highest at one of the ends: few grey values are generated.

    Attributes:
      logits: `[*event]`, l = log lambda / (1 - lambda).

    Source: Loaiza-Ganem & Cunningham 2019, equations 4 and 5, with C(lambda) written in
    terms of l.
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = INTENSITIES

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits))
        return jnp.sum(self.logits * event - self._log_normaliser())

    def sample(self, key: Key) -> Array:
        # By the inverse of the cumulative distribution function, from the decreasing
        # side, where it cannot overflow.
        steepness = jnp.abs(self.logits)
        uniform = jax.random.uniform(
            key, jnp.shape(self.logits), jnp.result_type(self.logits)
        )
        safe = jnp.maximum(steepness, 1e-4)
        decreasing = jnp.where(
            steepness < 1e-4, uniform, -jnp.log1p(uniform * jnp.expm1(-safe)) / safe
        )
        return jnp.clip(jnp.where(self.logits > 0, 1 - decreasing, decreasing), 0, 1)

    @property
    def mean(self) -> Array:
        """The derivative of the log-normaliser: 1 / (1 - exp(-l)) - 1 / l."""
        small, near_zero, safe = self._around_zero()
        series = 0.5 + small / 12 - small**3 / 720 + small**5 / 30240
        steepness = jnp.abs(safe)
        decreasing = 1 / steepness - jnp.exp(-steepness) / -jnp.expm1(-steepness)
        return jnp.where(
            near_zero, series, jnp.where(safe > 0, 1 - decreasing, decreasing)
        )

    @property
    def mode(self) -> Array:
        return (self.logits > 0).astype(self.logits.dtype)

    def _log_normaliser(self) -> Array:
        # log((exp(l) - 1) / l) = max(l, 0) + log((1 - exp(-|l|)) / |l|); around 0,
        # where that is 0 / 0, its series.
        small, near_zero, safe = self._around_zero()
        series = small / 2 + small**2 / 24 - small**4 / 2880 + small**6 / 181440
        steepness = jnp.abs(safe)
        return jnp.where(
            near_zero,
            series,
            jnp.maximum(safe, 0) + log1mexp(steepness) - jnp.log(steepness),
        )

    def _around_zero(self) -> tuple[Array, Array, Array]:
        """The logits where they are small (0 elsewhere), where that is, and the logits
        where they are not (1 there).
        """
        near_zero = jnp.abs(self.logits) < 0.5
        return (
            jnp.where(near_zero, self.logits, 0),
            near_zero,
            jnp.where(near_zero, 1, self.logits),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laplace(SampleThenLogProb):
    """log p(x) = -sum_i [log 2 + log_scale_i + |x_i - mean_i| / exp(log_scale_i)].

    Use it where errors are sparse: the loss is the absolute error, whose best mean is
    the median.

    Attributes:
      mean: `[*event]`.
      log_scale: `[*event]`, or a scalar; the variance is 2 exp(2 log_scale).
    """

    mean: Array
    log_scale: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.mean))
        return -jnp.sum(
            math.log(2)
            + self.log_scale
            + jnp.abs(event - self.mean) * jnp.exp(-self.log_scale)
        )

    def sample(self, key: Key) -> Array:
        return draw_around(jax.random.laplace, key, self.mean, self.log_scale)

    @property
    def mode(self) -> Array:
        return self.mean


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StudentT(SampleThenLogProb):
    """Student's t with location, scale and degrees of freedom nu: p(x_i) ~ (1 + t_i^2 /
    nu)^(-(nu + 1) / 2).

    t_i = (x_i - location_i) / exp(log_scale_i). Use it for real values with outliers,
    or to learn a variance safely: its tails forgive a scale that is too small
    (Takahashi et al. 2018, equation 9).

    Attributes:
      location: `[*event]`.
      log_scale: `[*event]`, or a scalar.
      log_degrees_of_freedom: likewise. There is a mean only above one degree of
        freedom, a variance only above two.
    """

    location: Array
    log_scale: Array
    log_degrees_of_freedom: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.location))
        nu = jnp.exp(self.log_degrees_of_freedom)
        # log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2
        constant = _log_rising(nu / 2, 0.5) - 0.5 * (
            self.log_degrees_of_freedom + math.log(math.pi)
        )
        t = (event - self.location) * jnp.exp(-self.log_scale)
        return jnp.sum(
            constant - self.log_scale - (nu + 1) / 2 * jnp.log1p(jnp.square(t) / nu)
        )

    def sample(self, key: Key) -> Array:
        nu = jnp.broadcast_to(
            jnp.exp(self.log_degrees_of_freedom), jnp.shape(self.location)
        )
        return draw_around(
            partial(jax.random.t, df=nu), key, self.location, self.log_scale
        )

    @property
    def mean(self) -> Array:
        """The location; NaN where there is no mean."""
        return jnp.where(self.log_degrees_of_freedom > 0, self.location, jnp.nan)

    @property
    def mode(self) -> Array:
        return self.location


def _log_rising(a: Array, b: float) -> Array:
    """log Gamma(a + b) - log Gamma(a), whose terms cancel where a is large."""
    # Stirling's series of both, with their difference taken by hand: (a + b - 1/2)
    # log(1 + b / a) - b + b log a + ...
    large, small = jnp.maximum(a, 10), jnp.minimum(a, 10)
    series = (large + b - 0.5) * jnp.log1p(b / large) - b + b * jnp.log(large)
    series += stirling_rest(large + b) - stirling_rest(large)
    return jnp.where(a > 10, series, gammaln(small + b) - gammaln(small))


def laplace_head(min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """Laplace with a mean and a log-scale for each dimension, bounded softly; the
    network puts out `[*event, 2]`.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)
    return simple_head(
        lambda mean, log_scale: Laplace(
            mean, soft_bounds(log_scale, min_log_scale, max_log_scale)
        ),
        num_parameters=2,
    )


def student_t_head(min_log_scale: float = -10.0, max_log_scale: float = 10.0) -> Head:
    """StudentT with location, log-scale and degrees of freedom for each dimension: the
    network puts out `[*event, 3]`.

    The log-scale is bounded softly, and the degrees of freedom between 1 and 1,000, so
    that there is a mean.
    """
    check_bounds("log_scale", min_log_scale, max_log_scale)

    def make(location: Array, log_scale: Array, log_degrees: Array) -> StudentT:
        log_scale = soft_bounds(log_scale, min_log_scale, max_log_scale)
        # Starts at exp(2), about seven degrees.
        return StudentT(
            location, log_scale, soft_bounds(log_degrees + 2, 0.0, math.log(1000))
        )

    return simple_head(make, num_parameters=3)


def with_initial_outputs(likelihood: Head | type, outputs: Array) -> Head:
    """The likelihood whose head adds a learned bias to what the network puts out,
    starting at `outputs`.

    A network that starts near zero then starts at the data: at their log-odds for a
    Bernoulli, `jax.scipy.special.logit(jnp.clip(mean, 0.001, 0.999))` (Burda et al.
    2016 start there), at their mean for a Normal.

    Args:
      likelihood: a `Head`, or a distribution class that carries one.
      outputs: what the network ought to put out at first: `[*event]`, or `[*event,
        num_parameters]`.
    """
    head = as_head(likelihood)

    def init(key: Key) -> Params:
        return {"head": head.init(key), "bias": jnp.asarray(outputs, jnp.float32)}

    def apply(params: Params, from_network: Array) -> Distribution:
        if from_network.shape != params["bias"].shape:
            raise ValueError(
                f"with_initial_outputs: the network puts out {from_network.shape} and "
                "`outputs` has shape "
                f"{params['bias'].shape}; give them the same."
            )
        return head.apply(params["head"], from_network + params["bias"])

    return Head(head.num_parameters, init, apply)


def support_of(likelihood: Head | type) -> Support:
    """Where the distribution that a head makes has any mass."""
    head = as_head(likelihood)
    outputs = jnp.zeros(1 if head.num_parameters == 1 else (1, head.num_parameters))
    return head.apply(head.init(jax.random.key(0)), outputs).support


ContinuousBernoulli.head = simple_head(ContinuousBernoulli)
Laplace.head = laplace_head()
StudentT.head = student_t_head()

# Every likelihood of one number a dimension, by the name that programs give it.
HEADS: dict[str, Head] = {
    "bernoulli": Bernoulli.head,
    "continuous_bernoulli": ContinuousBernoulli.head,
    "normal": normal_head(),
    "fixed_variance_normal": fixed_variance_normal_head(),
    "shared_variance_normal": shared_variance_normal_head(),
    "laplace": Laplace.head,
    "student_t": StudentT.head,
    "discretized_logistic": DiscretizedLogistic.head,
    "discretized_logistic_mixture": discretized_logistic_mixture_head(5),
    "discretized_normal": DiscretizedNormal.head,
    "poisson": Poisson.head,
    "negative_binomial": NegativeBinomial.head,
}
