"""Programs of functions that loop: compiled once, however often they are called.

A loop over a function that its caller makes, `lax.scan(lambda ...)`, compiles in every
call outside `jax.jit`, and JAX keeps what it has compiled. A function that loops is
therefore a body at module level, and `run` compiles it once per set of functions that
it is given and per shape.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary, ref

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import is_traced


def run(body: Callable, static: tuple, *arguments: Any) -> Any:
    """Return `body(*static, *arguments)` of a program that is compiled once.

    `static` holds functions and hashable values, in tuples such as a `VAE`. A program
    is found by the identity of its functions (of the parts of a `partial`) and lives as
    long as all of them, so that models which are built and thrown away leave nothing
    behind. Inside another transformation the body becomes part of what is traced, and
    its functions may close over traced values. Functions that cannot be hashed compile
    in every call.
    """
    functions: list[Callable] = []
    kept = _without_functions(static, functions)
    try:
        program = _program(body, kept, functions)
    except TypeError:  # what cannot be hashed, or has no weak references
        return body(*static, *arguments)
    return program(_Functions(functions), *arguments)


def judged(x: Any) -> Any:
    """Return an example for a program, which sees the dtypes of arrays only.

    Unsigned integers that are traced are gray levels to a likelihood of 0 and 1. Those
    that are known to be 0 and 1 are returned as int32, which every likelihood takes.
    """

    def judge(leaf: Any) -> Any:
        if is_traced(leaf) or not jnp.issubdtype(
            jnp.result_type(leaf), jnp.unsignedinteger
        ):
            return leaf
        return leaf.astype(jnp.int32) if np.all(np.asarray(leaf) <= 1) else leaf

    return jax.tree.map(judge, x)


class _Node:
    """Programs that take the functions so far, and nodes of those with one more."""

    def __init__(self) -> None:
        self.programs: dict[Hashable, Callable] = {}
        self.following: WeakKeyDictionary[Callable, _Node] = WeakKeyDictionary()


_ROOT = _Node()


class _Functions:
    """The functions of one call, as a static argument that does not keep them alive.

    All are equal: a program belongs to its functions already.
    """

    def __init__(self, functions: list[Callable]) -> None:
        self._references = [ref(function) for function in functions]

    def __iter__(self) -> Iterator[Any]:
        return (reference() for reference in self._references)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Functions)

    def __hash__(self) -> int:
        return 0


_FUNCTION, _METHOD, _VALUE = object(), object(), object()


def _program(body: Callable, kept: tuple, functions: list[Callable]) -> Callable:
    node = _ROOT
    for function in functions:
        node = node.following.setdefault(function, _Node())
    if (body, kept) not in node.programs:

        def program(functions: _Functions, *arguments: Any) -> Any:
            return body(*_with_functions(kept, iter(functions)), *arguments)

        program.__name__ = body.__name__
        # Inlined, a traced call is the same program as if it had been written out.
        node.programs[body, kept] = jax.jit(program, static_argnums=0, inline=True)
    return node.programs[body, kept]


def _without_functions(value: Any, functions: list[Callable]) -> tuple:
    """Return a value without its functions, which go into the list."""
    if isinstance(value, tuple):
        return type(value), *(_without_functions(part, functions) for part in value)
    if isinstance(value, MethodType):
        # An object of its own at every look-up; what it is bound to lives on.
        functions += [value.__func__, value.__self__]
        return (_METHOD,)
    if type(value) is partial and (kept := _of_partial(value, functions)):
        return kept
    if callable(value):
        functions.append(value)
        return (_FUNCTION,)
    # Equal numbers of two types, such as 1 and 1.0, make two programs.
    return _VALUE, type(value), value


def _of_partial(value: partial, functions: list[Callable]) -> tuple | None:
    """Return a partial by its parts if they can be hashed.

    Those that are built for each call share a program then.
    """
    parts = (value.func, value.args, *sorted(value.keywords.items()))
    inside: list[Callable] = []
    kept = tuple(_without_functions(part, inside) for part in parts)
    try:
        hash((kept, *inside))
    except TypeError:
        return None
    functions += inside
    return partial, *kept


def _with_functions(kept: tuple, functions: Iterator[Any]) -> Any:
    kind, *parts = kept
    if kind is _VALUE:
        return parts[1]
    if kind is _FUNCTION:
        return next(functions)
    if kind is _METHOD:
        return MethodType(next(functions), next(functions))
    values = [_with_functions(part, functions) for part in parts]
    if kind is partial:
        function, arguments, *keywords = values
        return partial(function, *arguments, **dict(keywords))
    return tuple(values) if kind is tuple else kind(*values)
