"""The head of `Mixed`, and what an encoder reads of a row: scaling lives here.

Both see each column in units of its training cells (`Column.shift`, `Column.scale`),
and neither has a parameter for them: an optimizer cannot move them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vaejax._checks import as_numbers, described
from vaejax._reals import at_least_single
from vaejax.base import Array, Distribution, Event, Key, Params
from vaejax.columns import Column
from vaejax.distributions._shared import density_dtype
from vaejax.distributions.affine import Affine
from vaejax.distributions.cells import LogNormal, Ordinal, RoundedNormal
from vaejax.distributions.continuous import Normal
from vaejax.distributions.counts import NegativeBinomial
from vaejax.distributions.discrete import Bernoulli, Categorical
from vaejax.distributions.heads import soft_clip
from vaejax.distributions.mixed import Mixed, cells_of, values_and_mask

# Soft bounds, of log-variances in units of the training cells.
_LOG_VARIANCE, _LOG_MEAN = (-20.0, 20.0), (-20.0, 20.0)
_LOG_CONCENTRATION, _LOG_GAP = (-10.0, 20.0), (-20.0, 20.0)


class MixedHead(NamedTuple):
    """A map from the outputs of a network to the distribution of a row of a table.

    It is no `Head`, whose networks output the same number of arrays for every dimension
    of the event: here a class column takes more outputs than a binary one.

    Attributes:
      num_outputs: the number of outputs, all in one vector `[num_outputs]`.
      init: `key -> params` of the head's own parameters.
      apply: `(params, outputs) -> Mixed`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Column, mixed_head
      >>> head = mixed_head([Column("real"), Column("class", num_classes=4)])
      >>> head.num_outputs
      6
      >>> head.apply((), jnp.zeros(6)).mode.shape
      (2,)
    """

    num_outputs: int
    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Mixed]


class _Group(NamedTuple):
    """Columns of one kind and size.

    Attributes:
      places: their places in the row.
      columns: the columns.
      num_outputs: outputs of a network for each of them.
      make: `outputs [columns, num_outputs] -> distribution` of all of them.
    """

    places: tuple[int, ...]
    columns: tuple[Column, ...]
    num_outputs: int
    make: Callable[[Array], Distribution]


def mixed_head(
    columns: Sequence[Column], *, initial_outputs: Array | None = None
) -> MixedHead:
    """Build a head that makes a `Mixed` of one vector of outputs.

    Real columns are Normal, and a `RoundedNormal` where they lie in steps; positive
    ones log-normal, binary ones Bernoulli, classes categorical, ordinal ones `Ordinal`
    and counts negative binomial. The distributions are in the units of the file; the
    outputs are in units of the training cells, so that outputs of 0 mean: the mean and
    standard deviation of real columns (of logarithms for positive ones), classes that
    are all equally likely, and counts of mean exp(`shift`). Log-variances,
    log-concentrations and distances of cut points are bounded softly.

    The outputs of a kind and size are next to each other, in the order of
    `fit_independent_columns`.

    Args:
      columns: the columns of the row, in its order.
      initial_outputs: `[num_outputs]`, the initial value of a bias that the head adds
        to the outputs and learns, such as `fit_independent_columns` finds; None for no
        bias.

    Returns:
      The head. Its parameters are the dict of "bias", or `()` without one.

    Raises:
      ValueError: there is no column, or `initial_outputs` has another shape.
      TypeError: an entry of `columns` is no `Column`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Column, mixed_head
      >>> age = Column("real", step=1.0, shift=45.0, scale=13.0)
      >>> head = mixed_head([age, Column("binary")])
      >>> row = head.apply((), jnp.zeros(head.num_outputs))
      >>> [round(float(cell), 3) for cell in row.mean]
      [45.0, 0.5]

    Source: Nazabal et al. 2020 (HI-VAE), on heterogeneous data.
    """
    groups = _groups_of("mixed_head", columns)
    total = sum(len(group.places) * group.num_outputs for group in groups)
    if initial_outputs is not None:
        shape = as_numbers("mixed_head: initial_outputs", initial_outputs).shape
        if shape != (total,):
            raise ValueError(
                f"mixed_head: initial_outputs has shape {shape}; these columns take "
                f"({total},), as fit_independent_columns returns it."
            )

    def init(key: Key) -> Params:
        del key
        if initial_outputs is None:
            return ()
        return {"bias": jnp.asarray(initial_outputs, jnp.float32)}

    def apply(params: Params, outputs: Array) -> Mixed:
        if jnp.shape(outputs) != (total,):
            raise ValueError(
                f"mixed_head: the network outputs {jnp.shape(outputs)}; these columns "
                f"take ({total},) for one example; map a batch with jax.vmap."
            )
        # Half precision would lose the digits of a mean far from 0.
        outputs = at_least_single(outputs)
        if initial_outputs is not None:
            outputs = outputs + params["bias"]
        return _mixed(groups, outputs)

    return MixedHead(total, init, apply)


def _mixed(groups: Sequence[_Group], outputs: Array) -> Mixed:
    distributions, start = [], 0
    for group in groups:
        size = len(group.places) * group.num_outputs
        part = outputs[start : start + size]
        part = part.reshape(len(group.places), group.num_outputs)
        distributions.append(group.make(part))
        start += size
    return Mixed(tuple(distributions), tuple(group.places for group in groups))


def _groups_of(caller: str, columns: Sequence[Column]) -> tuple[_Group, ...]:
    """Return the groups of columns of a kind and size, in the order of outputs."""
    if not isinstance(columns, Iterable):
        raise TypeError(
            f"{caller}: columns is {described(columns)}; give a sequence of "
            "vaejax.distributions.Column, such as schema.modeled()."
        )
    columns = tuple(columns)
    for column in columns:
        if not isinstance(column, Column):
            raise TypeError(
                f"{caller}: columns holds {described(column)}; give "
                "vaejax.distributions.Column records, such as Column('real')."
            )
    if not columns:
        raise ValueError(f"{caller}: columns is empty; give at least one column.")
    by_kind: dict[tuple, list[int]] = {}
    for place, column in enumerate(columns):
        kind = (column.kind, column.num_classes, column.step > 0)
        by_kind.setdefault(kind, []).append(place)
    return tuple(
        _group_of(tuple(places), tuple(columns[place] for place in places))
        for places in by_kind.values()
    )


def _group_of(places: tuple[int, ...], columns: tuple[Column, ...]) -> _Group:
    kind, num_classes = columns[0].kind, columns[0].num_classes
    if kind == "real" and columns[0].step:
        return _Group(places, columns, 2, _make_rounded(columns))
    if kind == "real":
        return _Group(places, columns, 2, _make_normal(columns))
    if kind == "positive":
        return _Group(places, columns, 2, _make_log_normal(columns))
    if kind == "count":
        return _Group(places, columns, 2, _make_counts(columns))
    if kind == "binary":
        return _Group(places, columns, 1, lambda y: Bernoulli(y[:, 0]))
    if kind == "class":
        return _Group(places, columns, num_classes, _make_classes)
    return _Group(places, columns, num_classes - 1, _make_ordinal(num_classes))


def _of(columns: Sequence[Column], name: str, like: Array) -> Array:
    """Return one number of each column, in the dtype of an array."""
    return jnp.asarray([getattr(column, name) for column in columns], like.dtype)


def _location_and_log_variance(y: Array) -> tuple[Array, Array]:
    return y[:, 0], soft_clip(y[:, 1], *_LOG_VARIANCE)


def _make_normal(columns: tuple[Column, ...]) -> Callable[[Array], Distribution]:
    def make(y: Array) -> Affine:
        standard = Normal(*_location_and_log_variance(y))
        return Affine(standard, _of(columns, "shift", y), _of(columns, "scale", y))

    return make


def _make_rounded(columns: tuple[Column, ...]) -> Callable[[Array], Distribution]:
    def make(y: Array) -> RoundedNormal:
        location, log_variance = _location_and_log_variance(y)
        scale = _of(columns, "scale", y)
        return RoundedNormal(
            scale * location,
            2 * jnp.log(scale) + log_variance,
            *(_of(columns, name, y) for name in ("step", "lower", "upper", "shift")),
        )

    return make


def _make_log_normal(columns: tuple[Column, ...]) -> Callable[[Array], Distribution]:
    def make(y: Array) -> LogNormal:
        location, log_variance = _location_and_log_variance(y)
        shift, scale = _of(columns, "shift", y), _of(columns, "scale", y)
        return LogNormal(shift + scale * location, 2 * jnp.log(scale) + log_variance)

    return make


def _make_counts(columns: tuple[Column, ...]) -> Callable[[Array], Distribution]:
    def make(y: Array) -> NegativeBinomial:
        # Near the mean of log1p, where outputs of 0 would stand for a mean of 1.
        log_mean = soft_clip(_of(columns, "shift", y) + y[:, 0], *_LOG_MEAN)
        return NegativeBinomial(log_mean, soft_clip(y[:, 1], *_LOG_CONCENTRATION))

    return make


def _make_classes(y: Array) -> Any:  # has a mode, and no mean
    return Categorical(y)


def _uniform_cuts(num_classes: int) -> np.ndarray:
    """Return the parameters of an `Ordinal` whose classes are equally likely."""
    below = np.arange(1, num_classes) / num_classes
    points = np.log(below) - np.log1p(-below)
    return np.concatenate([points[:1], np.log(np.diff(points))])


def _make_ordinal(num_classes: int) -> Callable[[Array], Distribution]:
    def make(y: Array) -> Ordinal:
        cuts = y + jnp.asarray(_uniform_cuts(num_classes), y.dtype)[None]
        gaps = soft_clip(cuts[:, 1:], *_LOG_GAP)
        return Ordinal(jnp.concatenate([cuts[:, :1], gaps], axis=1))

    return make


def row_features(
    columns: Sequence[Column], event: Event, *, with_mask: bool = False
) -> Array:
    """Return a row of a table as an encoder reads it.

    Real values are standardized, those of positive columns after a logarithm and counts
    after log1p; classes are one-hot, ranks a thermometer (one feature for each rank
    above the lowest, 1 from that rank on), and binary values 0 and 1. Columns of a kind
    and size are next to each other. All features of a missing cell are 0.

    Args:
      columns: the columns of the row.
      event: a row `[D]`, or a `MaskedEvent`.
      with_mask: whether to append which cells are observed, as 0 and 1, `[D]`.

    Returns:
      The features, `[F]`.

    Raises:
      ValueError: there is no column, or the row has another length.
      TypeError: the row is not of numbers, or an entry of `columns` is no `Column`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Column, row_features
      >>> columns = [Column("real", shift=45.0, scale=10.0), Column("class", 3)]
      >>> row_features(columns, jnp.array([55.0, 2.0])).tolist()
      [1.0, 0.0, 0.0, 1.0]

    Source: Nazabal et al. 2020 (HI-VAE), on inputs of the encoder.
    """
    groups = _groups_of("row_features", columns)
    values, mask = values_and_mask("row_features: the event", event, len(columns))
    values = values.astype(density_dtype(values))
    parts = []
    for group in groups:
        cells = cells_of(values, group.places)
        if mask is None:
            features = _features(group.columns, cells)
        else:
            observed = cells_of(mask, group.places)
            # Replaced before its logarithm is taken.
            features = _features(group.columns, jnp.where(observed, cells, 1))
            features = jnp.where(observed[:, None], features, 0)
        parts.append(features.ravel())
    if with_mask:
        observed = jnp.ones(len(columns), bool) if mask is None else mask
        parts.append(observed.astype(values.dtype))
    return jnp.concatenate(parts)


def _features(columns: tuple[Column, ...], cells: Array) -> Array:
    """Return the features of observed cells of one kind, `[columns, features]`."""
    kind, num_classes = columns[0].kind, columns[0].num_classes
    if kind == "binary":
        return cells[:, None]
    if kind == "class":
        classes = jnp.arange(num_classes, dtype=cells.dtype)
        return (cells[:, None] == classes[None]).astype(cells.dtype)
    if kind == "ordinal":
        ranks = jnp.arange(1, num_classes, dtype=cells.dtype)
        return (cells[:, None] >= ranks[None]).astype(cells.dtype)
    if kind == "positive":
        cells = jnp.log(cells)
    if kind == "count":
        cells = jnp.log1p(cells)
    shift, scale = _of(columns, "shift", cells), _of(columns, "scale", cells)
    return ((cells - shift) / scale)[:, None]
