"""Checks of data against the likelihood of a model, before the first step.

A traced value cannot raise, so a step scores a wrong one as -inf or NaN. Data are
therefore judged once, where their values are known. Read `check_data` first.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_model, is_traced
from vaejax._programs import run
from vaejax._supports import is_all_reals, read_support
from vaejax.base import (
    END_TOKEN,
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    Params,
    PyTree,
    Support,
    Transform,
    draw,
)
from vaejax.datasets import binarize
from vaejax.distributions import (
    Autoregressive,
    Bernoulli,
    Categorical,
    Joint,
    MaskedEvent,
    Mixed,
)
from vaejax.training._sources import is_random_access, num_examples
from vaejax.training._values import (
    Part,
    Wrong,
    check_representable,
    check_values,
    described,
    extremes,
    first_wrong,
    moments,
    parts_of,
    sample_of,
    without_missing,
)

# From this size on, training of an MLP with Adam was seen not to recover.
_LARGE = 5.0
# Below this spread, the KL term outweighs all that a unit variance could gain.
_SMALL = 0.05
_INTENSITIES = Support("values in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def check_data(
    vae: VAE, params: Params, xs: Any, *, transform: Transform | None = None
) -> None:
    """Check that a data set is one that a model can be trained on.

    It raises for what is empty or not finite, for a value outside the support of the
    likelihood, a class that is none, a token after the end of its sentence, and
    whatever `encode` and `log_prob` refuse; it warns of data whose mean or standard
    deviation is far from that of a unit Normal, and of gray values under a Bernoulli,
    whose loss is a cross-entropy then. Memory maps are read in chunks.

    Args:
      vae: The model. It is traced, not computed.
      params: Parameters of the model, such as `state.params`.
      xs: The examples: arrays `[examples, ...]`, also memory-mapped, a pytree of them,
        or an object with `__len__` and `__getitem__(index)`, of which 256 examples at
        even distances are judged.
      transform: The transform of the objective, `(key, x) -> x`, such as `binarize`; it
        is applied to 256 examples, which are judged in place of all.

    Raises:
      ValueError: The data are empty, or hold a value that is not finite or lies outside
        the support; the error names the first such value, its place and the fix.
      TypeError: The data are not numbers, or of a dtype that the likelihood refuses.

    Example:
      >>> import jax, numpy as np
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,), (3,))
      ... )
      >>> xs = np.array([[0.0, 1.0, 1.0], [0.0, 255.0, 1.0]], np.float32)
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> vaejax.training.check_data(vae, params, xs[:1])
      >>> vaejax.training.check_data(
      ...     vae, params, xs
      ... )  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      ValueError: check_data: xs holds 255.0 in example 1 (at [1, 1]); Bernoulli is ...
    """
    check_model(vae, params)
    name = "check_data: xs"
    check_values(name, xs)
    if is_random_access(xs):
        xs = sample_of(xs)
    xs = without_missing(xs)
    if transform is not None:
        if _is_binarize(transform):
            _check_support("binarize", _INTENSITIES, _not_levels(parts_of(name, xs)))
        name, xs = "check_data: the transformed xs", _transformed(transform, xs)
        check_values(name, xs)
    example = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape[1:], jax.dtypes.canonicalize_dtype(leaf.dtype)
        ),
        xs,
    )
    judged_parts = _judged(vae, params, example, name, xs)
    for judged, part_name, part in judged_parts:
        if judged.is_table:
            _check_table(part_name, judged, part)
        else:
            _check_likelihood(judged, parts_of(part_name, part))
    jax.eval_shape(_score, vae, params, jax.random.key(0), example)
    for judged, part_name, part in judged_parts:
        if judged.is_table or judged.support is None or num_examples(xs) < 2:
            continue
        if is_all_reals(judged.support, ()):
            parts = parts_of(part_name, part)
            _warn_of_moments(_as_seen(vae, part_name, part, parts, is_example=False))


def check_example(vae: VAE, params: Params, x: Example) -> None:
    """Raise or warn where one example, if its values are known, is none of the model.

    An example of zeros alone stands for a shape, and unsigned integers may still be
    transformed.
    """
    if any(is_traced(leaf) for leaf in jax.tree.leaves(x)):
        return
    name = "init_train_state: x"
    x = without_missing(x)
    parts = parts_of(name, x)
    for part in parts:
        check_representable(part, is_example=True)
    if not any(np.any(part.array) for part in parts):
        return
    example = jax.tree.map(jnp.asarray, x)
    for judged, part_name, part in _judged(vae, params, example, name, x, True):
        if judged.is_table:
            _check_table(part_name, judged, part, is_example=True)
            continue
        parts = parts_of(part_name, part)
        known = [part for part in parts if part.array.dtype.kind != "u"]
        _check_likelihood(judged, known, is_example=True)
        _warn_of_scale(_as_seen(vae, part_name, part, parts, is_example=True))


def _as_seen(
    vae: VAE, name: str, xs: PyTree, parts: list[Part], *, is_example: bool
) -> list[Part]:
    """Return the arrays as the networks see them, where `with_units` says how."""
    units = getattr(vae.decode, "units", None)
    if units is None:
        return parts
    return parts_of(name, units.to_model(xs if is_example else sample_of(xs)))


class _Judged(NamedTuple):
    """The likelihood of a model as far as data are judged by it."""

    name: str
    support: Support | None
    num_classes: int | None
    is_gray: bool
    is_sentence: bool
    is_table: bool


def _judged(
    vae: VAE,
    params: Params,
    example: PyTree,
    name: str,
    xs: PyTree,
    is_example: bool = False,
) -> list[tuple[_Judged, str, PyTree]]:
    """Return how data are judged, their name and they, for each part of a `Joint`."""
    likelihood, scored = jax.eval_shape(
        _decode_scored, vae, params, jax.random.key(0), example
    )
    if jax.tree.structure(scored) != jax.tree.structure(example):
        # What is given with x, such as a condition, is not judged.
        name, xs = f"{name}.x", xs.x
    return [
        (_judged_by(distribution), part_name, part)
        for distribution, part_name, part in _parts(likelihood, name, xs, is_example)
    ]


def _parts(
    likelihood: Any, name: str, xs: PyTree, is_example: bool
) -> Iterator[tuple[Any, str, PyTree]]:
    if not isinstance(likelihood, Joint):
        yield likelihood, name, xs
        return
    for part_name, distribution, part in likelihood.parts(xs):
        if isinstance(part, MaskedEvent) and np.ndim(part.mask) == 1 - is_example:
            is_seen = np.atleast_1d(np.asarray(part.mask, bool))
            if not is_seen.any():
                continue
            # Missing ones are judged as the first that is there.
            place = np.where(is_seen, np.arange(len(is_seen)), is_seen.argmax())
            part = part.values
            if not is_example:
                part = jax.tree.map(lambda leaf, p=place: np.asarray(leaf)[p], part)
        yield from _parts(distribution, f"{name}{part_name}", part, is_example)


def _judged_by(likelihood: Any) -> _Judged:
    return _Judged(
        type(likelihood).__name__,
        read_support(likelihood),
        _num_classes(likelihood),
        isinstance(likelihood, Bernoulli),
        isinstance(likelihood, Autoregressive),
        isinstance(likelihood, Mixed),
    )


def _decode(vae: VAE, params: Params, key: Key, x: Example) -> Distribution:
    return vae.decode(params, draw(key, vae.encode(params, x)))


def _decode_scored(
    vae: VAE, params: Params, key: Key, x: Example
) -> tuple[Distribution, PyTree]:
    """Return p(x|z) and what it scores, of an example that holds a condition too."""
    likelihood: Any = _decode(vae, params, key, x)
    if hasattr(likelihood, "of_scored"):
        return likelihood.of_scored(x)
    return likelihood, x


def _score(vae: VAE, params: Params, key: Key, x: Example) -> Array:
    return _decode(vae, params, key, x).log_prob(x)


def _num_classes(likelihood: Any) -> int | None:
    if isinstance(likelihood, Categorical):
        return likelihood.logits.shape[-1]
    if isinstance(likelihood, Autoregressive):
        inputs = jax.ShapeDtypeStruct((likelihood.length,), jnp.int32)
        logits = jax.eval_shape(lambda f, x: f(x), likelihood.logits_fn, inputs)
        return logits.shape[-1]
    return None


def _is_binarize(transform: Any) -> bool:
    while isinstance(transform, partial):
        transform = transform.func
    return transform is binarize


def _not_levels(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that are not 8-bit levels, all of which `binarize` takes."""
    return [part for part in parts if part.array.dtype != np.uint8]


def _transformed(transform: Transform, xs: PyTree) -> PyTree:
    sample = sample_of(xs)
    keys = jax.random.split(jax.random.key(0), num_examples(sample))
    return jax.device_get(run(_map_transform, (transform,), keys, sample))


def _map_transform(transform: Transform, keys: Key, xs: PyTree) -> PyTree:
    return jax.vmap(transform)(keys, xs)


def _check_likelihood(
    judged: _Judged, parts: Sequence[Part], *, is_example: bool = False
) -> None:
    """Raise where a value is outside the support; warn of gray values, if a set's."""
    name, support, num_classes, is_gray, is_sentence, _ = judged
    if support is None:
        return
    wanted = support
    if num_classes is not None:
        wanted = Support(
            f"the classes 0 to {num_classes - 1}",
            lambda x: support.contains(x) & (x < num_classes),
        )
    if is_gray:
        # A density on {0, 1}, and by agreement a cross-entropy on what lies between.
        wanted = Support(support.description, _INTENSITIES.contains)
    _check_support(name, wanted, parts, is_gray=is_gray, is_example=is_example)
    if is_sentence and not is_example:
        _check_ends(parts[0])
    if not is_gray or is_example:
        return
    for part in parts:
        wrong = first_wrong(part.array, support.contains)
        if wrong:
            warnings.warn(
                f"{described(part.name, wrong)}; {name} is over {support.description}, "
                "and its loss on values in between is a cross-entropy, not a bound on "
                "log p(x): train with with_transform(objective, binarize).",
                stacklevel=3,
            )
            return


def _check_table(
    name: str, judged: _Judged, rows: Example, *, is_example: bool = False
) -> None:
    """Raise where an observed cell is no value of its column.

    Scales are the columns' own, so that none is warned of.
    """
    values, mask = rows if isinstance(rows, MaskedEvent) else (rows, None)
    if judged.support is None or not isinstance(values, np.ndarray | jax.Array):
        return  # a row within a larger example, which another function takes apart
    values, contains = np.asarray(values), judged.support.contains
    mask = None if mask is None else np.broadcast_to(np.asarray(mask), values.shape)
    if is_example:
        values, mask = values[None], None if mask is None else mask[None]
    wrong = first_wrong(values, lambda rows: contains(rows.astype(np.float64)), mask)
    if wrong:
        place = wrong.index[1:] if is_example else wrong.index
        where = described(name, Wrong(wrong.value, place), is_example)
        raise ValueError(
            f"{where}, which is no value of the kind of column {place[-1]}; correct "
            "the cell, mark it as missing, or give the column another kind."
        )


def _check_support(
    name: str,
    support: Support,
    parts: Sequence[Part],
    *,
    is_gray: bool = False,
    is_example: bool = False,
) -> None:
    for part in parts:
        wrong = first_wrong(
            part.array, lambda values: support.contains(values.astype(np.float64))
        )
        if wrong:
            where = described(part.name, wrong, is_example)
            raise ValueError(
                f"{where}; {name} is over {support.description}: "
                f"{_remedy(support, part.array, is_gray)}."
            )


def _check_ends(part: Part) -> None:
    """Raise where a token follows the end of its sentence, and would be ignored."""
    # An array of another rank is refused when it is scored.
    if part.array.ndim != 2:
        return
    after_end = first_wrong(
        part.array,
        lambda rows: (np.cumsum(rows == END_TOKEN, axis=1) == 0) | (rows == END_TOKEN),
    )
    if after_end:
        raise ValueError(
            f"{described(part.name, after_end)}, after token {END_TOKEN}, END_TOKEN, "
            "which ends a sentence: what follows it is not trained on. Where 0 is a "
            "symbol of the data, add 1 to every token and give the networks one token "
            "more; else put 0 after the end."
        )


def _remedy(support: Support, array: np.ndarray, is_gray: bool) -> str:
    low, high = extremes(array)
    inside = [bool(support.contains(np.float64(x))) for x in (0, 0.5, 1, 2, -0.5, 1e3)]
    zero, half, one, two, negative, large = inside
    is_bounded = zero and one and not two
    if "classes" in support.description:
        return (
            f"the data have {low:g} to {high:g}, so number the classes from 0, or give "
            "the likelihood more of them"
        )
    if is_bounded and low >= 0 and 1 < high <= 255:
        if is_gray and array.dtype == np.uint8:
            return (
                "train gray levels with with_transform(objective, binarize), and check "
                "them with transform=binarize"
            )
        return "divide gray levels by 255" + (", and binarize them" if is_gray else "")
    if is_bounded and -1 <= low < 0 and high <= 1:
        return "map [-1, 1] to [0, 1] by (x + 1) / 2"
    if is_bounded and low >= 0 and high <= 1:
        return "round to levels by jnp.round(255 * x) / 255"
    if is_bounded:
        return "map them to [0, 1], or choose a likelihood over real numbers"
    if zero and large and not half and not negative:
        return "choose a likelihood over real numbers, such as Normal"
    return "change these values, or choose another likelihood"


def _warn_of_scale(parts: Sequence[Part]) -> None:
    """Warn where the values of an example are far above unit size."""
    for name, array in parts:
        if not (jnp.issubdtype(array.dtype, jnp.floating) and array.size):
            continue
        # The median: a few outliers are not a matter of scale.
        typical = np.median(np.abs(array.astype(np.float64)))
        if typical > _LARGE:
            warnings.warn(
                f"{name} has values of about {typical:.3g} in size, so training may "
                "not recover from the errors of its first steps; subtract the mean of "
                "the data and divide by their standard deviation.",
                stacklevel=4,
            )


def _warn_of_moments(parts: Sequence[Part]) -> None:
    """Warn where mean or standard deviation is far from that of a unit Normal."""
    for name, array in parts:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            continue
        mean, stddev = moments(array)
        size = np.maximum(np.abs(mean), stddev)
        place = np.unravel_index(size.argmax(), size.shape)
        where = f" at {[int(i) for i in place]}" if place else ""
        if size[place] > _LARGE:
            warnings.warn(
                f"{name} has mean {mean[place]:.3g} and standard deviation "
                f"{stddev[place]:.3g}{where}, where training starts from a unit "
                "Normal and may not recover; subtract the mean of each dimension and "
                "divide by its standard deviation.",
                stacklevel=3,
            )
        elif stddev.max() < _SMALL:
            warnings.warn(
                f"{name} has standard deviations of at most {stddev.max():.3g}, where "
                "training starts from a unit Normal, which they do not show in; divide "
                "each dimension by its standard deviation.",
                stacklevel=3,
            )
