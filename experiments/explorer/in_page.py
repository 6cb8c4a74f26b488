"""A JAX function as data that a page's own script evaluates.

The data are a list of array operations and their constants. What does not depend on the
inputs is computed here. What is left must be of the operations that `explore.js` knows;
calls of functions are opened up. Arrays are float32 in the page, where booleans and
integers are numbers too.
"""

import base64
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

# fmt: off
ELEMENTWISE = {
    "add", "sub", "mul", "div", "max", "min", "pow", "neg", "exp", "exp2", "log",
    "log1p", "expm1", "tanh", "logistic", "abs", "sign", "sqrt", "rsqrt", "floor",
    "ceil", "sin", "cos", "square", "erf", "eq", "ne", "lt", "le", "gt", "ge",
    "select_n",
}
# fmt: on
# Of zeros and ones.
LOGICAL = {"and": "min", "or": "max", "not": "not"}
CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "checkpoint",
    "remat",
}
REDUCTIONS = {"reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min"}
# Of the same values under another shape or type.
RENAMED = {
    "reshape",
    "squeeze",
    "expand_dims",
    "copy",
    "copy_p",
    "stop_gradient",
    "convert_element_type",
}


class NotInPage(ValueError):
    """The page's script does not know an operation of the function."""


def program_of(function: Callable[..., Any], *examples: Any) -> dict[str, Any]:
    """The operations of a function of arrays that returns one array, for JSON.

    Args:
      function: traced once at `examples`.
      examples: arrays, whose shapes and dtypes count.

    Returns:
      `{"inputs", "output", "constants": [{"id", "shape", "data"}], "operations":
      [{"name", "inputs", "id", "shape"}]}`
      with data in base64 of little-endian float32.

    Raises:
      NotInPage: an operation is unknown to the page.
    """
    closed = jax.make_jaxpr(function)(*examples)
    return _Translation().program(closed)


def encode_array(values: Any, dtype: str = "<f4") -> str:
    """Base64 of an array's bytes, row-major."""
    return base64.b64encode(
        np.ascontiguousarray(np.asarray(values, dtype)).tobytes()
    ).decode()


class _Id:
    """A value that the page computes."""

    def __init__(self, number: int):
        self.number = number


class _Translation:
    """One pass over a jaxpr.

    Every variable is an identifier of the page, or a value known here.
    """

    def __init__(self):
        self.operations: list[dict[str, Any]] = []
        self.constants: list[dict[str, Any]] = []
        self.kept: list[tuple[Any, int]] = []
        self.num = 0

    def program(self, closed: Any) -> dict[str, Any]:
        inputs = [self._new() for _ in closed.jaxpr.invars]
        environment = dict(zip(closed.jaxpr.invars, map(_Id, inputs), strict=True))
        (output,) = self._run(closed.jaxpr, closed.consts, environment)
        return {
            "inputs": inputs,
            "output": self._id(output),
            "constants": self.constants,
            "operations": self.operations,
        }

    def _run(self, jaxpr: Any, consts: Any, environment: dict[Any, Any]) -> list[Any]:
        environment |= dict(zip(jaxpr.constvars, consts, strict=True))

        def read(variable: Any) -> Any:
            return (
                variable.val
                if isinstance(variable, jax.extend.core.Literal)
                else environment[variable]
            )

        for equation in jaxpr.eqns:
            values = [read(variable) for variable in equation.invars]
            environment |= dict(
                zip(equation.outvars, self._apply(equation, values), strict=True)
            )
        return [read(variable) for variable in jaxpr.outvars]

    def _apply(self, equation: Any, values: list[Any]) -> list[Any]:
        if equation.primitive.name in CALLS:
            # Loops have a jaxpr too, and are no calls.
            inner = next(
                equation.params[name]
                for name in ("jaxpr", "call_jaxpr", "fun_jaxpr")
                if name in equation.params
            )
            jaxpr, consts = (
                (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
            )
            return self._run(
                jaxpr, consts, dict(zip(jaxpr.invars, values, strict=True))
            )
        if not any(isinstance(value, _Id) for value in values):
            found = equation.primitive.bind(
                *map(jnp.asarray, values), **equation.params
            )
            return list(found) if equation.primitive.multiple_results else [found]
        if equation.primitive.name == "stack":
            return [self._stack(equation, values)]
        inputs = [self._id(value) for value in values]
        results = [_Id(self._new()) for _ in equation.outvars]
        self.operations += [
            {"inputs": inputs, "id": result.number, "shape": list(variable.aval.shape)}
            | options
            for result, variable, options in zip(
                results, equation.outvars, _operations(equation), strict=True
            )
        ]
        return results

    def _stack(self, equation: Any, values: list[Any]) -> _Id:
        """Each part with an axis of its own, side by side."""
        axis, shape = equation.params["axis"], list(equation.outvars[0].aval.shape)
        part, parts = (
            [*shape[:axis], 1, *shape[axis + 1 :]],
            [self._new() for _ in values],
        )
        for number, value in zip(parts, values, strict=True):
            self.operations.append(
                {
                    "inputs": [self._id(value)],
                    "id": number,
                    "shape": part,
                    "name": "rename",
                }
            )
        result = _Id(self._new())
        options = {"name": "concatenate", "dimension": axis}
        self.operations.append(
            {"inputs": parts, "id": result.number, "shape": shape} | options
        )
        return result

    def _new(self) -> int:
        self.num += 1
        return self.num

    def _id(self, value: Any) -> int:
        if isinstance(value, _Id):
            return value.number
        # One array used twice is written once.
        for kept, number in self.kept:
            if kept is value:
                return number
        number, array = self._new(), np.asarray(value)
        self.kept.append((value, number))
        self.constants.append(
            {"id": number, "shape": list(array.shape), "data": encode_array(array)}
        )
        return number


def _operations(equation: Any) -> list[dict[str, Any]]:
    """The name and the options of what makes each output, as the page takes them."""
    if equation.primitive.name != "split":
        return [_operation(equation)]
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    slices, ones = [], [1] * equation.invars[0].aval.ndim
    for start in itertools.accumulate(sizes[:-1], initial=0):
        starts = [int(start) if other == axis else 0 for other in range(len(ones))]
        slices.append({"name": "slice", "starts": starts, "strides": ones})
    return slices


def _operation(equation: Any) -> dict[str, Any]:
    name, options = equation.primitive.name, equation.params
    is_integer = jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.integer)
    if name in ELEMENTWISE and not (is_integer and name in ("div", "pow")):
        return {"name": name}
    if name in LOGICAL and equation.outvars[0].aval.dtype == jnp.bool_:
        return {"name": LOGICAL[name]}
    if name == "convert_element_type" and options["new_dtype"] == jnp.bool_:
        return {"name": "truth"}
    if name in RENAMED:
        return {
            "name": "truncate"
            if name == "convert_element_type" and is_integer
            else "rename"
        }
    if name == "integer_pow":
        return {"name": name, "exponent": options["y"]}
    if name in REDUCTIONS:
        return {"name": "reduce", "by": REDUCTIONS[name], "axes": list(options["axes"])}
    if name == "dot_general":
        (left, right), batched = options["dimension_numbers"]
        if not any(batched):
            return {"name": "dot", "left": list(left), "right": list(right)}
    if name == "broadcast_in_dim":
        return {
            "name": "broadcast",
            "dimensions": list(options["broadcast_dimensions"]),
        }
    if name == "transpose":
        return {"name": name, "permutation": list(options["permutation"])}
    if name == "concatenate":
        return {"name": name, "dimension": options["dimension"]}
    if name == "slice":
        starts, strides = (
            options["start_indices"],
            options["strides"] or [1] * len(options["start_indices"]),
        )
        return {"name": name, "starts": list(starts), "strides": list(strides)}
    if name == "rev":
        turned = [
            axis in options["dimensions"]
            for axis in range(equation.invars[0].aval.ndim)
        ]
        starts = [
            size - 1 if turn else 0
            for size, turn in zip(equation.invars[0].aval.shape, turned, strict=True)
        ]
        return {
            "name": "slice",
            "starts": starts,
            "strides": [-1 if turn else 1 for turn in turned],
        }
    if name == "pad" and all(
        low >= 0 and high >= 0 and within == 0
        for low, high, within in options["padding_config"]
    ):
        return {
            "name": name,
            "low": [int(low) for low, _, _ in options["padding_config"]],
        }
    raise NotInPage(f"the page does not know the operation {name} of this model.")
