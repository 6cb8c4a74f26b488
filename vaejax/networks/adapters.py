"""Networks of any library as pairs of pure functions of one example.

Equinox and Flax NNX are imported only where a module of theirs is taken, so that
`import vaejax` loads neither.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import (
    InvalidRngError,
    ScopeCollectionNotFound,
    ScopeParamNotFoundError,
    ScopeParamShapeError,
)

from vaejax._checks import InputShapeError, check_function, check_key, described
from vaejax.base import Key, NetworkLike, Params, PyTree

if TYPE_CHECKING:
    from flax import nnx


class Network(NamedTuple):
    """A network as two pure functions of one example.

    Attributes:
      init: `(key, *inputs) -> params`.
      apply: `(params, *inputs) -> outputs`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> linear = vaejax.networks.Network(
      ...     init=lambda key, x: jax.random.normal(key, (4, x.size)),
      ...     apply=lambda params, x: params @ x,
      ... )
      >>> x = jnp.ones(3)
      >>> linear.apply(linear.init(jax.random.key(0), x), x).shape
      (4,)
    """

    init: Callable[..., Params]
    apply: Callable[..., PyTree]


def as_network(network: NetworkLike) -> Network:
    """Return a Linen module or a pair of functions as a `Network`.

    Args:
      network: a Flax Linen module, or a pair `(init, apply)` of functions of one
        example. Modules of other libraries become one by `from_nnx` and `from_equinox`.

    Returns:
      The network. Its `init` raises TypeError where a Linen module keeps state beside
      its parameters, as BatchNorm does.

    Raises:
      TypeError: `network` is neither.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> network = vaejax.networks.as_network(vaejax.MLP((), output_shape=(4,)))
      >>> params = network.init(jax.random.key(0), jnp.ones(3))
      >>> network.apply(params, jnp.ones(3)).shape
      (4,)
    """
    if isinstance(network, nn.Module):
        return _of_linen(network, {})
    if (
        isinstance(network, tuple)
        and len(network) == 2
        and all(callable(part) for part in network)
    ):
        return Network(*network)
    is_class = isinstance(network, type)
    raise TypeError(
        f"network is {'the class ' if is_class else 'of type '}"
        f"{(network if is_class else type(network)).__qualname__}; give a flax.linen "
        "Module (an instance, not the class), a pair (init(key, x) -> params, "
        "apply(params, x) -> arrays), or what vaejax.networks.from_nnx or from_equinox "
        "returns."
    )


def _of_linen(module: nn.Module, streams: Mapping[str, Key]) -> Network:
    """Return the network of a module that draws from streams of keys, or from none."""

    def init(key: Key, *inputs: PyTree) -> Params:
        with _in_words(module, inputs):
            variables = dict(module.init({"params": key, **streams}, *inputs))
        params = variables.pop("params", {})
        if variables:
            raise TypeError(_has_state(module, variables))
        return params

    def apply(params: Params, *inputs: PyTree) -> PyTree:
        with _in_words(module, inputs):
            return module.apply({"params": params}, *inputs, rngs=dict(streams))

    return Network(init, apply)


@contextmanager
def _in_words(module: nn.Module, inputs: PyTree) -> Iterator[None]:
    """Say of errors of Flax what they mean for a network of one example."""
    name = type(module).__name__
    try:
        yield
    except ScopeParamShapeError as error:
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(inputs))
        raise InputShapeError(
            f"{name} is given an input of shape {shapes}, which does not fit its "
            "parameters; give one example, or one latent, of the shape that `init` "
            "saw, without a batch axis, and map a batch with jax.vmap, an objective "
            "with mean_over_batch."
        ) from error
    except (ScopeParamNotFoundError, ScopeCollectionNotFound) as error:
        raise ValueError(
            f"{name} lacks parameters; give params that the init of this network "
            "returned."
        ) from error
    except InvalidRngError as error:
        raise TypeError(
            f"{name} asks for random numbers, as Dropout does; a network is a function "
            "of its input alone, so give it deterministic=True, or a key by "
            "vaejax.networks.with_noise."
        ) from error


def with_noise(module: nn.Module, key: Key | None) -> Network:
    """Return the network of a Linen module that draws with a key, as dropout does.

    The key is that of one example in one training step: build the VAE within a function
    of the key, a family, and train it with `vaejax.models.with_network_noise`.

    Args:
      module: a Linen module that draws from its streams "dropout" or "noise" where it
        is given a key, and from none where it is not.
      key: the key, which is traced as a rule; None for no noise, where the module must
        have been built to draw nothing (`nn.Dropout(..., deterministic=True)`).

    Returns:
      The network, whose parameters do not depend on the key.

    Raises:
      TypeError: `module` is no Linen module, or `key` no typed key.

    Example:
      >>> import flax.linen as nn
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.networks import with_noise
      >>> dropout = nn.Dropout(0.5, deterministic=False)
      >>> network = with_noise(dropout, jax.random.key(0))
      >>> sorted(set(network.apply({}, jnp.ones(100)).tolist()))
      [0.0, 2.0]
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"with_noise: module is {described(module)}; give a flax.linen Module. A "
            "function of your own takes its key from the family around it."
        )
    if key is None:
        return as_network(module)
    check_key(key)
    dropout_key, noise_key = jax.random.split(key)
    return _of_linen(module, {"dropout": dropout_key, "noise": noise_key})


def _has_state(module: Any, kinds: Iterable[str]) -> str:
    return (
        f"{type(module).__name__} keeps mutable state {sorted(kinds)}; use a network "
        "without it (no Dropout, and GroupNorm or LayerNorm in place of BatchNorm)."
    )


def from_nnx(make_module: Callable[["nnx.Rngs"], "nnx.Module"]) -> Network:
    """Return the network of a Flax NNX module; its state is the parameters.

    Args:
      make_module: a function that builds the module from `flax.nnx.Rngs`, so that each
        key gives parameters of its own. All state of the module must be `nnx.Param`.

    Returns:
      The network. Its `init` calls `make_module` and does not look at its inputs.

    Raises:
      TypeError: a module is given instead of a function, or the module keeps state
        beside its parameters, as BatchNorm and Dropout do.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from flax import nnx
      >>> network = vaejax.networks.from_nnx(lambda rngs: nnx.Linear(3, 4, rngs=rngs))
      >>> params = network.init(jax.random.key(0), jnp.ones(3))
      >>> network.apply(params, jnp.ones(3)).shape
      (4,)
    """
    from flax import nnx

    if isinstance(make_module, nnx.Module):
        raise TypeError(
            f"from_nnx: a module of type {type(make_module).__qualname__} is given; "
            "give a function of nnx.Rngs that builds it."
        )
    check_function("from_nnx: make_module", make_module)
    module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
    graph, _, state = nnx.split(module, nnx.Param, ...)
    if kinds := {type(leaf).__name__ for _, leaf in nnx.to_flat_state(state)}:
        raise TypeError(_has_state(module, kinds))

    def init(key: Key, *inputs: PyTree) -> Params:
        del inputs
        return nnx.state(make_module(nnx.Rngs(key)))

    def apply(params: Params, *inputs: PyTree) -> PyTree:
        return nnx.merge(graph, params)(*inputs)

    return Network(init, apply)


def from_equinox(make_module: Callable[[Key], Any]) -> Network:
    """Return the network of an Equinox module; its arrays are the parameters.

    Args:
      make_module: a function that builds the module from a key, so that each key gives
        parameters of its own. Only arrays may depend on the key.

    Returns:
      The network. Its `init` calls `make_module` and does not look at its inputs.

    Raises:
      TypeError: a module is given instead of a function, or the function returns
        something else, such as a module and its state.
      ImportError: Equinox is not installed.

    Example:
      >>> import equinox, jax, jax.numpy as jnp
      >>> import vaejax
      >>> network = vaejax.networks.from_equinox(
      ...     lambda key: equinox.nn.Linear(3, 4, key=key)
      ... )
      >>> params = network.init(jax.random.key(0), jnp.ones(3))
      >>> network.apply(params, jnp.ones(3)).shape
      (4,)
    """
    import equinox as eqx

    if isinstance(make_module, eqx.Module):
        raise TypeError(
            f"from_equinox: a module of type {type(make_module).__qualname__} is "
            "given; give a function of a key that builds it."
        )
    check_function("from_equinox: make_module", make_module)
    module = eqx.filter_eval_shape(make_module, jax.random.key(0))
    if not isinstance(module, eqx.Module):
        raise TypeError(
            f"from_equinox: the function returns a {type(module).__qualname__}; give "
            "one that returns an equinox.Module without state of its own."
        )
    _check_without_state(module, eqx)
    static = eqx.filter(
        module, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True
    )

    def init(key: Key, *inputs: PyTree) -> Params:
        del inputs
        return eqx.filter(make_module(key), eqx.is_array)

    def apply(params: Params, *inputs: PyTree) -> PyTree:
        return eqx.combine(params, static)(*inputs)

    return Network(init, apply)


def _check_without_state(module: Any, eqx: Any) -> None:
    """Raise TypeError where layers of Equinox want a key or state of their own."""
    kinds = (eqx.nn.Dropout, eqx.nn.StateIndex)
    leaves = jax.tree.leaves(module, is_leaf=lambda leaf: isinstance(leaf, kinds))
    found = {
        type(leaf).__name__
        for leaf in leaves
        if isinstance(leaf, kinds) and not getattr(leaf, "inference", False)
    }
    if found:
        raise TypeError(_has_state(module, found))


def compose_networks(first: Network, second: Network) -> Network:
    """Return the network x -> second(first(x)).

    Args:
      first: a network of x.
      second: a network of the outputs of `first`.

    Returns:
      The network whose parameters are the tuple of both networks' parameters.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> layers = [vaejax.MLP((), output_shape=(size,)) for size in (4, 2)]
      >>> network = vaejax.networks.compose_networks(
      ...     *map(vaejax.networks.as_network, layers)
      ... )
      >>> params = jax.eval_shape(network.init, jax.random.key(0), jnp.ones(3))
      >>> jax.eval_shape(network.apply, params, jnp.ones(3)).shape
      (2,)
    """
    first, second = as_network(first), as_network(second)

    def init(key: Key, x: PyTree) -> Params:
        first_key, second_key = jax.random.split(key)
        first_params = first.init(first_key, x)
        hidden = jax.eval_shape(first.apply, first_params, x)
        hidden = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), hidden)
        return first_params, second.init(second_key, hidden)

    def apply(params: Params, x: PyTree) -> PyTree:
        return second.apply(params[1], first.apply(params[0], x))

    return Network(init, apply)
