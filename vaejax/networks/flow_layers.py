"""Builders of the layers of a flow, with parameters of their own or of a context.

A context `[size, num_context]` is what an encoder says of one example. Planar and
Sylvester layers are made of it alone, as in their papers; the networks of RealNVP and
of inverse autoregressive layers are shared by all examples and may see it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count, check_function
from vaejax.base import Array, Key, Params
from vaejax.distributions import (
    AffineCoupling,
    FlowLayer,
    InverseAutoregressive,
    PlanarLayer,
    Reversal,
    SylvesterLayer,
)
from vaejax.networks.adapters import Network, as_network, compose_networks
from vaejax.networks.masked import _SMALL, MADE
from vaejax.networks.mlp import MLP

# The scale of off-diagonal entries in units of a context; see
# `full_covariance_normal_head`.
_OFF_DIAGONAL_SCALE = 0.1
# The gates of inverse autoregressive layers start at sigmoid(2) = 0.88, nearly open.
_GATE_BIAS = 2.0


class FlowLayers(NamedTuple):
    """Layers of a flow as two pure functions.

    Attributes:
      init: `key -> params`, shared by all examples; `()` where there are none.
      apply: `(params, context) -> layers`, a tuple for `vaejax.distributions.Flow`.
        The context is `[size, num_context]`; None where `num_context` is 0.
      num_context: numbers of the context for each dimension of z.

    Example:
      >>> import jax
      >>> from vaejax.networks import coupling_layers
      >>> layers = coupling_layers(4, num_layers=2)
      >>> params = layers.init(jax.random.key(0))
      >>> [type(layer).__name__ for layer in layers.apply(params, None)]
      ['AffineCoupling', 'AffineCoupling']
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array | None], tuple[FlowLayer, ...]]
    num_context: int = 0


def planar_layers(size: int, *, num_layers: int = 4) -> FlowLayers:
    """Build planar layers, all of whose parameters are the context.

    Args:
      size: D, the number of dimensions of z, at least 1.
      num_layers: K, at least 1.

    Returns:
      The layers, with `num_context` 3 K: step, direction and bias, of which the last
      is the sum over dimensions, divided by the root of D.

    Raises:
      ValueError: a number is not a positive integer.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.networks import planar_layers
      >>> layers = planar_layers(2, num_layers=3)
      >>> made = layers.apply((), jnp.ones((2, layers.num_context)))
      >>> len(made), made[0].direction.shape
      (3, (2,))

    Source: Rezende & Mohamed 2015, section 4.2.
    """
    check_count("planar_layers: size", size)
    check_count("planar_layers: num_layers", num_layers)

    def layer(columns: Array) -> PlanarLayer:
        bias = jnp.sum(columns[:, 2]) / jnp.sqrt(size).astype(columns.dtype)
        return PlanarLayer(columns[:, 0], columns[:, 1], bias)

    return _amortized("planar_layers", size, num_layers, 3, layer)


def sylvester_layers(
    size: int, *, num_layers: int = 4, num_reflections: int = 8
) -> FlowLayers:
    """Build Sylvester layers by Householder reflections, all of them the context.

    Args:
      size: D, the number of dimensions of z, at least 1.
      num_layers: K, at least 1.
      num_reflections: H, reflections of each orthogonal matrix, at least 1.

    Returns:
      The layers, with `num_context` K (D + 3 + H): the matrix, which starts at a tenth
      of the context, two diagonals, the bias and the reflections of each.

    Raises:
      ValueError: a number is not a positive integer.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.networks import sylvester_layers
      >>> layers = sylvester_layers(2, num_layers=3, num_reflections=1)
      >>> made = layers.apply((), jnp.ones((2, layers.num_context)))
      >>> len(made), made[0].matrix.shape, made[0].reflections.shape
      (3, (2, 2), (1, 2))

    Source: van den Berg et al. 2018, sections 4.2 and 5.
    """
    check_count("sylvester_layers: size", size)
    check_count("sylvester_layers: num_layers", num_layers)
    check_count("sylvester_layers: num_reflections", num_reflections)

    def layer(columns: Array) -> SylvesterLayer:
        return SylvesterLayer(
            reflections=columns[:, size + 3 :].T,
            matrix=_OFF_DIAGONAL_SCALE * columns[:, :size],
            diagonals=columns[:, size : size + 2],
            bias=columns[:, size + 2],
        )

    width = size + 3 + num_reflections
    return _amortized("sylvester_layers", size, num_layers, width, layer)


def coupling_layers(
    size: int,
    *,
    num_layers: int = 4,
    hidden_sizes: Sequence[int] = (64,),
    num_context: int = 0,
    activation: Callable[[Array], Array] = nn.elu,
) -> FlowLayers:
    """Build coupling layers of RealNVP, which scale and shift the halves in turn.

    Args:
      size: D, the number of dimensions of z, at least 2.
      num_layers: K, at least 1; with 2 or more every dimension is changed.
      hidden_sizes: the widths of the hidden layers of every network.
      num_context: numbers for each dimension of z that every network sees, at least 0.
      activation: the function applied elementwise after each hidden layer.

    Returns:
      The layers, whose parameters are a tuple of those of K networks. The maps start
      near the identity.

    Raises:
      ValueError: `size` is below 2, or a number is not a positive integer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.networks import coupling_layers
      >>> layers = coupling_layers(3, num_layers=2)
      >>> first, _ = layers.apply(layers.init(jax.random.key(0)), None)
      >>> z, _ = first.forward(jnp.ones(3))
      >>> z[:1].tolist(), bool(jnp.allclose(first.inverse(z)[0], 1, atol=1e-5))
      ([1.0], True)

    Source: Dinh et al. 2017, section 3; as a posterior, van den Berg et al. 2018.
    """
    check_count("coupling_layers: size", size)
    if size < 2:
        raise ValueError("coupling_layers: size is 1; give at least 2 dimensions.")
    check_count("coupling_layers: num_layers", num_layers)
    _check_num_context("coupling_layers", num_context)
    check_function("coupling_layers: activation", activation)
    halves = size // 2, size - size // 2
    networks = []
    for index in range(num_layers):
        outputs = MLP((), (halves[1 - index % 2], 2), kernel_init=_SMALL)
        features = as_network(MLP(hidden_sizes, activation=activation))
        networks.append(_with_context(compose_networks(features, as_network(outputs))))
    kept = [_zeros(halves[index % 2]) for index in range(num_layers)]

    def make(index: int, network: jax.tree_util.Partial) -> AffineCoupling:
        return AffineCoupling(network, flipped=index % 2 == 1)

    return _shared("coupling_layers", size, num_context, networks, kept, make)


def inverse_autoregressive_layers(
    size: int,
    *,
    num_layers: int = 4,
    hidden_sizes: Sequence[int] = (64,),
    num_context: int = 0,
    activation: Callable[[Array], Array] = nn.elu,
) -> FlowLayers:
    """Build layers of the inverse autoregressive flow, with a reversal between any two.

    Args:
      size: D, the number of dimensions of z, at least 1.
      num_layers: K, at least 1.
      hidden_sizes: the widths of the hidden layers of every `MADE`.
      num_context: numbers for each dimension of z that every network sees, at least 0.
      activation: the function applied elementwise after each hidden layer.

    Returns:
      The layers, whose parameters are a tuple of those of K networks. The maps start
      near a scale of sigmoid(2).

    Raises:
      ValueError: a number is not a positive integer.

    Example:
      >>> import jax
      >>> from vaejax.networks import inverse_autoregressive_layers
      >>> layers = inverse_autoregressive_layers(3, num_layers=2)
      >>> params = layers.init(jax.random.key(0))
      >>> [type(layer).__name__ for layer in layers.apply(params, None)]
      ['InverseAutoregressive', 'Reversal', 'InverseAutoregressive']

    Source: Kingma et al. 2016, algorithm 1.
    """
    check_count("inverse_autoregressive_layers: size", size)
    check_count("inverse_autoregressive_layers: num_layers", num_layers)
    _check_num_context("inverse_autoregressive_layers", num_context)
    check_function("inverse_autoregressive_layers: activation", activation)
    network = _gated(as_network(MADE(hidden_sizes, activation=activation)))
    zs = [_zeros(size)] * num_layers

    def make(
        index: int, network: jax.tree_util.Partial
    ) -> tuple[Reversal, InverseAutoregressive] | InverseAutoregressive:
        layer = InverseAutoregressive(network)
        return (Reversal(), layer) if index else layer

    name = "inverse_autoregressive_layers"
    return _shared(name, size, num_context, [network] * num_layers, zs, make)


def _amortized(
    name: str,
    size: int,
    num_layers: int,
    width: int,
    layer: Callable[[Array], FlowLayer],
) -> FlowLayers:
    """Build layers that are made of `width` columns of the context each."""

    def apply(params: Params, context: Array | None) -> tuple[FlowLayer, ...]:
        del params
        width_of_all = num_layers * width
        columns = cast(Array, _checked_context(name, context, size, width_of_all))
        return tuple(
            layer(columns[:, index * width : (index + 1) * width])
            for index in range(num_layers)
        )

    return FlowLayers(lambda key: (), apply, num_layers * width)


def _shared(
    name: str,
    size: int,
    num_context: int,
    networks: Sequence[Network],
    inputs: Sequence[Any],
    make: Callable[..., FlowLayer | tuple[FlowLayer, ...]],
) -> FlowLayers:
    """Build layers with a network `(params, z, context)` each, shared by examples."""
    start = _zeros(size, num_context) if num_context else None

    def init(key: Key) -> Params:
        keys = jax.random.split(key, len(networks))
        return tuple(
            network.init(key, z, start)
            for network, key, z in zip(networks, keys, inputs, strict=True)
        )

    def apply(params: Params, context: Array | None) -> tuple[FlowLayer, ...]:
        context = _checked_context(name, context, size, num_context)
        layers = []
        for index, (network, own) in enumerate(zip(networks, params, strict=True)):
            bound = jax.tree_util.Partial(network.apply, own, context=context)
            made = make(index, bound)
            layers += made if isinstance(made, tuple) else (made,)
        return tuple(layers)

    return FlowLayers(init, apply, num_context)


def _zeros(*shape: int) -> Any:
    # Parameters are made in single precision, in programs of double precision too.
    return np.zeros(shape, np.float32)


def _with_context(network: Network) -> Network:
    """Return the network of z and a context, of one that takes them as one vector."""

    def joined(z: Array, context: Array | None) -> Array:
        return z if context is None else jnp.concatenate([z, jnp.ravel(context)])

    def init(key: Key, z: Array, context: Array | None = None) -> Params:
        return network.init(key, joined(z, context))

    def apply(params: Params, z: Array, context: Array | None = None) -> Array:
        return network.apply(params, joined(z, context))

    return Network(init, apply)


def _gated(network: Network) -> Network:
    """Return the network whose second output starts where the gates are open."""

    def apply(params: Params, z: Array, context: Array | None = None) -> Array:
        outputs = network.apply(params, z, context)
        return outputs + jnp.array([0.0, _GATE_BIAS], outputs.dtype)[None]

    return Network(network.init, apply)


def _checked_context(
    name: str, context: Array | None, size: int, num_context: int
) -> Array | None:
    """Return the context, None where there is to be none, or raise ValueError."""
    shape = (size, 0) if context is None else jnp.shape(context)
    if shape != (size, num_context):
        raise ValueError(
            f"{name}: the context has shape {shape} and the layers need "
            f"{(size, num_context)}; give the layers the latent_size of the model, and "
            "layers that need a context to flow_head."
        )
    return context if num_context else None


def _check_num_context(name: str, num_context: int) -> None:
    if num_context != 0 or isinstance(num_context, bool):
        check_count(f"{name}: num_context", num_context)
