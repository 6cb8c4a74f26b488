"""Likelihoods, posteriors and priors as pytrees, their divergences, and the heads that
make them from arrays.

Every class follows `vaejax.base.Distribution`: one event, log-densities in nats summed
over the event, constants included.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from vaejax.base import Array, Distribution, Head, Key, Params, Support, check_count

_LOG_2_PI = math.log(2 * math.pi)

REAL = Support("finite numbers", lambda x: abs(x) < math.inf)
BINARY = Support("0 and 1", lambda x: (x == 0) | (x == 1))
CLASSES = Support("classes 0, 1, 2, ...", lambda x: (x >= 0) & (x == x // 1))


def reparameterize(key: Key, mean: Array, log_variance: Array) -> Array:
    """z = mean + exp(log_variance / 2) * eps with eps ~ N(0, I), differentiable in
    `mean` and `log_variance`.

    Args:
      key: a typed key; it alone decides eps.
      mean: `[*event]`.
      log_variance: `[*event]` or a scalar; the logarithm of the variance, not of the
        standard deviation.

    Returns:
      z, `[*event]`.

    Raises:
      ValueError: the shapes differ and `log_variance` is not a scalar.

    Source: Kingma & Welling 2014, section 2.4.
    """
    if jnp.ndim(log_variance) and jnp.shape(mean) != jnp.shape(log_variance):
        raise ValueError(
            f"reparameterize: mean has shape {jnp.shape(mean)} and log_variance "
            f"{jnp.shape(log_variance)}; "
            "give both the shape of z, or log_variance as a scalar."
        )
    return Normal(mean, log_variance).sample(key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normal:
    """N(mean, diag exp(log_variance)), independent in each dimension; exact for
    whatever it is given.

    log p(x) = -1/2 sum_i [log 2 pi + log_variance_i + (x_i - mean_i)^2 /
    exp(log_variance_i)].

    Use it for real-valued data and as the usual posterior and prior. With a fixed
    variance, log p(x) is minus the squared error over twice the variance, up to a
    constant. Bounds on a network's log-variance belong to `normal_head`.

    Attributes:
      mean: `[*event]`.
      log_variance: `[*event]`, or a scalar shared by all dimensions.
    """

    mean: Array
    log_variance: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = REAL

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.mean))
        squared_error = jnp.square(event - self.mean) * jnp.exp(-self.log_variance)
        return -0.5 * jnp.sum(_LOG_2_PI + self.log_variance + squared_error)

    def sample(self, key: Key) -> Array:
        return self.mean + jnp.exp(self.log_variance / 2) * self._noise(key)

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        noise = self._noise(key)
        event = self.mean + jnp.exp(self.log_variance / 2) * noise
        # From the noise, not from (event - mean) / stddev, which cancels when the
        # variance is tiny.
        return event, -0.5 * jnp.sum(_LOG_2_PI + self.log_variance + jnp.square(noise))

    @property
    def mode(self) -> Array:
        return self.mean

    def _noise(self, key: Key) -> Array:
        return jax.random.normal(key, jnp.shape(self.mean), jnp.result_type(self.mean))


class SampleThenLogProb:
    """Gives a distribution its `sample_and_log_prob` where nothing is gained by
    computing the two together.
    """

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        event = self.sample(key)
        return event, self.log_prob(event)


@jax.custom_jvp
def _cross_entropy(logits: Array, x: Array) -> Array:
    # -log p = max(l, 0) - x l + log(1 + exp(-|l|)): finite at any logit.
    return jnp.maximum(logits, 0) - x * logits + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@_cross_entropy.defjvp
def _(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    # d/dl = sigmoid(l) - x from the exponential that the value needs, which half of the
    # work of a likelihood is. JAX takes the derivative of |l| at 0 to be 1, and new
    # networks put out zeros: sigmoid(0) is 1/2 here.
    (logits, x), (logits_dot, x_dot) = primals, tangents
    exponential = jnp.exp(-jnp.abs(logits))
    sigmoid = jnp.where(logits > 0, 1, exponential) / (1 + exponential)
    value = jnp.maximum(logits, 0) - x * logits + jnp.log1p(exponential)
    return value, (sigmoid - x) * logits_dot - logits * x_dot


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bernoulli(SampleThenLogProb):
    """Independent binary dimensions: log p(x) = sum_i [x_i log sigmoid(l_i) + (1 - x_i)
    log sigmoid(-l_i)].

    A density on {0, 1}; on grey values in [0, 1] the same expression is the
    cross-entropy, which is not normalised. The negative is the binary cross-entropy.
    Use it for binary or binarised images.

    Attributes:
      logits: `[*event]`, l = log p / (1 - p).
    """

    logits: Array

    head: ClassVar[Head]
    support: ClassVar[Support] = BINARY

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits))
        return -jnp.sum(_cross_entropy(self.logits, event))

    def sample(self, key: Key) -> Array:
        return jax.random.bernoulli(key, self.mean).astype(self.logits.dtype)

    @property
    def mean(self) -> Array:
        return jax.nn.sigmoid(self.logits)

    @property
    def mode(self) -> Array:
        return (self.logits > 0).astype(self.logits.dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical(SampleThenLogProb):
    """Independent choices among classes: log p(x) = sum_i log softmax(logits_i)[x_i],
    x_i an integer class.

    Use it for tokens and labels. It has a `mode` but no `mean`: classes are not
    numbers.

    Attributes:
      logits: `[*event, classes]`, unnormalised log-probabilities.
    """

    logits: Array

    support: ClassVar[Support] = CLASSES

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, jnp.shape(self.logits)[:-1])
        log_probabilities = jax.nn.log_softmax(self.logits)
        return jnp.sum(
            jnp.take_along_axis(log_probabilities, event[..., None], axis=-1)
        )

    def sample(self, key: Key) -> Array:
        return jax.random.categorical(key, self.logits)

    @property
    def mode(self) -> Array:
        return jnp.argmax(self.logits, axis=-1)


def check_event(
    distribution: Distribution, event: Array, shape: tuple[int, ...]
) -> None:
    """ValueError unless the event has the shape that the distribution is over."""
    # Broadcasting would otherwise sum a whole batch into one log-probability.
    if jnp.shape(event) != shape:
        raise ValueError(
            f"{type(distribution).__name__}.log_prob: the event has shape "
            f"{jnp.shape(event)} and the distribution is "
            f"over {shape}; give one event of that shape, and map a batch with "
            "jax.vmap."
        )


def _kl_normal(q: Normal, p: Normal) -> Array:
    # 1/2 sum [(mu_q - mu_p)^2 / v_p + v_q / v_p - 1 - log(v_q / v_p)]; expm1 keeps the
    # last three exact where v_q ~ v_p.
    log_ratio = q.log_variance - p.log_variance
    squared_shift = jnp.square(q.mean - p.mean) * jnp.exp(-p.log_variance)
    return 0.5 * jnp.sum(squared_shift + jnp.expm1(log_ratio) - log_ratio)


def _kl_bernoulli(q: Bernoulli, p: Bernoulli) -> Array:
    # sum [q (l_q - l_p) + log sigmoid(-l_q) - log sigmoid(-l_p)]
    log_odds = q.mean * (q.logits - p.logits)
    return jnp.sum(
        log_odds + jax.nn.log_sigmoid(-q.logits) - jax.nn.log_sigmoid(-p.logits)
    )


def _kl_categorical(q: Categorical, p: Categorical) -> Array:
    log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
    # A class that q rules out adds nothing, whatever p says of it.
    return jnp.sum(jnp.exp(log_q) * jnp.where(log_q > -jnp.inf, log_q - log_p, 0))


_CLOSED_FORMS = {
    Normal: _kl_normal,
    Bernoulli: _kl_bernoulli,
    Categorical: _kl_categorical,
}


def kl_divergence(q: Distribution, p: Distribution) -> Array:
    """KL(q || p) = E_q[log q(z) - log p(z)] in closed form, in nats, summed over the
    event.

    For two Normals 1/2 sum [(mu_q - mu_p)^2 / v_p + v_q / v_p - log(v_q / v_p) - 1],
    which against N(0, I) is 1/2 sum (mu^2 + sigma^2 - log sigma^2 - 1).

    Raises:
      TypeError: no closed form is known for the pair.
      ValueError: the two are over events of different shape.

    Source: Kingma & Welling 2014, appendix B.
    """
    if type(q) is not type(p) or type(q) not in _CLOSED_FORMS:
        raise TypeError(
            f"kl_divergence: no closed form for KL({type(q).__name__} || "
            f"{type(p).__name__}); "
            "estimate it from samples with kl_fn=vaejax.kl_monte_carlo."
        )
    q_shapes, p_shapes = (
        [jnp.shape(leaf) for leaf in jax.tree.leaves(d)] for d in (q, p)
    )
    if any(a != b and a and b for a, b in zip(q_shapes, p_shapes, strict=True)):
        raise ValueError(
            f"kl_divergence: q has parameters of shape {q_shapes} and p of {p_shapes}; "
            "both must be over the same event (is latent_size the same on both sides?)."
        )
    return _CLOSED_FORMS[type(q)](q, p)


def no_parameters(key: Key) -> Params:
    """The `init` of a head without parameters of its own."""
    del key
    return ()


def simple_head(
    make_distribution: Callable[..., Distribution], *, num_parameters: int = 1
) -> Head:
    """A head without parameters of its own; `make_distribution` takes `num_parameters`
    arrays `[*event]`.
    """
    check_count("num_parameters", num_parameters)

    def apply(params: Params, outputs: Array) -> Distribution:
        del params
        arrays = (
            [outputs]
            if num_parameters == 1
            else [outputs[..., index] for index in range(num_parameters)]
        )
        return make_distribution(*arrays)

    return Head(num_parameters, no_parameters, apply)


def draw_around(
    draw: Callable[..., Array], key: Key, location: Array, log_scale: Array
) -> Array:
    """location + exp(log_scale) * noise, the noise by `draw(key, shape=..., dtype=...)`
    of `jax.random`.
    """
    noise = draw(key, shape=jnp.shape(location), dtype=jnp.result_type(location))
    return location + jnp.exp(log_scale) * noise


def log1mexp(x: Array) -> Array:
    """log(1 - exp(-x)) for x > 0, exact near 0 and far from it. Source: Mächler 2012,
    equation 7.
    """
    # Each branch gets an argument of its own side, since the gradient of the one not
    # taken must be finite too.
    is_small = x < math.log(2)
    small, large = jnp.where(is_small, x, 1.0), jnp.where(is_small, 1.0, x)
    return jnp.where(is_small, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))


def soft_bounds(x: Array, lower: float, upper: float) -> Array:
    """A smooth, monotone map of the real line into (lower, upper).

    Inside it is the identity up to exp(-distance to the bound). Its gradient is small
    but not zero beyond a bound, so that a network can return. Source: Chua et al. 2018
    (PETS), appendix A.1.
    """
    # The second softplus would otherwise lift the supremum above `upper` where the
    # bounds are close.
    upper += math.log(-math.expm1(lower - upper))
    if upper < math.inf:
        x = upper - jax.nn.softplus(upper - x)
    if lower > -math.inf:
        x = lower + jax.nn.softplus(x - lower)
    return x


def normal_head(
    min_log_variance: float = -20.0, max_log_variance: float = 20.0
) -> Head:
    """Normal with a mean and a log-variance for each dimension; the network puts out
    `[*event, 2]`.

    The log-variance is bounded softly, since one of 90 already makes the KL infinite in
    single precision. Where a paper bounds it otherwise, or not at all, give its bounds
    (`-math.inf` and `math.inf` for none).
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)
    return simple_head(
        lambda mean, log_variance: Normal(
            mean, soft_bounds(log_variance, min_log_variance, max_log_variance)
        ),
        num_parameters=2,
    )


def fixed_variance_normal_head(variance: float = 1.0) -> Head:
    """Normal of a known variance: -log p(x) = squared error / (2 variance) + event size
    / 2 * log(2 pi variance).
    """
    if not 0 < variance < math.inf:
        raise ValueError(
            f"fixed_variance_normal_head: variance is {variance}; give a positive "
            "number."
        )
    return simple_head(
        lambda mean: Normal(mean, jnp.full((), math.log(variance), mean.dtype))
    )


def shared_variance_normal_head(
    log_variance: float = 0.0,
    min_log_variance: float = -20.0,
    max_log_variance: float = 20.0,
) -> Head:
    """Normal with one learned variance for all dimensions and examples; `log_variance`
    is where it starts.

    Source: Rybkin et al. 2021 (sigma-VAE), section 3.1.
    """
    check_bounds("log_variance", min_log_variance, max_log_variance)

    def init(key: Key) -> Array:
        del key
        return jnp.asarray(log_variance, jnp.float32)

    def apply(params: Array, outputs: Array) -> Normal:
        return Normal(outputs, soft_bounds(params, min_log_variance, max_log_variance))

    return Head(1, init, apply)


def check_bounds(name: str, lower: float, upper: float) -> None:
    """ValueError unless `lower` is below `upper`."""
    if not lower < upper:
        raise ValueError(
            f"min_{name} is {lower} and max_{name} is {upper}; the first must be "
            "smaller."
        )


Normal.head = normal_head()
Bernoulli.head = simple_head(Bernoulli)


def categorical_head(num_classes: int) -> Head:
    """Categorical over `num_classes`; the network puts out `[*event, num_classes]`."""
    if num_classes < 2:
        raise ValueError(
            f"categorical_head: num_classes is {num_classes}; give at least 2."
        )
    return Head(
        num_classes, no_parameters, lambda params, outputs: Categorical(outputs)
    )


def as_head(likelihood: Head | type) -> Head:
    """The head itself, or the one that a distribution class carries as `head`.

    Raises:
      TypeError: neither is given.
    """
    head = getattr(likelihood, "head", likelihood)
    if not isinstance(head, Head):
        raise TypeError(
            f"likelihood is {likelihood!r}; give a vaejax.Head, or a distribution "
            "class that carries one as `head` "
            "(Bernoulli, Normal)."
        )
    return head
