"""The head of a `Joint`: one head for each part of an example."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from vaejax._checks import described
from vaejax.base import Head, Key, Params, PyTree
from vaejax.distributions.heads import as_head
from vaejax.distributions.joint import Joint, _flat, _naming, _split
from vaejax.distributions.mixed_heads import MixedHead


class JointHead(NamedTuple):
    """A map from the outputs of a network to a `Joint`, one array for each part.

    It is no `Head`, whose networks output one array.

    Attributes:
      num_parameters: for each part, in the containers of an event, the number of arrays
        per dimension of the part; 0 for a row of a table, whose columns differ.
      init: `key -> params` of the heads' own parameters, in the same containers.
      apply: `(params, outputs) -> Joint`, outputs in the same containers.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import categorical_head, joint_head
      >>> head = joint_head({"image": vaejax.Bernoulli, "label": categorical_head(10)})
      >>> outputs = {"image": jnp.zeros((4, 4)), "label": jnp.zeros(10)}
      >>> head.apply({"image": (), "label": ()}, outputs).mode["image"].shape
      (4, 4)
    """

    num_parameters: PyTree
    init: Callable[[Key], Params]
    apply: Callable[[Params, PyTree], Joint]


def joint_head(heads: PyTree) -> JointHead:
    """Build the head of a `Joint`, which has a head for each part.

    The network outputs one array for each part, in the same containers:
    `vaejax.networks.branched_network` makes such a decoder of one network for each, and
    `merged_network` an encoder that reads all.

    Args:
      heads: a dict, tuple or NamedTuple, nested at will, of heads, of distribution
        classes that carry one, or of `mixed_head(columns)` for a row of a table.

    Returns:
      The head, as `gaussian_vae` takes it for its likelihood.

    Raises:
      TypeError: a part is no head and carries none, or `heads` has no parts.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import joint_head
      >>> head = joint_head((vaejax.Normal, vaejax.Bernoulli))
      >>> params = head.init(jax.random.key(0))
      >>> joint = head.apply(params, (jnp.zeros((3, 2)), jnp.zeros(5)))
      >>> [part.shape for part in joint.mean]
      [(3,), (5,)]

    Source: Suzuki et al. 2016 (JMVAE), equation 2.
    """
    if (
        _is_head(heads)
        or isinstance(heads, list)
        or not jax.tree.leaves(heads, is_leaf=_is_head)
    ):
        raise TypeError(
            f"joint_head: heads is {described(heads)}; give a dict, tuple or "
            "NamedTuple with a head for each part of an example."
        )
    names, given, structure = _flat(heads, _is_head)
    found: list[Any] = []
    for name, head in zip(names, given, strict=True):
        with _naming(f"joint_head at {name}"):
            is_any = isinstance(head, MixedHead | JointHead)
            found.append(head if is_any else as_head(head))

    def init(key: Key) -> Params:
        keys = jax.random.split(key, len(found))
        return structure.unflatten(
            [head.init(key) for head, key in zip(found, keys, strict=True)]
        )

    def apply(params: Params, outputs: PyTree) -> Joint:
        own = _split("joint_head: params", structure, names, params)
        arrays = _split(
            "joint_head: what the network outputs", structure, names, outputs
        )
        made = []
        for name, head, part, array in zip(names, found, own, arrays, strict=True):
            with _naming(f"joint_head at {name}"):
                made.append(head.apply(part, array))
        return Joint(structure.unflatten(made))

    numbers = [0 if isinstance(h, MixedHead) else h.num_parameters for h in found]
    return JointHead(structure.unflatten(numbers), init, apply)


def _is_head(value: Any) -> bool:
    return isinstance(value, Head | MixedHead | JointHead | type)
