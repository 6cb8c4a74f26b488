"""Searched options: items such as `learning_rate=log:1e-4:1e-2`, as distributions."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.harness import Config, UsageError
from experiments.harness.config import check_options

SYNTAX = "NAME=LOW:HIGH, NAME=log:LOW:HIGH or NAME=VALUE,VALUE,..."
# Shared options that say how a model is trained; the others say where and how often.
_OF_TRAINING = ("clip_norm", "average", "compute_dtype")
# How far either side of its own value the learning rate is searched by default.
_FACTOR = 10

Space = dict[str, BaseDistribution]
"""The searched options, with the distribution of each."""


def searchable(config: Config) -> list[str]:
    """Return the names of a program's options that may be searched."""
    shared = {field.name for field in dataclasses.fields(Config)} - {*_OF_TRAINING}
    return [
        field.name
        for field in dataclasses.fields(config)
        if field.name not in shared and _kinds(config, field.name)
    ]


def parse_space(items: Sequence[str], config: Config) -> Space:
    """Parse the items of --search.

    Args:
      items: items as in `SYNTAX`; without any, the learning rate is searched within a
        factor of ten of its own value.
      config: the options of the program.

    Raises:
      UsageError: an item cannot be read, or the program refuses its values.
    """
    names, space = searchable(config), {}
    for item in items or [_default(config)]:
        option, _, text = item.partition("=")
        name = option.strip().replace("-", "_")
        if name not in names or name in space:
            raise UsageError(
                f"--search {item}: {option or 'nothing'} is "
                f"{'given twice' if name in space else 'not searched here'}; give "
                f"{SYNTAX} with NAME of {', '.join(names)}."
            )
        try:
            space[name] = _distribution(text, _kinds(config, name))
        except ValueError as error:
            raise UsageError(
                f"--search {item}: {error}; give {SYNTAX.replace('NAME', name)}."
            ) from error
        for value in ends(space[name]):
            try:
                check_options(dataclasses.replace(config, **{name: value}))
            except UsageError as error:
                raise UsageError(f"--search {item}: {error}") from error
    return space


def ends(distribution: BaseDistribution) -> list[Any]:
    """Return the bounds of a range, or all of the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def own_settings(space: Space, config: Config) -> dict[str, Any] | None:
    """Return the values of the program's options, None where one lies outside."""
    own = {name: getattr(config, name) for name in space}
    lies_inside = all(
        own[name] in choices
        if isinstance(distribution, CategoricalDistribution)
        and (choices := distribution.choices)
        else own[name] is not None
        and min(ends(distribution)) <= own[name] <= max(ends(distribution))
        for name, distribution in space.items()
    )
    return own if lies_inside else None


def split(
    settings: Mapping[str, Any], traced: Mapping[str, float]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Split settings into those that need a program of their own, and the others.

    `traced` holds the options that one compiled program takes as arguments.
    """
    fixed = {name: value for name, value in settings.items() if name not in traced}
    varied = {name: value for name, value in settings.items() if name in traced}
    return fixed, varied


def _default(config: Config) -> str:
    rate = getattr(config, "learning_rate", None)
    if not isinstance(rate, float):
        raise UsageError(
            f"--search: this program has no learning rate; give {SYNTAX} with NAME of "
            f"{', '.join(searchable(config))}."
        )
    return f"learning_rate=log:{rate / _FACTOR:g}:{rate * _FACTOR:g}"


def _distribution(text: str, kinds: Sequence[Any]) -> BaseDistribution:
    """The distribution that the right-hand side of an item says.

    Raises:
      ValueError: it says none.
    """
    if ":" not in text:
        choices = [_value(part.strip(), kinds) for part in text.split(",")]
        if len(choices) < 2 or len(set(choices)) < len(choices):
            raise ValueError("there must be several different values")
        return CategoricalDistribution(choices)
    *scale, low, high = (part.strip() for part in text.split(":"))
    if scale not in ([], ["log"]):
        raise ValueError(f"{text!r} is no range")
    kind = next((kind for kind in (float, int) if kind in kinds), None)
    if kind is None:
        raise ValueError("the option is not a number and has no range")
    bounds = kind(low), kind(high)
    if not bounds[0] < bounds[1] < float("inf"):
        raise ValueError(f"{low} is not below {high}")
    if scale and bounds[0] <= 0:
        raise ValueError(f"{low} has no logarithm")
    if kind is float:
        return FloatDistribution(*bounds, log=bool(scale))
    return IntDistribution(*map(int, bounds), log=bool(scale))


def _value(text: str, kinds: Sequence[Any]) -> Any:
    """The value of an option that a text says, of the first kind that it fits."""
    for kind in kinds:
        if kind is bool and text in ("True", "False"):
            return text == "True"
        if kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        if text == kind:
            return text
    raise ValueError(f"{text or 'nothing'} is no value of the option")


def _kinds(config: Config, name: str) -> list[Any]:
    """The types of an option's values, and the texts it may be; empty for others."""
    hint = typing.get_type_hints(type(config))[name]
    parts = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    found: list[Any] = []
    for part in parts:
        if typing.get_origin(part) is Literal:
            found += typing.get_args(part)
        elif part in (bool, int, float):
            found.append(part)
    return found
