"""Programs lowered for accelerators on a host without one, as they are run.

`instead_of_running(modules)` takes the place of `jax.jit` in modules: what is called is
exported for CUDA and TPU, and not run; its results are zeros.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PLATFORMS = ("cuda", "tpu")


class _Jax:
    """The module `jax`, with a `jit` of its own."""

    def __init__(self, names: list[str]):
        self.names = names

    def jit(self, function: Callable, **options: Any) -> "_Exported":
        return _Exported(self.names, function, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)


class _Exported:
    """A function that is exported when it is called, and returns zeros."""

    def __init__(self, names: list[str], function: Callable, options: dict[str, Any]):
        self.names, self.function = names, function
        self.export = jax.export.export(
            jax.jit(function, **options), platforms=PLATFORMS
        )
        self.results: dict[Any, Any] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, options))
        signature = (
            structure,
            *((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves),
        )
        if signature not in self.results:
            exported = self.export(*args, **options)
            assert exported.platforms == PLATFORMS
            self.names.append(getattr(self.function, "__qualname__", "partial"))
            zeros = map(_zeros, exported.out_avals)
            self.results[signature] = jax.tree.unflatten(exported.out_tree, zeros)
        # Other arrays every time: a program may give its arguments away.
        return jax.tree.map(jnp.copy, self.results[signature])

    def lower(self, *args: Any) -> "_Exported":
        self(*args)
        return self

    def compile(self) -> "_Exported":
        return self

    def memory_analysis(self) -> None:
        return None


def _zeros(result: Any) -> jax.Array:
    if jnp.issubdtype(result.dtype, jax.dtypes.prng_key):
        key = jax.random.key(0)
        return jax.random.split(key, result.shape) if result.shape else key
    return jnp.zeros(result.shape, result.dtype)


@contextmanager
def instead_of_running(modules: Iterable[ModuleType]) -> Iterator[list[str]]:
    """Export what modules put under `jax.jit`; yield the names of what was exported."""
    modules = [each for each in modules if getattr(each, "jax", None) is jax]
    names: list[str] = []
    stand_in = _Jax(names)
    for module in modules:
        module.jax = stand_in
    try:
        yield names
    finally:
        for module in modules:
            module.jax = jax
