"""Checks of arguments: one error that names the value and the fix."""

import inspect
import math
import numbers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class InputShapeError(ValueError):
    """Error of a network whose parameters do not fit the shape of its input."""


def described(value: Any) -> str:
    """Return what a value is, in a few words for a message."""
    if is_array(value):
        if is_key(value):
            return f"an array of keys, {value.shape}" if value.shape else "a key"
        if jnp.shape(value) == () and isinstance(
            value, np.generic | np.ndarray | jax.Array
        ):
            return "a traced number" if is_traced(value) else repr(value.item())
        return f"an array {jnp.shape(value)} of {value.dtype}"
    if value is None or isinstance(value, bool | numbers.Number | str | bytes):
        words = repr(value)
        return words if len(words) < 40 else f"{words[:36]} ..."
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return f"the function {value.__qualname__}"
    kind = type(value).__qualname__
    if isinstance(value, list | tuple | dict) and not value:
        return f"an empty {kind}"
    return f"of type {kind}"


def is_array(value: Any) -> bool:
    """Return whether a value is an array of JAX or NumPy, known, traced or abstract."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def as_numbers(name: str, value: Any) -> Any:
    """Return an array as it is, and nested lists of numbers as an array.

    TypeError where there is anything but real numbers, such as strings or keys.
    """
    array = value
    if not is_array(value):
        if any(is_traced(leaf) for leaf in jax.tree.leaves(value)):
            array = jnp.asarray(value)
        else:
            try:
                array = np.asarray(value)
            except ValueError as error:  # lists of unequal lengths
                raise TypeError(
                    f"{name} is {described(value)} and of no shape; give an array."
                ) from error
    if not _is_real(array.dtype):
        raise TypeError(f"{name} is {described(value)}; give an array of real numbers.")
    return array


def _is_real(dtype: Any) -> bool:
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def check_key(key: Any) -> None:
    """Raise TypeError or ValueError unless a value is one typed key."""
    if not is_array(key) or not is_key(key):
        raise TypeError(
            f"key is {described(key)}; give a typed key, jax.random.key(seed)."
        )
    if key.shape != ():
        raise ValueError(
            f"key is {described(key)}; give one key of jax.random.key(seed), and map "
            "over several with jax.vmap."
        )


def check_model(vae: Any, params: Any) -> None:
    """Raise TypeError unless a model is one, and its parameters may be parameters."""
    check_functions(vae, "encode", "prior", "decode")
    check_parameters(params)


def check_functions(vae: Any, *names: str) -> None:
    """Raise TypeError unless a model has functions of these names."""
    for name in names:
        if not hasattr(vae, name):
            raise TypeError(
                f"vae is {described(vae)}; give a vaejax.VAE, such as gaussian_vae "
                "returns it."
            )


def check_parameters(params: Any) -> None:
    """Raise TypeError where a state of training is given for parameters, or a key."""
    if hasattr(params, "params") and hasattr(params, "opt_state"):
        kind = type(params).__name__
        raise TypeError(f"params is a {kind}; give state.params.")
    if is_array(params) and is_key(params):
        raise TypeError("params is a key; give what vae.init returned.")


def check_state(state: Any) -> None:
    """Raise TypeError unless a value is a state of training."""
    if not (hasattr(state, "params") and hasattr(state, "opt_state")):
        raise TypeError(
            f"state is {described(state)}; give a TrainState, as init_train_state "
            "returns it."
        )


def part_of(params: Any, name: str) -> Any:
    """Return a part of the parameters of a model, or raise TypeError without it."""
    check_parameters(params)
    if not isinstance(params, Mapping) or name not in params:
        raise TypeError(
            f"params is {described(params)} without {name!r}; give what the init of "
            "this VAE returned."
        )
    return params[name]


def check_without_prior(name: str, params: Any) -> None:
    """Raise TypeError unless the parameters of a model are a dict without "prior"."""
    if not isinstance(params, dict) or "prior" in params:
        names = sorted(params) if isinstance(params, dict) else "no names"
        raise TypeError(
            f"{name}: the parameters are {described(params)} with {names}; give a VAE "
            "whose parameters are a dict without 'prior'."
        )


def split_parts(what: str, structure: Any, tree: Any, wanted: str) -> list[Any]:
    """Return what a pytree has at each leaf of a structure.

    ValueError where its containers are others: what it is, and what is wanted instead.
    """
    try:
        return structure.flatten_up_to(tree)
    except (TypeError, ValueError) as error:
        given = described(tree)
        if isinstance(tree, dict) and tree:
            given = f"a dict of {', '.join(map(repr, tree))}"
        raise ValueError(
            f"{what} is {given} and {wanted}, in the same containers."
        ) from error


def check_arrays(name: str, x: Any) -> None:
    """Raise TypeError or ValueError where a pytree holds no numbers, or is a list.

    A list is a pytree of as many leaves, where an array was meant.
    """
    if isinstance(x, list):
        raise TypeError(f"{name} is a list; give an array, such as jnp.asarray(x).")
    leaves = jax.tree.leaves(x)
    for leaf in leaves:
        as_numbers(name, leaf)
    if not any(np.size(leaf) for leaf in leaves):
        raise ValueError(
            f"{name} is empty, {described(x)}; give one example with numbers in it."
        )


def check_batch(batch: Any) -> None:
    """Raise TypeError where a batch is a list, or holds anything but numbers."""
    check_no_list(batch)
    for leaf in jax.tree.leaves(batch):
        as_numbers("the batch", leaf)


def check_no_list(batch: Any) -> None:
    """Raise TypeError where a batch is a list, a pytree of as many arrays to JAX."""
    if isinstance(batch, list):
        raise TypeError(
            "the batch is a list, of which JAX makes as many arrays; give one array of "
            "all examples, such as jnp.stack(batch) or jnp.asarray(batch)."
        )


def check_function(name: str, value: Any) -> None:
    """Raise TypeError unless a value can be called."""
    if not callable(value):
        raise TypeError(f"{name} is {described(value)}; give a function.")


def check_options(name: str, function: Any, options: Mapping[str, Any]) -> None:
    """Raise TypeError where a function has no argument for an option, a schedule.

    The error names those that it has. A function that hides its arguments passes.
    """
    if not options:
        return
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return
    if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
        return
    named = [each.name for each in arguments if each.kind is each.KEYWORD_ONLY]
    taken = {each.name for each in arguments if each.kind is not each.POSITIONAL_ONLY}
    if wrong := [option for option in options if option not in taken]:
        there = f"give some of {', '.join(named)}" if named else "it takes none"
        raise TypeError(
            f"{name}: there is a schedule for {wrong[0]}, which is no argument of the "
            f"function given; {there}."
        )


def check_event(distribution: Any, event: Any, shape: tuple[int, ...]) -> Any:
    """Return an event as an array.

    ValueError unless it has the shape that the distribution is over, TypeError unless
    it holds real numbers.
    """
    event = as_event(distribution, event)
    # Broadcasting would otherwise sum a whole batch into one log-probability.
    if jnp.shape(event) != shape:
        raise ValueError(
            f"{type(distribution).__name__}.log_prob: the event has shape "
            f"{jnp.shape(event)} and the distribution is "
            f"over {shape}; give one event of that shape, and map a batch with "
            "jax.vmap."
        )
    return event


def as_event(distribution: Any, event: Any) -> Any:
    """Return an event as an array, or raise TypeError unless it is of real numbers."""
    return as_numbers(f"{type(distribution).__name__}.log_prob: the event", event)


def check_not_gray_levels(distribution: Any, event: Any, remedy: str) -> None:
    """Raise where an event in [0, 1] is given as unsigned integers, the gray levels.

    Zeros and ones pass where their values are known. While they are traced the dtype
    decides: TypeError, since 8-bit images would be scored as if 255 were one.
    """
    dtype = as_event(distribution, event).dtype
    if not jnp.issubdtype(dtype, jnp.unsignedinteger):
        return
    name = f"{type(distribution).__name__}.log_prob: the event"
    if is_traced(event):
        raise TypeError(f"{name} is {dtype}; {remedy}.")
    if np.size(event) and (largest := np.max(event)) > 1:
        raise ValueError(f"{name} is {dtype} up to {largest}; {remedy}.")


def check_not_integers(distribution: Any, event: Any, remedy: str) -> None:
    """Raise TypeError where an event of real values is given as integers."""
    if jnp.issubdtype(dtype := as_event(distribution, event).dtype, jnp.integer):
        raise TypeError(
            f"{type(distribution).__name__}.log_prob: the event is {dtype}; {remedy}."
        )


def is_traced(value: Any) -> bool:
    """Return whether a value is known only when the traced function runs."""
    return isinstance(value, Tracer)


def check_in_range(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise ValueError unless a number, or each of an array, is finite and in a range.

    Python, NumPy and concrete JAX numbers are judged alike; a traced one passes. None
    may become an open end, or infinite, where the device rounds it.
    """
    if is_traced(value):
        return
    numbers = np.atleast_1d(_concrete(name, value))
    above = numbers > low if open_low else numbers >= low
    below = numbers < high if open_high else numbers <= high
    inside = above & below & np.isfinite(numbers)
    rounded, dtype = _on_device(numbers)
    stays = np.isfinite(rounded)
    stays &= (rounded > low if open_low else True) & (
        rounded < high if open_high else True
    )
    if np.all(inside & stays):
        return
    place = np.argmin(inside & stays)
    wrong = value if np.ndim(value) == 0 else numbers.flat[place]
    note = f", which is {rounded.flat[place]:g} in {dtype}" if np.all(inside) else ""
    raise ValueError(
        f"{name} is {wrong}{note}; give {_in_words(low, high, open_low, open_high)}."
    )


def _on_device(numbers: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """Return numbers as arrays hold them, where subnormal ones are 0, and the dtype."""
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
    with np.errstate(over="ignore", under="ignore"):
        rounded = numbers.astype(dtype)
    return np.where(np.abs(rounded) < np.finfo(dtype).tiny, 0, rounded), dtype


def check_weights(function: str, **weights: Any) -> None:
    """Raise ValueError unless every weight, given by name, is finite and at least 0."""
    for name, value in weights.items():
        check_in_range(f"{function}: {name}", value, 0)


def _concrete(name: str, value: Any) -> np.ndarray:
    try:
        if isinstance(value, str | bytes | list | tuple | None) or (
            is_array(value) and is_key(value)
        ):
            raise TypeError
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {described(value)}; give a number.") from error


def _in_words(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if low == -math.inf and high == math.inf:
        return "a finite number"
    if high == math.inf:
        return f"a finite number {f'above {low}' if open_low else f'from {low} on'}"
    if low == -math.inf:
        return f"a finite number {'below' if open_high else 'of at most'} {high}"
    return f"a number in {'(' if open_low else '['}{low}, {high}" + (
        ")" if open_high else "]"
    )


def check_bounds(name: str, lower: float, upper: float) -> None:
    """Raise ValueError unless `lower` is below `upper`; each may be infinite."""
    low, high = _concrete(f"min_{name}", lower), _concrete(f"max_{name}", upper)
    if not low < high:
        raise ValueError(
            f"min_{name} is {lower} and max_{name} is {upper}; the first must be "
            "smaller."
        )


def require(
    distribution: Any,
    name: str,
    remedy: str = "give a distribution that has it",
) -> Any:
    """Return an attribute of a distribution, or raise TypeError where it is missing.

    The error names the distribution, the attribute and the remedy.
    """
    # Arrays have a mean of their own, and classes methods without a self.
    if is_array(distribution) or isinstance(distribution, type):
        raise TypeError(
            f"the distribution is {described(distribution)}, which has no {name}; "
            f"{remedy}."
        )
    try:
        return getattr(distribution, name)
    except (AttributeError, NotImplementedError) as error:
        # A flow says which layer it is that has no inverse.
        given = str(error) if isinstance(error, TypeError) else None
        words = given or f"{type(distribution).__name__} has no {name}"
        raise TypeError(f"{words}; {remedy}.") from error


def has(distribution: Any, name: str) -> bool:
    """Return whether a distribution has an attribute.

    One of another library may have it and raise NotImplementedError.
    """
    try:
        return hasattr(distribution, name)
    except NotImplementedError:
        return False


def log_prob_of(
    distribution: Any, event: Any, remedy: str = "give a distribution that has it"
) -> Any:
    """Return the log-density of an event, or raise where it is no scalar.

    A distribution of another library may keep axes of what it calls a batch, over
    which a loss would take a mean or nothing at all.
    """
    log_prob = require(distribution, "log_prob", remedy)(event)
    _check_scalar(distribution, "log_prob", log_prob)
    return log_prob


def sample_and_log_prob_of(distribution: Any, key: Any) -> tuple[Any, Any]:
    """Return a draw and its log-density, or raise where that is no scalar."""
    event, log_prob = require(distribution, "sample_and_log_prob")(key)
    _check_scalar(distribution, "sample_and_log_prob", log_prob)
    return event, log_prob


def _check_scalar(distribution: Any, method: str, log_prob: Any) -> None:
    if jnp.shape(log_prob) != ():
        raise ValueError(
            f"{type(distribution).__name__}.{method}: the log-density has shape "
            f"{jnp.shape(log_prob)}; give a distribution over the whole event, whose "
            "log-density is one number (in NumPyro by .to_event)."
        )


def is_key(leaf: Any) -> bool:
    """Return whether an array, or its shape and dtype, is of typed keys."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless the value is a positive integer."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {described(value)}; give a positive integer.")


@contextmanager
def naming_condition(name: str, condition: Any) -> Iterator[None]:
    """Name the condition in the error of a network whose parameters do not fit."""
    try:
        yield
    except InputShapeError as error:
        raise ValueError(
            f"{name}: the input with the condition, {described(condition)}, does not "
            "fit the parameters; give a condition of the shape that `init` saw, such "
            "as jax.nn.one_hot(label, num_classes) for a class, and x or z without a "
            "batch axis."
        ) from error
