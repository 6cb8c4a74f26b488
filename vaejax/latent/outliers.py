"""Outlier scores of rows and of their cells, and thresholds from held-out rows."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaejax._checks import (
    as_numbers,
    check_count,
    check_in_range,
    check_key,
    check_model,
    is_traced,
    require,
)
from vaejax._programs import run
from vaejax._reals import as_real
from vaejax.base import VAE, Array, Key, Params
from vaejax.columns import MaskedEvent
from vaejax.estimators import marginal_of_weights
from vaejax.latent._weighted_draws import check_row, weighted_draw

_REMEDY = (
    "give a model whose likelihood scores each column, such as vaejax.models.table_vae"
)


class OutlierScores(NamedTuple):
    """Outlier scores of one row and of each of its cells, in nats.

    The larger a score, the less the model expects the row or the cell. A score may be
    negative, since a density may exceed 1. That of a missing cell is NaN.

    Attributes:
      score: scalar, -log p(x) of the observed cells.
      column_scores: `[D]`, -log p(x_j | all other observed cells).
      pareto_k: `[D]`, shape of the tail of the weights without cell j, see
        `vaejax.estimators.pareto_k`: above `vaejax.estimators.pareto_k_threshold` of
        the number of samples, the score of the cell is not known. q(z|x) has seen the
        cell, so that k is large where the cell decides z.
      standard_error: scalar, Monte-Carlo standard error of the score.
      column_standard_errors: `[D]`, those of the scores of the cells. Each is by the
        delta method, and too small where k is large.
      score_pareto_k: scalar, shape of the tail of the weights of the whole row.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import OutlierScores
      >>> scores = OutlierScores(
      ...     score=jnp.float32(9.5),
      ...     column_scores=jnp.array([1.2, 7.9]),
      ...     pareto_k=jnp.array([0.1, 0.4]),
      ...     standard_error=jnp.float32(0.02),
      ...     column_standard_errors=jnp.array([0.01, 0.03]),
      ...     score_pareto_k=jnp.float32(0.2),
      ... )
      >>> int(jnp.nanargmax(scores.column_scores))  # the cell that is least expected
      1
    """

    score: Array
    column_scores: Array
    pareto_k: Array
    standard_error: Array
    column_standard_errors: Array
    score_pareto_k: Array


def outlier_scores(
    vae: VAE,
    params: Params,
    key: Key,
    x: MaskedEvent | Array,
    *,
    num_samples: int = 1000,
    chunk_size: int = 100,
) -> OutlierScores:
    """Score how little a model expects one row, and each of its cells given the others.

    All scores share num_samples draws z_i ~ q(z|x). With w_i = p(x|z_i) p(z_i) /
    q(z_i|x), p(x) is the mean of w_i, and p(x without cell j) the mean of w_i /
    p(x_j|z_i): -log p(x_j | others) is the log of the second mean less the log of the
    first. The quotient is computed as the product over the other columns, which keeps
    its digits for cells that are far off. One number is held per sample and column.

    Args:
      vae: the model; its likelihood must have `column_log_probs`.
      params: its parameters.
      key: decides the samples.
      x: one row, `[D]`, or a `MaskedEvent`; use `jax.vmap` or `jax.lax.map` over a set,
        with one key per row.
      num_samples: number of samples of z, at least 1.
      chunk_size: samples decoded together, at least 1; it changes rounding only.

    Returns:
      The `OutlierScores`.

    Raises:
      ValueError: a count is not a positive integer.
      TypeError: the mask is not of booleans, or the likelihood has no
        `column_log_probs`.

    Example:
      Two Normal columns with the mean z.

      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Column, mixed_head
      >>> head = mixed_head([Column("real"), Column("real")])
      >>> normal = vaejax.Normal(jnp.zeros(1), jnp.zeros(1))
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: (),
      ...     encode=lambda params, x: normal,
      ...     prior=lambda params: normal,
      ...     decode=lambda params, z: head.apply((), jnp.array([z[0], 0, z[0], 0])),
      ... )
      >>> row = jnp.array([0.0, 4.0])
      >>> scores = vaejax.latent.outlier_scores(vae, (), jax.random.key(0), row)
      >>> int(jnp.argmax(scores.column_scores))
      1

    Source: Burda et al. 2016, equation 8, for p(x); Gelfand et al. 1992 for leaving out
    a part of the data by weights.
    """
    check_model(vae, params)
    check_key(key)
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    row = check_row("outlier_scores", _as_masked(x))
    if row.values.ndim != 1:
        raise ValueError(
            f"outlier_scores: x has shape {row.values.shape}; give one row, [columns], "
            "and map over rows with jax.vmap."
        )
    return run(_outlier_scores, (vae, num_samples, chunk_size), params, key, row)


def _as_masked(x: MaskedEvent | Array) -> MaskedEvent:
    if isinstance(x, MaskedEvent):
        return x
    values = as_numbers("outlier_scores: x", x)
    return MaskedEvent(values, jnp.ones(jnp.shape(values), bool))


def _outlier_scores(
    vae: VAE,
    num_samples: int,
    chunk_size: int,
    params: Params,
    key: Key,
    x: MaskedEvent,
) -> OutlierScores:
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def weighed(sample: Array) -> tuple[Array, Array]:
        sample_key = jax.random.fold_in(key, sample)
        drawn = weighted_draw(vae, params, sample_key, posterior, prior)
        column_log_probs = require(drawn.likelihood, "column_log_probs", _REMEDY)
        log_probs = as_real(column_log_probs(x))
        return drawn.log_ratio.astype(log_probs.dtype), log_probs

    samples = jnp.arange(num_samples, dtype=jnp.uint32)
    log_ratios, log_probs = jax.lax.map(
        weighed, samples, batch_size=min(chunk_size, num_samples)
    )
    log_weights = log_ratios + jnp.sum(log_probs, axis=1)
    without = log_ratios[:, None] + _without_each(log_probs)
    whole = marginal_of_weights(log_weights)
    others = jax.vmap(marginal_of_weights)(without.T)
    # The two means share their samples: the error is that of their relative deviations.
    shares = jax.nn.softmax(without, axis=0) - jax.nn.softmax(log_weights)[:, None]
    unbiased = num_samples / max(num_samples - 1, 1)
    errors = jnp.sqrt(unbiased * jnp.sum(jnp.square(shares), axis=0))
    column_scores = others.log_marginal - whole.log_marginal
    has_error = jnp.isfinite(column_scores) & (num_samples > 1)
    return OutlierScores(
        -whole.log_marginal,
        jnp.where(x.mask, column_scores, jnp.nan),
        others.pareto_k,
        whole.standard_error,
        jnp.where(x.mask, jnp.where(has_error, errors, jnp.inf), jnp.nan),
        whole.pareto_k,
    )


def _without_each(log_probs: Array) -> Array:
    """Return the sum over all columns but each, `[samples, D]`.

    Subtracting one from the sum of all would cancel, and give NaN for a zero.
    """
    zeros = jnp.zeros_like(log_probs[:, :1])
    before = jnp.cumsum(log_probs, axis=1)[:, :-1]
    after = jnp.cumsum(log_probs[:, ::-1], axis=1)[:, -2::-1]
    return jnp.concatenate([zeros, before], axis=1) + jnp.concatenate(
        [after, zeros], axis=1
    )


class OutlierThreshold(NamedTuple):
    """Score above which a row is called an outlier, with two errors.

    Attributes:
      value: the threshold, a scalar in nats.
      standard_error: standard error of the value in nats, as an estimate of the
        quantile: half the distance of the scores one standard deviation of the rank
        above and below, which takes no assumption on their distribution. Infinite where
        there are too few scores above the threshold to tell.
      false_alarm_rate: the mean rate of false alarms over sets of held-out scores, at
        most the one that was asked for.
      rate_standard_error: standard deviation over such sets of the rate that this
        threshold has, exact for continuous scores of any distribution.

    Example:
      >>> from vaejax.latent import OutlierThreshold
      >>> threshold = OutlierThreshold(9.5, 0.3, 0.01, rate_standard_error=0.003)
      >>> 12.0 > threshold.value
      True
    """

    value: Array
    standard_error: Array
    false_alarm_rate: Array
    rate_standard_error: Array


def outlier_threshold(scores: ArrayLike, false_alarm_rate: float) -> OutlierThreshold:
    """Return the score that a share of the rows without outliers exceeds.

    Of n held-out scores it is the one of rank n + 1 - m in ascending order, with m =
    floor((n + 1) false_alarm_rate). A further row of the same distribution exceeds it
    with probability m / (n + 1), or less where scores are equal; the rate of a given
    threshold is distributed over sets of scores as Beta(m, n + 1 - m). Nothing is
    assumed of the model: a poor one has a higher threshold.

    Args:
      scores: `[n]`, scores of held-out rows that are no outliers, in nats: one kind,
        such as `OutlierScores.score`, or the `column_scores` of one column where it is
        observed. Rows that the model was trained on have lower scores.
      false_alarm_rate: share of such rows that may be called outliers, between 0 and 1.

    Returns:
      The threshold with its errors. A row is an outlier if its score is above the
      value. NaN scores give NaN while they are traced.

    Raises:
      ValueError: `scores` does not have exactly one axis, there are fewer than
        1 / false_alarm_rate - 1, one is NaN, or the rate is not between 0 and 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import outlier_threshold
      >>> threshold = outlier_threshold(jnp.arange(1.0, 100.0), 0.1)
      >>> float(threshold.value), round(float(threshold.false_alarm_rate), 3)
      (90.0, 0.1)
      >>> round(float(threshold.rate_standard_error), 3)  # sqrt(0.1 * 0.9 / 101)
      0.03

    Source: Wilks 1941 for the distribution of the rate; Vovk et al. 2005, section 2.2.
    """
    scores = as_numbers("outlier_threshold: scores", scores)
    if np.ndim(scores) != 1 or not np.size(scores):
        raise ValueError(
            f"outlier_threshold: scores has shape {np.shape(scores)}; give [rows], the "
            "scores of one kind, at least one, and map over columns with jax.vmap."
        )
    name = "outlier_threshold: false_alarm_rate"
    check_in_range(name, false_alarm_rate, 0, 1, open_low=True, open_high=True)
    if not is_traced(scores) and np.any(np.isnan(np.asarray(scores, np.float64))):
        raise ValueError(
            "outlier_threshold: scores holds nan, as missing cells have; leave these "
            "out."
        )
    num, rate = np.size(scores), float(false_alarm_rate)
    # Rounded, since 1 - 0.9 times 10 is below 1.
    above = math.floor(round((num + 1) * rate, 6))
    if above < 1:
        raise ValueError(
            f"outlier_threshold: there are {num} scores and the false_alarm_rate is "
            f"{rate}; give at least {math.ceil(round(1 / rate, 6)) - 1} scores, or a "
            "larger rate."
        )
    return _threshold(as_real(scores), above)


def _threshold(scores: Array, above: int) -> OutlierThreshold:
    """Return the threshold that `above` - 1 of the scores exceed."""
    num = len(scores)
    ordered, rank = jnp.sort(scores), num - above
    rate = above / (num + 1)
    deviation = math.sqrt(num * rate * (1 - rate))

    def at(rank: float) -> Array:
        """Return the score of a rank from 0 on, between neighbors on a line."""
        if not 0 <= rank <= num - 1:
            return jnp.full_like(ordered[0], jnp.copysign(jnp.inf, rank))
        below = math.floor(rank)
        low, high = ordered[below], ordered[min(below + 1, num - 1)]
        return jnp.where(low == high, low, low + (rank - below) * (high - low))

    error = (at(rank + deviation) - at(rank - deviation)) / 2
    has_nan = jnp.any(jnp.isnan(scores))
    return OutlierThreshold(
        jnp.where(has_nan, jnp.nan, ordered[rank]),
        jnp.where(has_nan, jnp.nan, error),
        jnp.full_like(error, rate),
        jnp.full_like(error, math.sqrt(rate * (1 - rate) / (num + 2))),
    )
