"""An array of numbers: how its values become what the likelihood takes.

Integers of 8 and 16 bits keep their type, and intensities are scaled in the step. Real
values stay in the units of the file: standardization is part of the model.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments.harness import model_options
from vaejax import datasets
from vaejax.base import Array, Distribution, Head, Key, Params, Transform
from vaejax.distributions import AffineUnits

STANDARDIZED = (
    "normal",
    "shared_variance_normal",
    "fixed_variance_normal",
    "laplace",
    "student_t",
)
# Likelihoods of 256 levels, whatever the data.
OF_8_BITS = ("discretized_logistic", "discretized_logistic_mixture")
# Integers that stay what they are, on the host and on the device.
SMALL = (np.uint8, np.uint16)
# Rounding of float32, in standard deviations, above which an origin is subtracted.
COARSE = 1e-4


class Data(NamedTuple):
    """Arrays as the step takes them, and how they become examples.

    Attributes:
      train: training examples, `[examples, ...]`.
      test: test examples.
      labels: labels of the test examples, or None.
      likelihood: name of the likelihood that takes them.
      white: the largest level of intensities, 255 or 65,535; 0 for other values.
      transform: `(key, example) -> x` in the step.
      notes: what was done to the values, in words.
      units: mean and standard deviation that the model standardizes with, or None.
      origin: what is subtracted on the host, where float32 would not tell the values
        of the file apart; else 0.
      center: mean of 16-bit intensities, which the model is scaled with.
      spread: their standard deviation, at least a level.
    """

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None
    likelihood: str
    white: int
    transform: Transform
    notes: list[str]
    units: AffineUnits | None = None
    origin: np.ndarray | float = 0.0
    center: float = 0.0
    spread: float = 1.0

    def intensities(self, examples: np.ndarray) -> Array:
        """Return examples in the units of the model, not binarized."""
        key = jax.random.key(0)
        transform = _divide(self.white) if self.white else self.transform
        return jax.vmap(lambda x: transform(key, x))(jnp.asarray(examples))

    def once(self, seed: int, examples: np.ndarray) -> Array:
        """Return examples as the model sees them, drawn once, each with its own key."""
        each = jax.random.split(jax.random.key(seed), len(examples))
        return jax.jit(jax.vmap(self.transform))(each, jnp.asarray(examples))


def describe(
    train: np.ndarray, test: np.ndarray, where: str
) -> datasets.ArrayDescription:
    """Describe the training part, and check that the test part is of the same kind.

    Raises:
      ValueError: they are no numbers or no images, or only one part is intensities.
    """
    datasets.check_image_axes(train, where=where)
    found, other = (model_options.describe_array(part, where) for part in (train, test))
    highest = found.white if found.is_integer else 1
    if found.white and not (
        0 <= other.minimum <= other.maximum <= highest
        and (other.is_integer or not found.is_integer)
    ):
        raise ValueError(
            f"{where}: the training part holds {found.reason}, and the test part "
            f"values from {other.minimum:g} to {other.maximum:g}; give both one range, "
            "or choose --likelihood normal."
        )
    return found


def prepare(
    train: np.ndarray,
    test: np.ndarray,
    labels: np.ndarray | None,
    likelihood: str,
    found: datasets.ArrayDescription,
    num_fitted: int | None = None,
) -> Data:
    """Scale, standardize or binarize the values as the likelihood takes them.

    Moments are those of the first `num_fitted` training examples, by default of all:
    the others are held out for validation.

    Raises:
      ValueError: the likelihood is over 256 levels and the values have more.
    """
    is_small = train.dtype in SMALL
    if likelihood in STANDARDIZED:
        mean, stddev, note = standardization(train[:num_fitted])
        origin = 0.0 if is_small else _origin(mean, stddev)
        if not is_small:
            train, test = (scaled(part, origin) for part in (train, test))
        transform = transform_of(likelihood, 0, train.dtype)
        units = AffineUnits(mean - origin, stddev)
        data = Data(train, test, labels, likelihood, 0, transform, [note])
        return data._replace(units=units, origin=origin)
    white = 0
    if likelihood not in model_options.COUNTS:
        # Bytes above 1 are intensities in a table, too.
        is_8_bit = train.dtype == np.uint8 and found.maximum > 1
        white = found.white or (255 if is_8_bit else 0)
    if not white:
        if not is_small:
            train, test = (scaled(part) for part in (train, test))
        transform = transform_of(likelihood, 0, train.dtype)
        return Data(train, test, labels, likelihood, 0, transform, [])
    train, test = (_as_levels(part, white, found) for part in (train, test))
    if white == 65535 and likelihood in OF_8_BITS:
        raise ValueError(
            f"{likelihood} is over 256 levels, and the values go to "
            f"{found.maximum:,.0f}; choose discretized_normal."
        )
    transform = transform_of(likelihood, white, train.dtype)
    notes = [_note_on_levels(likelihood, white), *_doubts(found)]
    data = Data(train, test, labels, likelihood, white, transform, notes)
    if not is_deep(data):
        return data
    center, spread = _center_and_spread(train[:num_fitted], white)
    return data._replace(center=center, spread=spread)


def transform_of(likelihood: str, white: int, dtype: Any) -> Transform:
    """Return the transform of the step, from prepared values to what a model takes."""
    if not white:
        return _as_single if dtype in SMALL else _identity
    if likelihood != "bernoulli":
        return _divide(white)
    return vaejax.binarize if white == 255 else _binarize_16_bits


def _note_on_levels(likelihood: str, white: int) -> str:
    if likelihood != "bernoulli":
        return f"divided by {white:,}"
    bits = 8 if white == 255 else 16
    return f"{bits}-bit pixels are binarized at each access, the test set once"


def _doubts(found: datasets.ArrayDescription) -> list[str]:
    """Return what else the values may be, where they are no bytes."""
    if found.dtype == "uint8" or not found.is_integer:
        return []
    return [
        f"whole numbers up to {found.maximum:,.0f} in the shape of images are taken as "
        f"levels of 0 to {found.white:,}; for counts, give --likelihood "
        f"{'negative_binomial' if found.is_overdispersed else 'poisson'}"
    ]


def _as_levels(
    array: np.ndarray, white: int, found: datasets.ArrayDescription
) -> np.ndarray:
    """Return intensities as integers of 8 or 16 bits."""
    dtype = np.uint8 if white == 255 else np.uint16
    if array.dtype == dtype:
        return array
    factor = 1 if found.is_integer else white
    levels = np.empty(array.shape, dtype)
    for rows in _parts(array):
        levels[rows] = np.rint(array[rows].astype(np.float64) * factor)
    return levels


def _origin(mean: np.ndarray, stddev: np.ndarray) -> np.ndarray | float:
    """The mean where float32 at its size is coarse beside the standard deviation."""
    is_coarse = np.abs(mean) * 2.0**-23 > COARSE * stddev
    return np.where(is_coarse, mean, 0.0) if np.any(is_coarse) else 0.0


def scaled(array: np.ndarray, origin: np.ndarray | float = 0.0) -> np.ndarray:
    """Return array - origin, computed in float64, as float32.

    Raises:
      ValueError: a value does not fit.
    """
    found = np.empty(array.shape, np.float32)
    for rows in _parts(array):
        with np.errstate(over="ignore"):
            found[rows] = array[rows].astype(np.float64) - origin
        if not (finite := np.isfinite(found[rows])).all():
            place = np.unravel_index(np.argmin(finite), finite.shape)
            raise ValueError(
                f"column {_column(place[1:], array.shape[1:])} holds "
                f"{array[rows][place]:g} in example {rows.start + place[0]}, which is "
                "infinite in float32 as the model takes it; divide the data by a "
                "constant."
            )
    return found


def _column(place: tuple[Any, ...], shape: tuple[int, ...]) -> int:
    """The number of a value of an example, from 1, in the order of a row."""
    return int(np.ravel_multi_index(place, shape)) + 1


def _parts(array: np.ndarray) -> Iterator[slice]:
    """Rows that are about 1 MiB, since float64 is up to 8 times as large."""
    num = max(1, (len(array) << 20) // array.nbytes)
    return (slice(start, start + num) for start in range(0, len(array), num))


def _identity(key: Key, x: Array) -> Array:
    del key
    return x


def _as_single(key: Key, x: Array) -> Array:
    del key
    return x.astype(jnp.float32)


def _divide(white: int) -> Transform:
    def divide(key: Key, x: Array) -> Array:
        del key
        return x.astype(jnp.float32) / jnp.float32(white)

    return divide


def _binarize_16_bits(key: Key, x: Array) -> Array:
    return vaejax.binarize(key, _divide(65535)(key, x))


def standardization(train: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return mean and standard deviation of the training data, and a note on them.

    A table is standardized column by column, other data as a whole.
    """
    axis = 0 if train.ndim == 2 else None
    mean, stddev = _moments(train, axis)
    constant = np.atleast_1d(train.max(axis=axis) == train.min(axis=axis))
    if constant.any():
        column = int(np.argmax(constant))
        raise ValueError(
            f"column {column + 1} is {np.ravel(train[:1])[column]:g} in every training "
            "example; leave it out, since a density of what never varies has no bound."
        )
    # Squares beyond double precision are infinite, or 0.
    usable = np.isfinite(mean) & np.isfinite(stddev) & (stddev > 0)
    if not np.all(usable):
        column = int(np.argmin(np.atleast_1d(usable)))
        values = train if axis is None else train[:, column]
        where = "the data" if axis is None else f"column {column + 1}"
        raise ValueError(
            f"{where}: values from {values.min():g} to {values.max():g} have a "
            f"standard deviation of {np.atleast_1d(stddev)[column]:g} in double "
            "precision, out of its range; divide them by a constant."
        )
    how = "standardized" if axis is None else "standardized column by column"
    return mean, stddev, f"{how} inside the model; nats are in the units of the file"


def _moments(train: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in float64, in parts; infinite if they overflow."""
    squares, count = 0.0, len(train) if axis == 0 else train.size
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        mean = train.mean(axis=axis, dtype=np.float64)
        for rows in _parts(train):
            squares += np.square(train[rows].astype(np.float64) - mean).sum(axis=axis)
        return mean, np.sqrt(squares / count)


def is_deep(data: Data) -> bool:
    """Return whether the likelihood is over the 65,536 levels of 16 bits."""
    return (data.likelihood, data.white) == ("discretized_normal", 65535)


def head_of(data: Data) -> Head:
    """Return the head of the likelihood, which starts at the training data's mean."""
    head, outputs = head_and_outputs(data)
    if is_deep(data):
        return head
    return vaejax.distributions.with_initial_outputs(head, outputs)


def head_and_outputs(data: Data) -> tuple[Head, Array]:
    """Return the head of the likelihood, and outputs at the training data's mean."""
    if is_deep(data):
        head = head_of_16_bits(data.center, data.spread)
        return head, jnp.zeros((*data.train.shape[1:], 2))
    head = model_options.LIKELIHOODS[data.likelihood]
    return head, initial_outputs(data.likelihood, head, data.train, data.white)


def head_of_16_bits(center: float, spread: float) -> Head:
    """Return the head of a Normal over the 65,536 levels k / 65535.

    Outputs are in units of the data, since levels of 12 bits fill a sixteenth of the
    range: at 0 the mean is `center` and the standard deviation `spread`, which is
    bounded softly by a seventh of a level from below.
    """

    def apply(params: Params, outputs: Array) -> Distribution:
        del params
        log_variance = vaejax.distributions.soft_clip(
            outputs[..., 1] + 2 * math.log(spread), -26.0, 10.0
        )
        return vaejax.distributions.RoundedNormal(
            center + spread * outputs[..., 0],
            log_variance,
            step=1 / 65535,
            lower=0.0,
            upper=1.0,
        )

    return Head(2, lambda key: (), apply)


def with_scaled_inputs(vae: vaejax.VAE, data: Data) -> vaejax.VAE:
    """Return the model in the units of its data.

    Of standardized values, examples and p(x|z) are in the units of the file. Of 16-bit
    intensities, the encoder sees units of the data.
    """
    if data.units is not None:
        return vaejax.models.with_units(vae, data.units)
    if not is_deep(data):
        return vae
    center, spread = data.center, data.spread

    def units(x: Array) -> Array:
        return (x.astype(jnp.float32) - center) / spread

    return vae._replace(
        init=lambda key, x: vae.init(key, units(x)),
        encode=lambda params, x: vae.encode(params, units(x)),
    )


def _center_and_spread(levels: np.ndarray, white: int) -> tuple[float, float]:
    """Mean and standard deviation of training intensities, at least a level."""
    mean, stddev = _moments(levels, axis=None)
    return float(mean) / white, max(float(stddev), 1.0) / white


def initial_outputs(likelihood: str, head: Head, xs: np.ndarray, white: int) -> Array:
    """Return the first outputs of the decoder.

    They are the data's log-odds, the logarithm of their mean, or zero.
    """
    mean = xs[:10_000].mean(axis=0, dtype=np.float64) / (white or 1)
    first = np.zeros(mean.shape)
    if likelihood == "bernoulli":
        inside = np.clip(mean, 0.001, 0.999)
        first = np.log(inside) - np.log1p(-inside)
    elif likelihood in model_options.COUNTS:
        first = np.log(np.maximum(mean, 1e-3))
    elif likelihood in ("discretized_logistic", "discretized_normal"):
        first = mean - 0.5
    if head.num_parameters == 1:
        return jnp.asarray(first, jnp.float32)
    outputs = np.zeros((*mean.shape, head.num_parameters), np.float32)
    if likelihood != "discretized_logistic_mixture":
        outputs[..., 0] = first
    return jnp.asarray(outputs)
