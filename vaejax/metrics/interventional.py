"""Scores of codes while one factor of variation is fixed and the others vary.

`Interventions` says how such codes are drawn: from a fixed table of codes and factors,
or from a simulator and an encoder. Other scores are in `disentanglement.py` and
`dci.py`. All take and return NumPy arrays on the host.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from vaejax._checks import check_count, check_in_range
from vaejax.base import Key
from vaejax.metrics._tables import check_table, generator_of


class Interventions(NamedTuple):
    """Functions that draw codes with one factor fixed, from NumPy's generator.

    Attributes:
      num_factors: number of factors, one of which is fixed per draw.
      stddev: standard deviation of each dimension over all examples, `[dimensions]`.
      draw_batch: `(generator, factor, batch_size) -> codes [batch_size, dimensions]`,
        with the same value of that factor in all.
      draw_pairs: `(generator, factor, num) -> (codes, codes)`, `[num, dimensions]`
        each, with the same value of that factor in both of a pair.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import interventions_of_table
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> draws = interventions_of_table(factors.astype(float), factors)
      >>> batch = draws.draw_batch(np.random.default_rng(0), 1, 5)
      >>> batch.shape, float(np.var(batch[:, 1]))
      ((5, 2), 0.0)
    """

    num_factors: int
    stddev: np.ndarray
    draw_batch: Callable[[np.random.Generator, int, int], np.ndarray]
    draw_pairs: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


def interventions_of_table(codes: ArrayLike, factors: ArrayLike) -> Interventions:
    """Make interventions that draw rows of a table with replacement.

    One row drawn from all gives the value of the fixed factor; the rows of the batch
    are drawn from those with that value. In a table of every combination of the factors
    the others then vary freely, as the scores assume; where factors depend on each
    other in the table, so do those that vary. Noise in a code is the same at every draw
    of its row, so that in a small table chance alone distinguishes factors.

    Args:
      codes: `[num, dimensions]`, finite.
      factors: `[num, num_factors]`, integers, two or more factors, none constant, each
        value in two or more rows.

    Returns:
      The interventions.

    Raises:
      ValueError: codes and factors differ in number, there are fewer than two
        factors, a code is not finite, a factor is not of integers or is constant,
        or a value of a factor is in one row alone.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import interventions_of_table
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> draws = interventions_of_table(factors.astype(float), factors)
      >>> first, second = draws.draw_pairs(np.random.default_rng(0), 0, 5)
      >>> first.shape, bool(np.all(first[:, 0] == second[:, 0]))
      ((5, 2), True)
    """
    codes, factors = check_table(
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
                "one row alone; give two rows or more of every value, or leave out "
                "that row."
            )
    orders = [np.argsort(labels, kind="stable") for _, labels, _ in columns]
    starts = [np.cumsum(counts) - counts for _, _, counts in columns]

    def others(
        generator: np.random.Generator, factor: int, rows: np.ndarray
    ) -> np.ndarray:
        """Draw for each row one of those with the same value."""
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
    """Accuracies of the majority vote of the FactorVAE score.

    Attributes:
      score: accuracy on votes that the classifier was not made from, in [0, 1].
      train_accuracy: accuracy on the votes that it was made from.
      votes: number of training votes in which each dimension varied least while each
        factor was fixed, `[dimensions, num_factors]`.
      active: True for the dimensions that took part, `[dimensions]`.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import FactorVaeScore
      >>> votes, active = np.array([[7, 0], [0, 3]]), np.array([True, True])
      >>> FactorVaeScore(0.9, 1.0, votes, active).votes.sum().item()
      10
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
    """Compute the FactorVAE score, the accuracy of votes for the fixed factor.

    For a vote, a factor is drawn and fixed and `batch_size` codes are drawn; the
    dimension whose variance in the batch, divided by its variance over all examples, is
    smallest votes for the factor. A dimension stands for the factor for which it voted
    most often. Of K factors, noise scores 1/K, and codes with a dimension for all
    factors but one score (K - 1)/K. Several dimensions for one factor do not lower the
    score.

    Args:
      key: key of the draws.
      interventions: draws with one factor fixed, such as `interventions_of_table`.
      batch_size: codes per vote, at least 2.
      num_train, num_eval: votes that make the classifier and votes that score it, at
        least 1 each.
      min_stddev: smallest standard deviation of a dimension over all examples, in units
        of the code; dimensions below it are left out. With none left the score is 0,
        and there are no votes.

    Returns:
      The score, with the accuracy in training and the votes.

    Raises:
      ValueError: a count is not a positive integer, or the batch has one code.
      TypeError: the key is not a typed key.

    Example:
      >>> import jax, numpy as np
      >>> from vaejax.metrics import factor_vae_score, interventions_of_table
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> draws = interventions_of_table(factors.astype(float), factors)
      >>> factor_vae_score(
      ...     jax.random.key(0), draws, num_train=20, num_eval=20
      ... ).score
      1.0

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
    check_in_range("factor_vae_score: min_stddev", min_stddev, 0)
    generator = generator_of(key)
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
    """Accuracies of the linear classifier of the beta-VAE score.

    Attributes:
      score: accuracy on points that the classifier was not fitted to, in [0, 1].
      train_accuracy: accuracy on the points that it was fitted to.

    Example:
      >>> from vaejax.metrics import BetaVaeScore
      >>> BetaVaeScore(score=0.92, train_accuracy=0.95).score
      0.92
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
    """Compute the beta-VAE score, the accuracy of a linear classifier of the factor.

    For a point, a factor is drawn and fixed, and d = 1/L sum_l |z_l - z'_l| is the mean
    over L pairs that share it. The classifier of the factor is softmax(W d + b), with
    each dimension of d brought to mean 0 and variance 1 over the training points; W and
    b minimize the sum of the cross-entropies plus penalty / 2 ||W||^2, by L-BFGS. Codes
    that lack one factor can score 1, and so, with enough pairs, can rotated codes: the
    classifier sees all dimensions together.

    Args:
      key: key of the draws.
      interventions: draws with one factor fixed, such as `interventions_of_table`.
      batch_size: L, pairs per point, at least 1.
      num_train, num_eval: points that fit the classifier and points that score it, at
        least 1 each.
      penalty: weight of ||W||^2 / 2, not negative.

    Returns:
      The score, with the accuracy in training.

    Raises:
      ValueError: a count is not a positive integer, or the penalty is negative or not
        finite.
      TypeError: the key is not a typed key.

    Example:
      >>> import jax, numpy as np
      >>> from vaejax.metrics import beta_vae_score, interventions_of_table
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> draws = interventions_of_table(factors.astype(float), factors)
      >>> beta_vae_score(jax.random.key(0), draws, num_train=20, num_eval=20).score
      1.0

    Source: Higgins et al. 2017, section 3. The paper trains the classifier by gradient
    steps without a penalty; this penalty and these numbers are those of
    disentanglement_lib, which does not bring d to one scale.
    """
    _check_counts(
        "beta_vae_score", num_train=num_train, num_eval=num_eval, batch_size=batch_size
    )
    check_in_range("beta_vae_score: penalty", penalty, 0)
    generator = generator_of(key)

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
    stddev = np.where(np.ptp(inputs, axis=0) > 0, stddev, 1)
    inputs, test_inputs = (inputs - mean) / stddev, (test_inputs - mean) / stddev
    weights, bias = _logistic_regression(
        inputs, labels, interventions.num_factors, penalty
    )

    def accuracy(inputs: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean(np.argmax(inputs @ weights + bias, axis=1) == labels))

    return BetaVaeScore(accuracy(test_inputs, test_labels), accuracy(inputs, labels))


class InterventionalRobustness(NamedTuple):
    """Robustness of each dimension to changes of all factors but one.

    Attributes:
      score: the mean of `by_dimension` weighted by the largest deviation of each
        dimension; 0 where all are constant.
      by_dimension: the largest value of each row of `robustness`, `[dimensions]`; 0 for
        a constant dimension.
      robustness: robustness of each dimension while each factor is fixed,
        `[dimensions, num_factors]`.

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import interventional_robustness
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> found = interventional_robustness(factors.astype(float), factors)
      >>> found.by_dimension.tolist()
      [1.0, 1.0]
    """

    score: float
    by_dimension: np.ndarray
    robustness: np.ndarray


def interventional_robustness(
    codes: ArrayLike, factors: ArrayLike, *, quantile: float = 0.99
) -> InterventionalRobustness:
    """Compute the interventional robustness score (IRS) of codes.

    IRS_jk = 1 - mean_v max_(v_k = v) |z_j - E[z_j | v_k = v]| / max |z_j - E[z_j]|, of
    each dimension j at its best factor k. It is 1 where, once one factor is fixed,
    nothing moves the dimension. The mean is over the values v of the factor, the
    maximum over the rows that have it. Dimensions are weighted by their largest
    deviation, so that the scale of one dimension changes the score. Noise does not
    score 0, since the few rows of one value rarely contain the largest deviations.

    Args:
      codes: `[num, dimensions]`, finite, of examples without noise, in every
        combination of the factors.
      factors: `[num, num_factors]`, integers, none constant.
      quantile: quantile of the deviations that stands for their maximum, in (0, 1]; 1
        is the maximum.

    Returns:
      The score, with the robustness of each dimension for each factor.

    Raises:
      ValueError: codes and factors differ in number, a code is not finite, a factor is
        not of integers or is constant, or the quantile is not in (0, 1].

    Example:
      >>> import numpy as np
      >>> from vaejax.metrics import interventional_robustness
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> interventional_robustness(factors.astype(float), factors).score
      1.0

    Source: Suter et al. 2019, which has the maximum. The quantile and the weights are
    those of disentanglement_lib, the code of its authors.
    """
    codes, factors = check_table("interventional_robustness", codes, factors)
    check_in_range("interventional_robustness: quantile", quantile, 0, 1, open_low=True)
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
    """Return W `[dimensions, classes]` and b `[classes]` of the penalized fit."""
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
