"""Missing cells of a row from its observed ones, by importance-weighted imputation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaejax._checks import (
    as_numbers,
    check_count,
    check_in_range,
    check_key,
    check_model,
    log_prob_of,
    require,
)
from vaejax._programs import run
from vaejax._reals import as_floating, as_real
from vaejax.base import VAE, Array, Distribution, Event, Key, Params, draw
from vaejax.columns import MaskedEvent
from vaejax.distributions import Categorical, Mixed, Ordinal
from vaejax.estimators import pareto_k
from vaejax.latent._weighted_draws import (
    WeightedDraw,
    WeightedMeans,
    check_row,
    weighted_draw,
    weighted_means,
)


class Imputation(NamedTuple):
    """The missing cells of one row, given its observed ones.

    Observed cells have their value, and an error of 0.

    Attributes:
      mean: `[D]`, an estimate of E[x_j | observed cells], in the units of the file. For
        a binary column it is the probability of 1. For class and ordinal columns of a
        `Mixed` it is the index of the most probable class.
      standard_error: `[D]`, Monte-Carlo standard error of the mean, by the delta
        method; of the most probable class, that of its probability. It says how well
        the mean is known, not how far the missing value may be from it, which the draws
        show. Infinite for one sample, and where the mean is not finite.
      draws: `[num_draws, D]`, rows whose missing cells are drawn together from
        p(missing cells | observed cells): multiple imputations.
      pareto_k: shape of the tail of the importance weights, see
        `vaejax.estimators.pareto_k`. Above `vaejax.estimators.pareto_k_threshold` of
        the number of samples, trust none of the others.
      class_probabilities: `[D, K]`, p(x_j = c | observed cells) with K the largest
        number of classes; rows of other columns are 0. None without class and ordinal
        columns of a `Mixed`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import Imputation
      >>> draws = jnp.array([[7.0, 1.0], [7.0, 3.0], [7.0, 2.0]])
      >>> found = Imputation(draws[2], jnp.array([0.0, 0.1]), draws, pareto_k=0.2)
      >>> found.quantiles([0.25, 0.5, 0.75]).tolist()
      [[7.0, 1.0], [7.0, 2.0], [7.0, 3.0]]
    """

    mean: Array
    standard_error: Array
    draws: Array
    pareto_k: Array
    class_probabilities: Array | None = None

    def quantiles(self, probabilities: ArrayLike) -> Array:
        """Return quantiles of each cell over the draws, `[len(probabilities), D]`.

        The quantile of p is at place p (num_draws + 1) of the sorted draws, so that the
        cell itself is below it with probability p; at the ends it is the smallest and
        the largest draw. Quantiles of classes are of their indices. They are those of
        one row: map over rows with `jax.vmap`.
        """
        name = "Imputation.quantiles: probabilities"
        probabilities = as_numbers(name, probabilities)
        check_in_range(name, probabilities, 0, 1)
        masses = as_real(probabilities)
        num = len(self.draws)
        ordered = jnp.sort(as_floating(self.draws), axis=0)
        places = jnp.clip(masses * (num + 1) - 1, 0, num - 1)
        below = jnp.floor(places).astype(jnp.int32)
        low, high = ordered[below], ordered[jnp.minimum(below + 1, num - 1)]
        shares = (places - jnp.floor(places)).astype(ordered.dtype)
        shares = jnp.reshape(shares, (*shares.shape, *(1,) * (ordered.ndim - 1)))
        # Between equal draws nothing is rounded, and infinite ones have no distance.
        return jnp.where(low == high, low, low + shares * (high - low))


def impute(
    vae: VAE,
    params: Params,
    key: Key,
    x: MaskedEvent,
    *,
    num_samples: int = 1000,
    num_draws: int = 100,
    chunk_size: int = 100,
) -> Imputation:
    """Impute the missing cells of one row by importance sampling from q(z|x).

    With z_k ~ q(z|observed cells) and the weights w_k = p(observed cells|z_k) p(z_k) /
    q(z_k|observed cells), normalized to add up to 1, the mean is
    sum_k w_k E[missing cells|z_k]. A draw chooses z_k with probability w_k and takes
    the missing cells from p(x|z_k). Both are consistent as num_samples grows, however
    poor the encoder; the Pareto k says whether the number is enough. Samples are
    decoded `chunk_size` at a time, so that memory does not grow with their number, and
    sample k draws from its own key: the chunk size changes rounding only.

    The likelihood must take a `MaskedEvent`, as that of a table does. What stands in
    missing cells has no effect.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples and the draws.
      x: one row with missing cells; use `jax.vmap` or `jax.lax.map` over a set, with
        one key per row.
      num_samples: number of samples of z, at least 1.
      num_draws: number of draws of the whole row, at least 1.
      chunk_size: samples decoded together, at least 1.

    Returns:
      The `Imputation`.

    Raises:
      TypeError: `x` is not a `MaskedEvent` with a boolean mask.
      ValueError: a count is not a positive integer, or the mask has another shape than
        the values.

    Example:
      Two Normal columns with the mean z, so that E[x_1 | x_0] = x_0 / 2.

      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Column, MaskedEvent, mixed_head
      >>> head = mixed_head([Column("real"), Column("real")])
      >>> normal = vaejax.Normal(jnp.zeros(1), jnp.zeros(1))
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: normal,
      ...     prior=lambda params: normal,
      ...     decode=lambda params, z: head.apply((), jnp.array([z[0], 0, z[0], 0])),
      ... )
      >>> row = MaskedEvent(jnp.array([3.0, 0.0]), jnp.array([True, False]))
      >>> found = vaejax.latent.impute(vae, (), jax.random.key(0), row)
      >>> float(found.mean[0]), found.draws.shape
      (3.0, (100, 2))
      >>> bool(abs(found.mean[1] - 1.5) < 5 * found.standard_error[1])
      True

    Source: Mattei & Frellsen 2019 (MIWAE), on single and multiple
    imputation.
    """
    check_model(vae, params)
    check_key(key)
    x = check_row("impute", x)
    check_count("num_samples", num_samples)
    check_count("num_draws", num_draws)
    check_count("chunk_size", chunk_size)
    counts = (num_samples, num_draws, chunk_size)
    return run(_impute, (vae, counts), params, key, x)


class _Classes(NamedTuple):
    """Class and ordinal columns: their positions, and the largest number of classes."""

    positions: tuple[int, ...]
    num_classes: int


def _classes_of(likelihood: Distribution) -> _Classes | None:
    """Return the class and ordinal columns of a `Mixed`; None where there are none."""
    if not isinstance(likelihood, Mixed):
        return None
    sizes: dict[int, int] = {}
    for group, positions in zip(
        likelihood.distributions, likelihood.positions, strict=True
    ):
        if isinstance(group, Categorical):
            num_classes = group.logits.shape[-1]
        elif isinstance(group, Ordinal):
            num_classes = group.cuts.shape[-1] + 1
        else:
            continue
        sizes |= dict.fromkeys(positions, num_classes)
    return _Classes(tuple(sizes), max(sizes.values())) if sizes else None


def _impute(
    vae: VAE,
    counts: tuple[int, int, int],
    params: Params,
    key: Key,
    x: MaskedEvent,
) -> Imputation:
    num_samples, num_draws, chunk_size = counts
    posterior, prior = vae.encode(params, x), vae.prior(params)
    sample_key, index_key, draws_key = jax.random.split(key, 3)

    def decoded(sample: Array) -> WeightedDraw:
        # A sample is decoded twice: for its weight, and for the draws that choose it.
        key = jax.random.fold_in(jax.random.clone(sample_key), sample)
        return weighted_draw(vae, params, key, posterior, prior)

    def weighed(sample: Array) -> tuple[Array, Array]:
        likelihood, log_ratio = decoded(sample)
        log_weight = as_real(log_prob_of(likelihood, x)) + log_ratio
        return log_weight, _expected(likelihood, classes).astype(log_weight.dtype)

    def drawn(numbers: tuple[Array, Array]) -> Event:
        number, sample = numbers
        key = jax.random.fold_in(draws_key, number)
        return draw(key, decoded(sample).likelihood)

    classes = _classes_of(jax.eval_shape(decoded, jnp.uint32(0)).likelihood)
    log_weights, means = weighted_means(weighed, num_samples, chunk_size)
    samples = jax.random.categorical(index_key, log_weights, shape=(num_draws,))
    numbers = jnp.arange(num_draws, dtype=jnp.uint32), samples.astype(jnp.uint32)
    draws = jax.lax.map(drawn, numbers, batch_size=min(chunk_size, num_draws))
    # Weights that are NaN, or all zero, choose no sample.
    is_usable = jnp.isfinite(jax.nn.logsumexp(log_weights))
    draws = jnp.where(is_usable, as_floating(draws), jnp.nan)
    return _completed(x, means, draws, pareto_k(log_weights), classes)


def _expected(likelihood: Distribution, classes: _Classes | None) -> Array:
    """Return the mean of p(x|z), flat, and after it the probabilities of classes."""
    mean = as_real(require(likelihood, "mean")).ravel()
    if classes is None:
        return mean
    column_log_probs = require(likelihood, "column_log_probs")
    positions = jnp.array(classes.positions)

    def probabilities(index: Array) -> Array:
        event = MaskedEvent(jnp.full(mean.shape, index), jnp.ones(mean.shape, bool))
        return jnp.exp(as_real(column_log_probs(event)))[positions]

    indices = jnp.arange(classes.num_classes, dtype=jnp.float32)
    of_classes = jax.vmap(probabilities, out_axes=1)(indices).ravel()
    return jnp.concatenate([mean, of_classes.astype(mean.dtype)])


def _completed(
    x: MaskedEvent,
    means: WeightedMeans,
    draws: Array,
    k: Array,
    classes: _Classes | None,
) -> Imputation:
    """Put the observed cells beside what stands for the missing ones."""
    values = as_floating(x.values)
    size, shape = values.size, values.shape
    mean, error = (part[:size].reshape(shape) for part in means)
    probabilities = None
    if classes is not None:
        of_classes = WeightedMeans(*(part[size:] for part in means))
        mean, error, probabilities = _with_classes(
            x, WeightedMeans(mean, error), of_classes, classes
        )
    return Imputation(
        jnp.where(x.mask, values, mean.astype(values.dtype)),
        jnp.where(x.mask, 0, error),
        jnp.where(x.mask[None], values[None], draws.astype(values.dtype)),
        k,
        probabilities,
    )


def _with_classes(
    x: MaskedEvent, means: WeightedMeans, of_classes: WeightedMeans, classes: _Classes
) -> tuple[Array, Array, Array]:
    """Return mean and error with the most probable classes, and all probabilities."""
    positions, num = jnp.array(classes.positions), classes.num_classes
    shares, errors = (part.reshape(len(positions), num) for part in of_classes)
    probabilities = jnp.zeros((means.mean.size, num), shares.dtype)
    best = jnp.argmax(shares, axis=1)
    is_known = jnp.isfinite(shares[:, 0])
    index = jnp.where(is_known, best.astype(shares.dtype), jnp.nan)
    error_of_best = jnp.take_along_axis(errors, best[:, None], axis=1)[:, 0]
    observed = jax.nn.one_hot(x.values[positions], num, dtype=shares.dtype)
    shares = jnp.where(x.mask[positions][:, None], observed, shares)
    return (
        means.mean.at[positions].set(index),
        means.standard_error.at[positions].set(error_of_best),
        probabilities.at[positions].set(shares),
    )
