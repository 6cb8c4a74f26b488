"""Scores of codes by interventions: one factor of variation is held, the others vary,
and the code shows which it was.

How that is done is an `Interventions`: of a fixed table of codes and factors, or of a
simulator and an encoder. Other scores are in `disentanglement.py` and
`informativeness.py`. NumPy in and out, on the host.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from vaejax._checks import check_count
from vaejax.base import Key
from vaejax.metrics.disentanglement import _check_table, _generator_of


class Interventions(NamedTuple):
    """Codes drawn with one factor fixed, by functions of NumPy's generator.

    Attributes:
      num_factors: of which one is fixed.
      stddev: of each dimension over all examples, `[dimensions]`.
      draw_batch: `(generator, factor, batch_size) -> codes [batch_size, dimensions]`,
        that factor the same in all.
      draw_pairs: `(generator, factor, num) -> (codes, codes)`, `[num, dimensions]`
        each, that factor the same in both of a pair.
    """

    num_factors: int
    stddev: np.ndarray
    draw_batch: Callable[[np.random.Generator, int, int], np.ndarray]
    draw_pairs: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


def interventions_of_table(codes: ArrayLike, factors: ArrayLike) -> Interventions:
    """Draws rows, with replacement, whose fixed factor has the value of one row drawn
    from all.

    In a table of every combination of the factors the others then vary freely, as the
    scores take for granted; where factors depend on each other in the table, so do
    those that vary. Noise in a code is the same at every draw of its row, so that in a
    small table chance itself tells factors apart.

    Args:
      codes: `[num, dimensions]`.
      factors: `[num, num_factors]`, integers, two or more factors.

    Raises:
      ValueError: the table is not as above, a code is not finite, a factor is constant,
        or a value of it has one row.
    """
    codes, factors = _check_table(
        "interventions_of_table", codes, factors, min_factors=2
    )
    columns = [
        np.unique(factor, return_inverse=True, return_counts=True)
        for factor in factors.T
    ]
    for k, (values, _, counts) in enumerate(columns):
        if counts.min() < 2:
            raise ValueError(
                f"interventions_of_table: factor {k} is {values[counts.argmin()]} in "
                "one row alone; give two rows or "
                "more of every value, or leave out that row."
            )
    orders = [np.argsort(labels, kind="stable") for _, labels, _ in columns]
    starts = [np.cumsum(counts) - counts for _, _, counts in columns]

    def others(
        generator: np.random.Generator, factor: int, rows: np.ndarray
    ) -> np.ndarray:
        """For each row another, drawn from those of the same value."""
        _, labels, counts = columns[factor]
        value = labels[rows]
        return orders[factor][starts[factor][value] + generator.integers(counts[value])]

    def draw_batch(
        generator: np.random.Generator, factor: int, batch_size: int
    ) -> np.ndarray:
        rows = np.repeat(generator.integers(len(codes)), batch_size)
        return codes[others(generator, factor, rows)]

    def draw_pairs(
        generator: np.random.Generator, factor: int, num: int
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = generator.integers(len(codes), size=num)
        return codes[rows], codes[others(generator, factor, rows)]

    return Interventions(
        factors.shape[1], np.std(codes, axis=0, ddof=1), draw_batch, draw_pairs
    )


class FactorVaeScore(NamedTuple):
    """Accuracies of the majority vote.

    Attributes:
      score: on votes that the classifier was not made from, in [0, 1].
      train_accuracy: on those that it was made from.
      votes: how often each dimension varied least while each factor was fixed, in
        training, `[dimensions, num_factors]`.
      active: whether a dimension took part, `[dimensions]`.
    """

    score: float
    train_accuracy: float
    votes: np.ndarray
    active: np.ndarray


def factor_vae_score(
    key: Key,
    interventions: Interventions,
    *,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    min_stddev: float = 0.05,
) -> FactorVaeScore:
    """The accuracy of the majority vote for the fixed factor by the dimension that
    varies least.

    A vote: a factor is drawn and fixed, `batch_size` codes are drawn, and of the
    variances of the dimensions in it, each over that of all examples, the least has the
    dimension that votes. A dimension stands for the factor for which it voted most
    often. Noise scores 1/K of K factors, a dimension each for all of them but one (K -
    1)/K. Dimensions that know the same factor do not lower the score.

    Args:
      key: decides the draws.
      interventions: see `interventions_of_table`.
      batch_size: codes in a vote, two or more.
      num_train, num_eval: votes.
      min_stddev: a dimension that varies less over all examples is left out, in units
        of the code; with none left the score is 0, and there are no votes.

    Raises:
      ValueError: a count is not positive, or the batch has one code.
      TypeError: the key is not a typed key.

    Source: Kim & Mnih 2018, section 4. The paper leaves out dimensions whose posterior
    is the prior; the threshold, the batch size and the numbers of votes are those at
    which disentanglement_lib is used.
    """
    _check_counts(
        "factor_vae_score",
        num_train=num_train,
        num_eval=num_eval,
        batch_size=batch_size,
    )
    if batch_size < 2:
        raise ValueError(
            f"factor_vae_score: batch_size is {batch_size}; give two or more, to have "
            "a variance."
        )
    generator = _generator_of("factor_vae_score", key)
    active = interventions.stddev >= min_stddev
    votes = np.zeros((len(active), interventions.num_factors), np.int64)
    if not active.any():
        return FactorVaeScore(0.0, 0.0, votes, active)
    scale = interventions.stddev[active]
    indices = np.flatnonzero(active)

    def count(num: int) -> np.ndarray:
        counts = np.zeros_like(votes)
        for factor in generator.integers(interventions.num_factors, size=num):
            batch = interventions.draw_batch(generator, factor, batch_size)[:, active]
            counts[indices[np.argmin(np.var(batch / scale, axis=0))], factor] += 1
        return counts

    votes, others = count(num_train), count(num_eval)
    chosen = np.argmax(votes, axis=1)[:, None]
    train, evaluation = (
        float(np.take_along_axis(each, chosen, axis=1).sum() / each.sum())
        for each in (votes, others)
    )
    return FactorVaeScore(evaluation, train, votes, active)


class BetaVaeScore(NamedTuple):
    """Accuracies of the linear classifier.

    Attributes:
      score: on points that it was not fitted to, in [0, 1].
      train_accuracy: on those that it was fitted to.
    """

    score: float
    train_accuracy: float


def beta_vae_score(
    key: Key,
    interventions: Interventions,
    *,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    penalty: float = 1.0,
) -> BetaVaeScore:
    """The accuracy of a linear classifier of the fixed factor from the mean of |z - z'|
    over pairs that share it.

    The classifier is softmax(W d + b) of d = 1/L sum_l |z_l - z'_l|, each dimension of
    d brought to mean 0 and variance 1 over the training points. W and b minimize the
    sum of the cross-entropies plus penalty / 2 ||W||^2, by L-BFGS. A code that lacks
    one factor can score 1, and so, with pairs enough, can a rotated one: the classifier
    sees all dimensions together.

    Args:
      key: decides the draws.
      interventions: see `interventions_of_table`.
      batch_size: L, pairs in a point.
      num_train, num_eval: points.
      penalty: of the weights, not negative.

    Raises:
      ValueError: a count is not positive, or the penalty is negative.
      TypeError: the key is not a typed key.

    Source: Higgins et al. 2017, section 3. The paper trains the classifier by gradient
    steps without a penalty; this penalty and these numbers are those of
    disentanglement_lib, which does not bring d to one scale.
    """
    _check_counts(
        "beta_vae_score", num_train=num_train, num_eval=num_eval, batch_size=batch_size
    )
    if not penalty >= 0:
        raise ValueError(f"beta_vae_score: penalty is {penalty}; give 0 or more.")
    generator = _generator_of("beta_vae_score", key)

    def points(num: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.integers(interventions.num_factors, size=num)
        pairs = (
            interventions.draw_pairs(generator, factor, batch_size) for factor in labels
        )
        return np.stack(
            [np.mean(np.abs(first - second), axis=0) for first, second in pairs]
        ), labels

    (inputs, labels), (test_inputs, test_labels) = points(num_train), points(num_eval)
    mean, stddev = np.mean(inputs, axis=0), np.std(inputs, axis=0)
    stddev = np.where(stddev > 0, stddev, 1)
    inputs, test_inputs = (inputs - mean) / stddev, (test_inputs - mean) / stddev
    weights, bias = _logistic_regression(
        inputs, labels, interventions.num_factors, penalty
    )

    def accuracy(inputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean(np.argmax(inputs @ weights + bias, axis=1) == labels))

    return BetaVaeScore(accuracy(test_inputs, test_labels), accuracy(inputs, labels))


class InterventionalRobustness(NamedTuple):
    """How little a dimension moves once a factor is fixed.

    Attributes:
      score: the mean of `by_dimension` weighted by the largest deviation of each
        dimension; 0 where all are constant.
      by_dimension: the largest of each row of `robustness`, `[dimensions]`; 0 of a
        constant dimension.
      robustness: of each dimension while each factor is fixed, `[dimensions,
        num_factors]`.
    """

    score: float
    by_dimension: np.ndarray
    robustness: np.ndarray


def interventional_robustness(
    codes: ArrayLike, factors: ArrayLike, *, quantile: float = 0.99
) -> InterventionalRobustness:
    """IRS_jk = 1 - mean_v max_(v_k = v) |z_j - E[z_j | v_k = v]| / max |z_j - E[z_j]|,
    of each j at its best factor k.

    1 where, once one factor is fixed, nothing moves the dimension. The mean is over the
    values of the factor, the maximum over the rows that have it. Dimensions are
    weighted by their largest deviation, so that to rescale one of them changes the
    score. Noise does not score 0, since few rows of a value hold none of the largest
    deviations.

    Args:
      codes: `[num, dimensions]`, of examples without noise, in every combination of the
        factors.
      factors: `[num, num_factors]`, integers.
      quantile: of the deviations, in place of their maximum, which is 1.

    Raises:
      ValueError: the table is not as above, a code is not finite, a factor is constant,
        or the quantile not in (0, 1].

    Source: Suter et al. 2019, which has the maximum. The quantile and the weights are
    those of disentanglement_lib, the code of its authors.
    """
    codes, factors = _check_table("interventional_robustness", codes, factors)
    if not 0 < quantile <= 1:
        raise ValueError(
            f"interventional_robustness: quantile is {quantile}; give more than 0 and "
            "at most 1."
        )
    largest = np.max(np.abs(codes - np.mean(codes, axis=0)), axis=0)
    # The mean of equal values may differ from them in the last digit.
    largest = np.where(np.ptp(codes, axis=0) > 0, largest, 0)

    def deviation(rows: np.ndarray) -> np.ndarray:
        return np.quantile(np.abs(rows - np.mean(rows, axis=0)), quantile, axis=0)

    deviations = [
        np.mean([deviation(codes[v == value]) for value in np.unique(v)], axis=0)
        for v in factors.T
    ]
    varies = largest > 0
    robustness = np.where(
        varies, 1 - np.stack(deviations) / np.where(varies, largest, 1), 0
    ).T
    by_dimension = np.max(robustness, axis=1)
    score = float(np.average(by_dimension, weights=largest)) if varies.any() else 0.0
    return InterventionalRobustness(score, by_dimension, robustness)


def _check_counts(name: str, **counts: int) -> None:
    for which, value in counts.items():
        check_count(f"{name}: {which}", value)


def _logistic_regression(
    inputs: np.ndarray, labels: np.ndarray, num_classes: int, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """W `[dimensions, classes]` and b `[classes]` of the penalized fit."""
    targets = np.eye(num_classes)[labels]
    shape = (inputs.shape[1] + 1, num_classes)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        *weights, bias = flat.reshape(shape)
        weights = np.stack(weights)
        log_probabilities = log_softmax(inputs @ weights + bias, axis=1)
        excess = np.exp(log_probabilities) - targets
        loss = penalty / 2 * np.sum(weights**2) - np.sum(targets * log_probabilities)
        gradient = np.vstack(
            [inputs.T @ excess + penalty * weights, excess.sum(axis=0)]
        )
        # Per point, so that the tolerances of the optimizer mean the same at any number
        # of them.
        return loss / len(inputs), gradient.ravel() / len(inputs)

    fitted = scipy.optimize.minimize(
        loss_and_gradient, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B"
    )
    *weights, bias = fitted.x.reshape(shape)
    return np.stack(weights), bias
