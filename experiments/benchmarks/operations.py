"""Floating-point operations of a program, iterations of loops included.

The compiler's own count has the body of a loop once, whatever its number of iterations.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp


def operations_of(
    function: Callable, compiled: Any, *args: Any, while_iterations: int = 1
) -> float:
    """Return the operations of a compiled function of these arguments.

    The compiler's count, and what the iterations of loops after the first add: the
    products, and one operation per element of every other result. `while_iterations`
    is the length of each `lax.while_loop`, which its program does not tell.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    every = _count(jaxpr, lambda length: length or while_iterations)
    return compiled.cost_analysis()["flops"] + every - _count(jaxpr, lambda length: 1)


def _count(jaxpr: Any, iterations: Callable[[int | None], int]) -> float:
    """Count operations; a loop's length, or None, decides its iterations."""
    total = 0.0
    for equation in jaxpr.eqns:
        inner = [_count(j, iterations) for j in _inside(equation)]
        if equation.primitive.name in ("scan", "while"):
            total += sum(inner) * iterations(equation.params.get("length"))
        elif equation.primitive.name == "cond":
            total += _of_branches(inner, equation.params.get("branches_platforms"))
        else:
            total += sum(inner) if inner else _one(equation)
    return total


def _of_branches(inner: list[float], platforms: Any) -> float:
    """Return the operations of the branch of this platform, or of the longest one."""
    if platforms:
        for count, names in zip(inner, platforms, strict=True):
            if names is None or jax.default_backend() in names:
                return count
    return max(inner)


def _inside(equation: Any) -> Iterator[Any]:
    """Yield the programs that an equation calls."""
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


def _one(equation: Any) -> float:
    """Return the operations of one equation that calls no program."""
    result = equation.outvars[0].aval
    if not jnp.issubdtype(getattr(result, "dtype", bool), jnp.floating):
        return 0
    size = math.prod(result.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * size * math.prod(left[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2 * size * math.prod(kernel) / channels
    return size
