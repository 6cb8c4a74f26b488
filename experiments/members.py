"""The members of a run: one seed each, trained together in one program."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaejax.base import Key, PyTree


@dataclasses.dataclass(frozen=True)
class Members:
    """`num` seeds from `seed` on.

    Several members are one `vmap` with a leading axis `[members]` on states and metrics. A single one runs unbatched,
    without that axis, since a batch of one matrix product is slower than the product.
    """

    seed: int
    num: int

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.num))

    @property
    def keys(self) -> Key:
        return jax.random.key(self.seed) if self.num == 1 else jax.vmap(jax.random.key)(jnp.asarray(self.seeds))

    def lift(self, function: Callable) -> Callable:
        """The function of one member's first argument, over all members; the other arguments are shared."""
        if self.num == 1:
            return function
        return lambda first, *shared: jax.vmap(function, in_axes=(0, *[None] * len(shared)))(first, *shared)

    def stack(self, tree: PyTree) -> PyTree:
        """With the leading axis `[members]`, whether there is one member or several."""
        return jax.tree.map(lambda leaf: leaf[None], tree) if self.num == 1 else tree

    def member(self, tree: PyTree, index: int) -> PyTree:
        """One member's part."""
        return tree if self.num == 1 else jax.tree.map(lambda leaf: leaf[index], tree)

    def first(self, tree: PyTree) -> PyTree:
        """The first member's part."""
        return self.member(tree, 0)

    def describe(self) -> str:
        return f"seed {self.seed}" if self.num == 1 else f"mean ± std over seeds {self.seeds[0]} to {self.seeds[-1]}"
