"""The members of a run, trained together in one program.

They are seeds times settings of its hyper-parameters.
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

from experiments.harness.config import check_in_float32
from experiments.harness.errors import UsageError
from vaejax.base import Array, Key, PyTree

# Shares of an accelerator's memory, and of a host's, that the members may take.
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
      seed: the first seed.
      num_seeds: the number of seeds.
      swept: the values of every swept option, `{name: (value, ...)}`.
      named: settings by name, `{name: {option: value}}`, all of the same options; they
        take the place of `swept`.
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
        """The named settings, or every combination of the swept values.

        Where nothing varies it is a single empty setting.
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
        """The values of each member's setting, `{name: [members]}`.

        They are scalars where there is one member.
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
        """Return a function of one member as one of all members.

        Its first argument has the axis of members; the others are shared.
        """
        return lift(function, self.num)

    def stack(self, tree: PyTree) -> PyTree:
        """Return a tree with a leading axis `[members]`, for one member too."""
        return jax.tree.map(lambda leaf: leaf[None], tree) if self.num == 1 else tree

    def member(self, tree: PyTree, index: int) -> PyTree:
        """Return one member's part of a tree."""
        return tree if self.num == 1 else jax.tree.map(lambda leaf: leaf[index], tree)

    def first(self, tree: PyTree) -> PyTree:
        """Return the first member's part of a tree."""
        return self.member(tree, 0)

    def of_setting(self, values: Any, index: int) -> Any:
        """Return the part of `values`, `[members]`, of one setting, `[seeds]`."""
        return values[index * self.num_seeds : (index + 1) * self.num_seeds]

    def name(self, index: int) -> str:
        """Return the name of one member, such as "beta=0.5, seed 3"."""
        setting, seed = divmod(index, self.num_seeds)
        return ", ".join(
            filter(None, [self.setting_names[setting], f"seed {self.seeds[seed]}"])
        )

    def describe(self) -> str:
        """Return seeds and settings in words."""
        seeds = f"seed {self.seed}"
        if self.num_seeds > 1:
            seeds = (
                f"mean ± std over {self.num_seeds} training seeds ({self.seeds[0]} to "
                f"{self.seeds[-1]})"
            )
        return (
            seeds
            if len(self.settings) == 1
            else f"{len(self.settings)} settings, each {seeds}"
        )


def lift(function: Callable, num: int) -> Callable:
    """Return a function of one member as one of `num` that are stacked.

    Its first argument has the axis of members; the others are shared. A single member
    has no such axis.
    """
    if num == 1:
        return function
    return lambda first, *shared: jax.vmap(
        function, in_axes=(0, *[None] * len(shared))
    )(first, *shared)


def parse_sweep(
    sweep: tuple[str, ...], hyperparameters: Mapping[str, float]
) -> dict[str, tuple[float, ...]]:
    """Parse items such as "beta=0.5,1,2" into `{name: values}`.

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
        if not all(0 <= value < math.inf for value in values):
            raise UsageError(
                f"--sweep {item}: give different, finite values that are not negative."
            )
        for value in values:
            check_in_float32(f"--sweep {item}: {value} is a value", value)
        if len(set(map(np.float32, values))) < len(values):
            raise UsageError(
                f"--sweep {item}: two values are the same in float32; give different "
                "ones."
            )
        swept[name] = values
    return swept


def describe_setting(setting: Mapping[str, float]) -> str:
    """Return a setting in words, such as "beta=0.5"."""
    return ", ".join(f"{name}={value:g}" for name, value in setting.items())


def pieces(num: int, at_once: int) -> list[slice]:
    """Split `num` members into as few pieces of at most `at_once` as possible.

    All have one size, so that the last may overlap its neighbor.
    """
    size = math.ceil(num / math.ceil(num / at_once))
    starts = [min(first, num - size) for first in range(0, num, size)]
    return [slice(start, start + size) for start in starts]


# Members that are evaluated together: what many samples of many need does not stay in
# cache.
MEMBERS_AT_ONCE = 4


def in_pieces(
    function: Callable, num: int, at_once: int, layout: Any = None
) -> Callable:
    """Return a function of stacked members that takes at most `at_once` at a time.

    The others wait on the host, or where the results are if JAX has no CPU to put them
    on (`JAX_PLATFORMS=cuda`). `layout` is the sharding or the device of the members
    that the function takes, by default the first device.
    """
    if at_once >= num:
        return function
    host, layout = _host(), layout or jax.local_devices()[0]

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


def _host() -> Any:
    """Return the device of the host, or None, which is no other, where JAX has none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def fitting(num: int, needed_bytes: int) -> int:
    """Return how many of `num` members the memory holds at once.

    `needed_bytes` is what the program of all of them needs.
    """
    statistics = jax.local_devices()[0].memory_stats() or {}
    available = DEVICE_SHARE * (
        statistics.get("bytes_limit", 0) - statistics.get("bytes_in_use", 0)
    )
    available = available or HOST_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    return int(np.clip(num * available / max(needed_bytes, 1), 1, num))
