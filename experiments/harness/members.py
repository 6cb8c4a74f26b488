"""The members of a run: seeds times settings of its hyper-parameters, trained together
in one program.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.errors import UsageError
from vaejax.base import Array, Key, PyTree

# What the members' program may take of an accelerator's memory, and of a host's, where
# others run too.
DEVICE_SHARE, HOST_SHARE = 0.8, 0.5


@dataclasses.dataclass(frozen=True)
class Members:
    """`num_seeds` seeds from `seed` on, for every setting of the swept options.

    Several members are one `vmap` with a leading axis `[members]` on states and
    metrics: setting after setting, and within one, seed after seed. Members of one seed
    share its key, hence their first parameters, noise and order of the data, whatever
    their setting: differences between settings are paired. A single member runs
    unbatched, without that axis, since a batch of one matrix product is slower than the
    product.

    Attributes:
      seed: the first.
      num_seeds: how many.
      swept: the values of every swept option, `{name: (value, ...)}`.
      named: instead of that, settings by their names, `{name: {option: value}}`, all of
        the same options.
    """

    seed: int
    num_seeds: int
    swept: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    named: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.num_seeds))

    @property
    def settings(self) -> list[dict[str, float]]:
        """The named ones, or every combination of the swept values; a single empty one
        where nothing varies.
        """
        if self.named:
            return [dict(setting) for setting in self.named.values()]
        return [
            dict(zip(self.swept, values, strict=True))
            for values in itertools.product(*self.swept.values())
        ]

    @property
    def setting_names(self) -> list[str]:
        return list(self.named) or [
            describe_setting(setting) for setting in self.settings
        ]

    @property
    def num(self) -> int:
        return self.num_seeds * len(self.settings)

    @property
    def keys(self) -> Key:
        if self.num == 1:
            return jax.random.key(self.seed)
        return jax.vmap(jax.random.key)(jnp.asarray(self.seeds * len(self.settings)))

    @property
    def hyperparameters(self) -> dict[str, Array]:
        """The values of each member's setting, `{name: [members]}`, or scalars where
        there is one member.
        """
        options = list(self.settings[0])
        columns = {
            name: [setting[name] for setting in self.settings for _ in self.seeds]
            for name in options
        }
        return {
            name: jnp.asarray(column[0] if self.num == 1 else column)
            for name, column in columns.items()
        }

    def lift(self, function: Callable) -> Callable:
        """The function of one member's first argument, over all members; the other
        arguments are shared.
        """
        if self.num == 1:
            return function
        return lambda first, *shared: jax.vmap(
            function, in_axes=(0, *[None] * len(shared))
        )(first, *shared)

    def stack(self, tree: PyTree) -> PyTree:
        """With the leading axis `[members]`, whether there is one member or several."""
        return jax.tree.map(lambda leaf: leaf[None], tree) if self.num == 1 else tree

    def member(self, tree: PyTree, index: int) -> PyTree:
        """One member's part."""
        return tree if self.num == 1 else jax.tree.map(lambda leaf: leaf[index], tree)

    def first(self, tree: PyTree) -> PyTree:
        """The first member's part."""
        return self.member(tree, 0)

    def of_setting(self, values: Any, index: int) -> Any:
        """The part of `values`, `[members]`, that belongs to one setting, `[seeds]`."""
        return values[index * self.num_seeds : (index + 1) * self.num_seeds]

    def name(self, index: int) -> str:
        """Of one member, such as "beta=0.5, seed 3"."""
        setting, seed = divmod(index, self.num_seeds)
        return ", ".join(
            filter(None, [self.setting_names[setting], f"seed {self.seeds[seed]}"])
        )

    def describe(self) -> str:
        seeds = f"seed {self.seed}"
        if self.num_seeds > 1:
            seeds = f"mean ± std over {self.num_seeds} training seeds ({self.seeds[0]} to {self.seeds[-1]})"
        return (
            seeds
            if len(self.settings) == 1
            else f"{len(self.settings)} settings, each {seeds}"
        )


def parse_sweep(
    sweep: tuple[str, ...], hyperparameters: Mapping[str, float]
) -> dict[str, tuple[float, ...]]:
    """`{name: values}` from items such as "beta=0.5,1,2".

    Raises:
      UsageError: an item cannot be read, repeats a value or an option, or names none of
        `hyperparameters`.
    """
    swept: dict[str, tuple[float, ...]] = {}
    for item in sweep:
        option, _, text = item.partition("=")
        name = option.replace("-", "_")
        if name not in hyperparameters or name in swept:
            raise UsageError(
                f"--sweep {item}: {option or 'nothing'} is "
                f"{'given twice' if name in swept else 'not swept here'}; "
                f"give NAME=VALUE,VALUE,... with NAME of {sorted(hyperparameters)}."
            )
        try:
            values = tuple(float(value) for value in text.split(","))
        except ValueError as error:
            raise UsageError(
                f"--sweep {item}: {error}; give numbers, as in {option}=0.5,1,2."
            ) from error
        if len(set(values)) < len(values) or not all(
            0 <= value < math.inf for value in values
        ):
            raise UsageError(
                f"--sweep {item}: give different, finite values that are not negative."
            )
        swept[name] = values
    return swept


def describe_setting(setting: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in setting.items())


def pieces(num: int, at_once: int) -> list[slice]:
    """`num` members in as few pieces as hold at most `at_once`, all of one size: the
    last may overlap its neighbor.
    """
    size = math.ceil(num / math.ceil(num / at_once))
    starts = [min(first, num - size) for first in range(0, num, size)]
    return [slice(start, start + size) for start in starts]


def in_pieces(
    function: Callable, num: int, at_once: int, layout: Any = None
) -> Callable:
    """The function of stacked members, applied to at most `at_once` of them at a time;
    the others wait on the host.

    `layout` is where the function takes its members: a sharding or a device, by default
    the first.
    """
    if at_once >= num:
        return function
    host, layout = jax.local_devices(backend="cpu")[0], layout or jax.local_devices()[0]

    def apply(stacked: PyTree, *shared: Any) -> PyTree:
        results, done = [], 0
        for piece in pieces(num, at_once):
            part = jax.device_put(
                jax.tree.map(lambda leaf, piece=piece: leaf[piece], stacked), layout
            )
            result = jax.device_put(function(part, *shared), host)
            results.append(
                jax.tree.map(lambda leaf, new=done - piece.start: leaf[new:], result)
            )
            done = piece.stop
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *results)

    return apply


def fitting(num: int, needed_bytes: int) -> int:
    """How many of `num` members, whose program needs that many bytes for all, the
    memory holds at once.
    """
    statistics = jax.local_devices()[0].memory_stats() or {}
    available = DEVICE_SHARE * (
        statistics.get("bytes_limit", 0) - statistics.get("bytes_in_use", 0)
    )
    available = available or HOST_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    return int(np.clip(num * available / max(needed_bytes, 1), 1, num))
