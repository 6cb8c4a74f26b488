"""Checks and descriptions of any array of numbers, `[examples, ...]`.

Likelihoods are known here by their names and supports only: the caller passes them in.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vaejax.base import Support
from vaejax.datasets._count_columns import hold_counts
from vaejax.datasets._shared import first_wrong, iterate_parts

_SPLIT_SEED, _TEST_PART = 0, 10
# Factor by which the variance of counts must exceed their mean for a Poisson to be too
# narrow.
_OVERDISPERSION = 1.25
# Numbers of which a variance is taken at once.
_SAMPLE_SIZE = 1 << 17


class ArrayDescription(NamedTuple):
    """Contents of an array, and the likelihood that is proposed for them.

    Attributes:
      num_examples: length of the array.
      shape: shape of one example.
      dtype: name of the dtype.
      minimum: smallest value.
      maximum: largest value.
      is_binary: true where every value is 0 or 1, or 8-bit and 0 or 255.
      is_integer: true where every value is a whole number.
      is_overdispersed: true for counts whose variance is clearly above their mean in
        most dimensions.
      likelihood: name of the first candidate that suits, or "" where none does.
      reason: reason of that candidate, in a few words.
      white: 255 or 65,535, the largest level, where the values are intensities of 8 or
        16 bits: an array in the shape of images, `[examples, height, width]` or with a
        last axis of 1 or 3 colors, of whole numbers from 0 whose maximum is above 1 and
        at most that; 255 also for multiples of 1/255 in [0, 1]; else 0.
      are_counts: true for rows `[examples, columns]` of whole numbers from 0 that are
        counts by their values: most columns are counts as in `read_table`, or have a
        variance near their mean, and they are no flattened intensities.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> found = datasets.describe_array(np.array([[0, 1], [4, 2]]))
      >>> found.shape, found.maximum, found.is_binary, found.is_integer
      ((2,), 4.0, False, True)
    """

    num_examples: int
    shape: tuple[int, ...]
    dtype: str
    minimum: float
    maximum: float
    is_binary: bool
    is_integer: bool
    is_overdispersed: bool
    likelihood: str = ""
    reason: str = ""
    white: int = 0
    are_counts: bool = False

    def text(self) -> str:
        """Return the description as one or two lines of text."""
        found = (
            f"{self.num_examples:,} examples of shape {list(self.shape)}, "
            f"{self.dtype}, {self.minimum:g} to {self.maximum:g}"
        )
        if not self.likelihood:
            return found
        return f"{found}\nsuitable likelihood: {self.likelihood} ({self.reason})"


class LikelihoodCandidate(NamedTuple):
    """A likelihood that may be proposed for an array.

    Attributes:
      name: name of the likelihood.
      reason: reason for the proposal, in a few words.
      suits: `ArrayDescription -> bool`, true where the likelihood suits the contents.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> bernoulli = datasets.LikelihoodCandidate(
      ...     "bernoulli", "two values only", lambda found: found.is_binary
      ... )
      >>> bernoulli.suits(datasets.describe_array(np.eye(3)))
      True
    """

    name: str
    reason: str
    suits: Callable[[ArrayDescription], bool]


def describe_array(
    array: np.ndarray,
    *,
    candidates: Sequence[LikelihoodCandidate] = (),
    where: str = "the array",
) -> ArrayDescription:
    """Describe an array and propose a likelihood for it.

    Memory maps are read in chunks.

    Args:
      array: numbers, `[examples, ...]`.
      candidates: likelihoods in order of preference; the first that suits is proposed.
      where: name of the array in errors.

    Returns:
      The `ArrayDescription`.

    Raises:
      ValueError: the array does not hold numbers, is empty, has only the axis of the
        examples, or holds NaN or infinity.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> candidates = [
      ...     datasets.LikelihoodCandidate(
      ...         "poisson", "counts", lambda found: found.is_integer
      ...     ),
      ...     datasets.LikelihoodCandidate("normal", "real values", lambda found: True),
      ... ]
      >>> counts, table = np.array([[0, 3], [1, 5]]), np.array([[0.5, 3.0]])
      >>> datasets.describe_array(counts, candidates=candidates).likelihood
      'poisson'
      >>> print(datasets.describe_array(table, candidates=candidates).text())
      1 examples of shape [2], float64, 0.5 to 3
      suitable likelihood: normal (real values)
    """
    array = np.asanyarray(array)
    check_numbers(array, where=where)
    minimum, maximum, is_integer, is_scaled = np.inf, -np.inf, True, True
    # The values that binary data have; 8-bit ones may be black and white.
    two_values = [(0, 1), (0, 255)] if array.dtype == np.uint8 else [(0, 1)]
    for part in iterate_parts(array):
        minimum, maximum = min(minimum, part.min()), max(maximum, part.max())
        two_values = [
            pair for pair in two_values if np.all((part == pair[0]) | (part == pair[1]))
        ]
        is_integer = is_integer and (
            array.dtype.kind in "biu" or bool(np.all(part == np.rint(part)))
        )
        is_scaled = is_scaled and _are_scaled_levels(part)
    found = ArrayDescription(
        num_examples=len(array),
        shape=array.shape[1:],
        dtype=str(array.dtype),
        minimum=float(minimum),
        maximum=float(maximum),
        is_binary=bool(two_values),
        is_integer=is_integer,
        is_overdispersed=is_integer and minimum >= 0 and _is_overdispersed(array),
    )
    if _has_shape_of_images(array.shape) and (0, 1) not in two_values:
        found = found._replace(white=_white(found, is_scaled))
    if array.ndim == 2 and is_integer and minimum >= 0:
        found = found._replace(are_counts=hold_counts(array))
    for candidate in candidates:
        if candidate.suits(found):
            return found._replace(likelihood=candidate.name, reason=candidate.reason)
    return found


def _has_shape_of_images(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))


def _are_scaled_levels(part: np.ndarray) -> bool:
    if part.dtype.kind != "f":
        return False
    levels = 255 * part.astype(np.float64)
    return bool(np.all(np.abs(levels - np.rint(levels)) < 1e-3))


def _white(found: ArrayDescription, is_scaled: bool) -> int:
    """The largest level of intensities of 8 or 16 bits, or 0 for other values."""
    if found.minimum < 0:
        return 0
    if not found.is_integer:
        return 255 if is_scaled and found.maximum <= 1 else 0
    return next((white for white in (255, 65535) if 1 < found.maximum <= white), 0)


def _is_overdispersed(counts: np.ndarray) -> bool:
    sample = np.reshape(counts[:1000], (min(len(counts), 1000), -1))
    # By columns, since the variance takes a copy in float64.
    is_wider = [
        part.var(axis=0, dtype=np.float64)
        > _OVERDISPERSION * part.mean(axis=0, dtype=np.float64)
        for part in np.array_split(sample, 1 + sample.size // _SAMPLE_SIZE, axis=1)
    ]
    return bool(np.mean(np.concatenate(is_wider)) > 0.5)


def check_image_axes(array: np.ndarray, *, where: str = "the array") -> None:
    """Check that an array of four axes or more has the layout of images.

    Images are `[examples, height, width]` or `[examples, height, width, colors]`, with
    1 or 3 colors. Arrays of fewer axes pass.

    Args:
      array: the array; its values are not looked at.
      where: name of the array in errors.

    Raises:
      ValueError: the colors are on the second axis, there are other numbers of them,
        or the examples are volumes; the error names the fix.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> datasets.check_image_axes(np.zeros((5, 32, 32, 3)))
      >>> datasets.check_image_axes(np.zeros((5, 3, 32, 32)))  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      ValueError: the array has shape [5, 3, 32, 32], with the colors on the second ...
    """
    shape = array.shape
    if len(shape) < 4 or _has_shape_of_images(shape):
        return
    if len(shape) == 4 and shape[1] in (1, 3):
        raise ValueError(
            f"{where} has shape {list(shape)}, with the colors on the second axis; put "
            "them last: np.moveaxis(array, 1, -1)."
        )
    if len(shape) == 4 and shape[-1] <= 4:
        raise ValueError(
            f"{where} has shape {list(shape)}; the last of four axes holds the colors: "
            "give 1 or 3 of them."
        )
    raise ValueError(
        f"{where} has shape {list(shape)}, whose examples are volumes; give their "
        "slices as images, np.reshape(array, (-1, *array.shape[2:])), or each volume "
        "as a row, np.reshape(array, (len(array), -1))."
    )


def check_numbers(
    array: np.ndarray, *, where: str = "the array", allow_nan: bool = False
) -> None:
    """Check that an array holds finite numbers, `[examples, ...]`.

    Args:
      array: the array to check; memory maps are read in chunks.
      where: name of the array in errors.
      allow_nan: whether missing values may be NaN.

    Raises:
      ValueError: it is masked, does not hold numbers, is empty, has only the axis of
        the examples, or holds NaN or infinity; the error names the first such example.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> datasets.check_numbers(np.zeros((3, 2)))
      >>> datasets.check_numbers(
      ...     np.array([[1.0], [np.nan]])
      ... )  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      ValueError: the array holds nan in example 1 (at [1, 0]); fill in or leave out ...
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"{where} is a masked array; fill in or leave out what is missing."
        )
    if array.dtype.kind not in "biuf" or not array.dtype.isnative:
        raise ValueError(
            f"{where} holds {array.dtype}, not numbers of this machine; encode text "
            "and categories as numbers first."
        )
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"{where} has shape {list(array.shape)}; give at least one example, "
            "[examples, ...], with an axis for what an example holds."
        )
    is_right = _is_not_infinite if allow_nan else np.isfinite
    if array.dtype.kind == "f" and (found := first_wrong(array, is_right)):
        raise ValueError(f"{where} {found}; fill in or leave out what is missing.")


def _is_not_infinite(values: np.ndarray) -> np.ndarray:
    return ~np.isinf(values)


def check_support(
    array: np.ndarray,
    support: Support,
    *,
    where: str = "the array",
    likelihood: str = "the likelihood",
    candidates: Sequence[LikelihoodCandidate] = (),
    scale_8_bit: bool = True,
) -> None:
    """Check that every value of an array lies in the support of a likelihood.

    Args:
      array: numbers, `[examples, ...]`; memory maps are read in chunks.
      support: support of the likelihood, from `vaejax.distributions.support_of`.
      where: name of the array in errors.
      likelihood: name of the likelihood in errors.
      candidates: likelihoods of which the error proposes the first that suits.
      scale_8_bit: take 8-bit values above 1 as intensities `k / 255`; set it to False
        for counts.

    Raises:
      ValueError: a value lies outside; the error names the first one and the fix.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets, distributions
      >>> support = distributions.support_of(distributions.Bernoulli)
      >>> datasets.check_support(np.array([[0, 1], [1, 1]]), support)
      >>> datasets.check_support(
      ...     np.array([[0, 1], [2, 0]]), support
      ... )  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      ValueError: the array holds 2 in example 1 (at [1, 0]); the likelihood is over ...
    """
    is_8_bit = scale_8_bit and array.dtype == np.uint8 and array.max() > 1
    scale = 255 if is_8_bit else 1
    found = first_wrong(
        array, lambda part: support.contains(part.astype(np.float64) / scale)
    )
    if found:
        suitable = describe_array(array, candidates=candidates, where=where).likelihood
        fix = (
            f"choose {suitable}, which suits these values, or change them"
            if suitable
            else "choose another, or change these values"
        )
        raise ValueError(
            f"{where} {found}; {likelihood} is over {support.description}: {fix}."
        )


def split_indices(num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Split examples into training and test, after a shuffle with a fixed seed.

    One example in ten is for test, and at least two are.

    Args:
      num_examples: number of examples, at least 4.

    Returns:
      Sorted indices of the training examples and of the test examples.

    Raises:
      ValueError: there are fewer than 4 examples.

    Example:
      >>> from vaejax import datasets
      >>> train, test = datasets.split_indices(100)
      >>> len(train), len(test)
      (90, 10)
    """
    num_test = max(num_examples // _TEST_PART, 2)
    if num_examples < num_test + 2:
        raise ValueError(
            f"there are {num_examples} examples; give at least 4, of which one in ten "
            "is for test."
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(num_examples)
    return np.sort(order[num_test:]), np.sort(order[:num_test])
