"""Units of data that are no table: what a model sees, and the way back.

Each record has `to_model(x)`, which gives a network numbers of about unit size, and
`to_units(distribution)`, which states a likelihood of those numbers in the units of the
data. `models.with_units` closes a VAE over one, so that no optimizer can move it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from vaejax._checks import as_numbers, check_in_range, described
from vaejax._reals import as_floating
from vaejax._supports import read_support
from vaejax.base import Array, Distribution
from vaejax.distributions._levels import LAST, Levels
from vaejax.distributions.affine import Affine
from vaejax.distributions.cells import RoundedNormal
from vaejax.distributions.continuous import Normal
from vaejax.distributions.discrete import Bernoulli
from vaejax.distributions.mixed import Mixed


@dataclasses.dataclass(frozen=True)
class AffineUnits:
    """Real values that a model sees as (x - shift) / scale.

    A density is stated in the units of x with its Jacobian; a Normal stays a Normal.
    Likelihoods of classes, counts or levels are refused, since values that are shifted
    and scaled are none.

    Attributes:
      shift: a number, or nested tuples of numbers of the shape of x, such as the means
        of the training examples; arrays become tuples.
      scale: a number, or nested tuples of numbers of the shape of x, all above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax import Normal
      >>> from vaejax.distributions import AffineUnits
      >>> units = AffineUnits(shift=20.0, scale=10.0)
      >>> units.to_model(jnp.array([30.0])).tolist()
      [1.0]
      >>> units.to_units(Normal(jnp.zeros(1), jnp.zeros(1))).mean.tolist()
      [20.0]
    """

    shift: Any = 0.0
    scale: Any = 1.0

    def __post_init__(self) -> None:
        _settle(self)

    def to_model(self, x: Any) -> Array:
        """Return x as a network sees it."""
        x = as_floating(as_numbers("AffineUnits.to_model: x", x))
        return (x - _like(self.shift, x)) / _like(self.scale, x)

    def to_units(self, distribution: Distribution) -> Distribution:
        """Return the distribution of x where that of `to_model(x)` is given."""
        if _is_discrete(distribution):
            raise TypeError(
                f"AffineUnits: the likelihood is {type(distribution).__name__}, which "
                "is no density of shifted and scaled values; give a Normal or another "
                "density of real values, or no units."
            )
        if isinstance(distribution, Normal):
            mean = jnp.asarray(distribution.mean)
            shift, scale = _like(self.shift, mean), _like(self.scale, mean)
            log_variance = jnp.asarray(distribution.log_variance) + 2 * jnp.log(scale)
            return Normal(shift + scale * mean, log_variance)
        is_mass = isinstance(distribution, RoundedNormal)
        return _affine(distribution, self.shift, self.scale, is_mass)

    def as_dict(self) -> dict[str, Any]:
        """Return what `units_from_dict` reads, of plain numbers for JSON."""
        return {"kind": "affine", "shift": self.shift, "scale": self.scale}


@dataclasses.dataclass(frozen=True)
class Log1pUnits:
    """Counts that an encoder sees as (log(1 + x) - shift) / scale.

    The likelihood is of the counts themselves, `NegativeBinomial` or `Poisson`, and
    stays what it is.

    Attributes:
      shift: a number, or nested tuples of numbers of the shape of x; of log(1 + x).
      scale: a number, or nested tuples of numbers of the shape of x, all above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Log1pUnits
      >>> units = Log1pUnits()
      >>> round(float(units.to_model(jnp.array([9.0]))[0]), 3)  # log 10
      2.303
    """

    shift: Any = 0.0
    scale: Any = 1.0

    def __post_init__(self) -> None:
        _settle(self)

    def to_model(self, x: Any) -> Array:
        """Return x as a network sees it."""
        x = jnp.log1p(as_floating(as_numbers("Log1pUnits.to_model: x", x)))
        return (x - _like(self.shift, x)) / _like(self.scale, x)

    def to_units(self, distribution: Distribution) -> Distribution:
        """Return the distribution itself, which must be of counts."""
        if not _is_discrete(distribution):
            raise TypeError(
                f"Log1pUnits: the likelihood is {type(distribution).__name__}; give "
                "one of counts, such as NegativeBinomial, which is not transformed."
            )
        return distribution

    def as_dict(self) -> dict[str, Any]:
        """Return what `units_from_dict` reads, of plain numbers for JSON."""
        return {"kind": "log1p", "shift": self.shift, "scale": self.scale}


@dataclasses.dataclass(frozen=True)
class LevelUnits:
    """Whole numbers 0, ..., maximum, such as gray levels, seen as x / maximum.

    The masses of a likelihood of levels or of 0 and 1 are the same in both units. A
    density of intensities in [0, 1] becomes one per level, log(maximum) lower in each
    dimension; over whole numbers it is no probability unless they are dequantized.

    Attributes:
      maximum: the largest level: 255 of 8 bits, 65535 of 16.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import LevelUnits
      >>> LevelUnits(255).to_model(jnp.array([51], jnp.uint8)).tolist()
      [0.20000000298023224]
    """

    maximum: int = LAST

    def __post_init__(self) -> None:
        check_in_range("LevelUnits: maximum", self.maximum, 0, open_low=True)
        if self.maximum != int(self.maximum):
            raise ValueError(
                f"LevelUnits: maximum is {self.maximum}; give a whole number, such as "
                "255."
            )

    def to_model(self, x: Any) -> Array:
        """Return x as a network sees it."""
        x = jnp.asarray(as_numbers("LevelUnits.to_model: x", x))
        return as_floating(x) / self.maximum

    def to_units(self, distribution: Distribution) -> Distribution:
        """Return the distribution of x where that of x / maximum is given."""
        if isinstance(distribution, Levels) and self.maximum != LAST:
            raise TypeError(
                f"LevelUnits: {type(distribution).__name__} has {LAST + 1} levels and "
                f"maximum is {self.maximum}; give LevelUnits(255), or a density."
            )
        if isinstance(distribution, Levels | Bernoulli):
            return _affine(distribution, 0.0, float(self.maximum), True)
        return AffineUnits(0.0, float(self.maximum)).to_units(distribution)

    def as_dict(self) -> dict[str, Any]:
        """Return what `units_from_dict` reads, of plain numbers for JSON."""
        return {"kind": "levels", "maximum": int(self.maximum)}


#: One of the records of units.
Units = AffineUnits | Log1pUnits | LevelUnits
_KINDS = {"affine": AffineUnits, "log1p": Log1pUnits, "levels": LevelUnits}


def units_from_dict(record: Mapping[str, Any]) -> Units:
    """Return the units that `as_dict` of a record described, such as from JSON.

    Args:
      record: the dict.

    Returns:
      The units.

    Raises:
      ValueError: `record` is no such dict.

    Example:
      >>> import json
      >>> from vaejax.distributions import AffineUnits, units_from_dict
      >>> units = AffineUnits(shift=(1.0, 2.0), scale=3.0)
      >>> units_from_dict(json.loads(json.dumps(units.as_dict()))) == units
      True
    """
    return _from_dict(record)


def _from_dict(record: Mapping[str, Any]) -> Units:
    if not isinstance(record, Mapping) or record.get("kind") not in _KINDS:
        raise ValueError(
            f"units_from_dict: record is {described(record)}; give what as_dict of "
            f"units returned, whose kind is one of {', '.join(_KINDS)}."
        )
    fields = {name: value for name, value in record.items() if name != "kind"}
    return _KINDS[record["kind"]](**fields)


def _settle(units: AffineUnits | Log1pUnits) -> None:
    """Keep shift and scale as plain numbers, which compare, hash and go into JSON."""
    kind = type(units).__name__
    for name in ("shift", "scale"):
        numbers = np.asarray(as_numbers(f"{kind}: {name}", getattr(units, name)), float)
        if not np.all(np.isfinite(numbers)):
            raise ValueError(f"{kind}: {name} holds a number that is not finite.")
        if name == "scale" and not np.all(numbers > 0):
            raise ValueError(
                f"{kind}: scale holds a number that is not above 0; give 1 where all "
                "training values are equal."
            )
        object.__setattr__(units, name, _as_tuples(numbers.tolist()))


def _as_tuples(numbers: Any) -> Any:
    return tuple(map(_as_tuples, numbers)) if isinstance(numbers, list) else numbers


def _like(numbers: Any, x: Array) -> Array:
    return jnp.asarray(numbers, x.dtype)


def _affine(
    distribution: Distribution, shift: Any, scale: Any, is_mass: bool
) -> Affine:
    return Affine(
        distribution,
        jnp.asarray(shift, jnp.float32),
        jnp.asarray(scale, jnp.float32),
        is_mass,
    )


def _is_discrete(distribution: Any) -> bool:
    """Return whether all mass is on classes, counts or levels."""
    if isinstance(distribution, Mixed):
        return True
    support = read_support(distribution)
    return support is not None and not bool(support.contains(np.float64(0.3)))
