"""Networks of examples of several parts, made of one network for each part."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax._checks import described, split_parts
from vaejax.base import Array, Example, Key, Params, PyTree
from vaejax.columns import MaskedEvent
from vaejax.networks.adapters import Network, as_network


def branched_network(networks: PyTree) -> Network:
    """Return the network of one input that outputs what each of several networks does.

    As a decoder it makes one array for each part of an example, as `joint_head` takes
    them.

    Args:
      networks: a dict, tuple or NamedTuple, nested at will, of networks of the same
        input.

    Returns:
      The network. Its parameters and its outputs are in the containers of `networks`.

    Raises:
      TypeError: a part is not a network, or there is none.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.networks import branched_network
      >>> decoder = branched_network(
      ...     {"image": vaejax.MLP((8,), (4, 4)), "label": vaejax.MLP((), (10,))}
      ... )
      >>> params = decoder.init(jax.random.key(0), jnp.ones(2))
      >>> outputs = decoder.apply(params, jnp.ones(2))
      >>> outputs["image"].shape, outputs["label"].shape
      ((4, 4), (10,))
    """
    _, parts, structure = _parts("branched_network", networks)

    def init(key: Key, x: PyTree) -> Params:
        keys = jax.random.split(key, len(parts))
        return structure.unflatten(
            [part.init(key, x) for part, key in zip(parts, keys, strict=True)]
        )

    def apply(params: Params, x: PyTree) -> PyTree:
        own = structure.flatten_up_to(params)
        return structure.unflatten(
            [part.apply(params, x) for part, params in zip(parts, own, strict=True)]
        )

    return Network(init, apply)


def merged_network(networks: PyTree) -> Network:
    """Return the network of several inputs whose features are those of all networks.

    As an encoder it reads an example of several parts, each by its own network, and
    puts the features behind each other.

    A part that may be missing is a `MaskedEvent` whose mask has no axes. Its features
    are 0 where it is missing, whatever stands in its values, and a further feature says
    whether it is there.

    Args:
      networks: a dict, tuple or NamedTuple, nested at will, of a network for each
        part.

    Returns:
      The network. Its parameters are in the containers of `networks`, its output is one
      vector of features. It raises ValueError where an example has other parts.

    Raises:
      TypeError: a part is not a network, or there is none.

    Example:
      >>> import flax.linen as nn
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.networks import merged_network
      >>> encoder = merged_network(
      ...     {"image": vaejax.MLP((8,)), "label": nn.Embed(10, 5)}
      ... )
      >>> x = {"image": jnp.ones((4, 4)), "label": jnp.array(3)}
      >>> params = encoder.init(jax.random.key(0), x)
      >>> encoder.apply(params, x).shape
      (13,)
    """
    names, parts, structure = _parts("merged_network", networks)

    def init(key: Key, x: Example) -> Params:
        keys = jax.random.split(key, len(parts))
        inputs = [_seen(part)[0] for part in _split(structure, names, x)]
        return structure.unflatten(
            [
                part.init(key, one)
                for part, key, one in zip(parts, keys, inputs, strict=True)
            ]
        )

    def apply(params: Params, x: Example) -> Array:
        features: list[Any] = []
        own = structure.flatten_up_to(params)
        for network, params, part in zip(
            parts, own, _split(structure, names, x), strict=True
        ):
            inputs, is_seen = _seen(part)
            outputs = jax.tree.leaves(network.apply(params, inputs))
            flat = jnp.concatenate([jnp.ravel(output) for output in outputs])
            if is_seen is not None:
                flat = jnp.append(
                    jnp.where(is_seen, flat, 0), is_seen.astype(flat.dtype)
                )
            features.append(flat)
        return jnp.concatenate(features)

    return Network(init, apply)


def _parts(caller: str, networks: PyTree) -> tuple[list[str], list[Network], Any]:
    found, structure = jax.tree_util.tree_flatten_with_path(
        networks, is_leaf=lambda part: not _is_container(part)
    )
    if not _is_container(networks) or not found:
        raise TypeError(
            f"{caller}: networks is {described(networks)}; give a dict or tuple of "
            "networks."
        )
    names = [jax.tree_util.keystr(path) for path, _ in found]
    return names, [as_network(part) for _, part in found], structure


def _is_container(value: Any) -> bool:
    """Return whether a value holds networks; a pair of functions is one itself."""
    if isinstance(value, dict):
        return True
    kinds = (nn.Module, tuple, dict)
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(each, kinds) for each in value)
    )


def _split(structure: Any, names: list[str], x: Example) -> list[Any]:
    wanted = f"the networks are at {', '.join(names)}; give a network for each part"
    return split_parts("merged_network: the example", structure, x, wanted)


def _seen(part: Example) -> tuple[Example, Array | None]:
    """Return a part with zeros where it is missing, and whether it is there, if known.

    A mask with axes is of the cells of the part, which its network sees.
    """
    if not (isinstance(part, MaskedEvent) and jnp.ndim(part.mask) == 0):
        return part, None
    is_seen = jnp.asarray(part.mask) > 0
    zeros = jax.tree.map(
        lambda leaf: jnp.where(is_seen, leaf, jnp.zeros((), leaf.dtype)),
        jax.tree.map(jnp.asarray, part.values),
    )
    return zeros, is_seen
