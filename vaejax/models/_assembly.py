"""Parts of all builders: dtypes of inputs, p(x|z) and the checks of its network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vaejax._checks import check_arrays, check_key, part_of
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Head,
    Key,
    Latent,
    Params,
    PyTree,
)
from vaejax.columns import MaskedEvent
from vaejax.distributions import JointHead
from vaejax.networks import Network


class LatentPart(NamedTuple):
    """The half of a VAE that does not depend on its likelihood.

    Attributes:
      init: `(encoder key, posterior key, x) -> params`, of "encoder" and what else.
      encode: `(params, x) -> q(z|x)`.
      prior: `params -> p(z)`.
    """

    init: Callable[[Key, Key, Example], dict[str, Params]]
    encode: Callable[[Params, Example], Distribution]
    prior: Callable[[Params], Distribution]


def assembled(
    shape: tuple[int, ...],
    latents: LatentPart,
    network: Network,
    head: Head | JointHead,
) -> VAE:
    """Return the VAE of latents `shape`, whose decoder outputs what a head takes.

    Its parameters are those of the latents, "decoder" and "likelihood".
    """

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        check_arrays("x", x)
        encoder_key, decoder_key, likelihood_key = jax.random.split(key, 3)
        z = jnp.zeros(shape)
        params = latents.init(encoder_key, jax.random.fold_in(key, 3), x) | {
            "decoder": network.init(decoder_key, z),
            "likelihood": head.init(likelihood_key),
        }
        check_decoder(jax.eval_shape(network.apply, params["decoder"], z), x, head)
        return params

    def decode(params: Params, z: Latent) -> Distribution:
        check_arrays("the latent z", z)
        outputs = network.apply(part_of(params, "decoder"), z)
        return head.apply(part_of(params, "likelihood"), outputs)

    return VAE(init, latents.encode, latents.prior, decode)


def _is_real(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def in_dtype_of(params: Params, x: PyTree) -> PyTree:
    """Cast an example to the dtype of the parameters of the network that takes it."""
    floats = [leaf for leaf in jax.tree.leaves(params) if _is_real(leaf)]
    return in_dtype(jnp.result_type(floats[0]), x) if floats else x


def in_dtype(dtype: DTypeLike, x: PyTree) -> PyTree:
    """Cast real values and bools; integers may be tokens."""
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf).astype(dtype)
            if _is_real(leaf) or jnp.isdtype(jnp.result_type(leaf), "bool")
            else leaf
        ),
        x,
    )


def check_decoder(outputs: PyTree, x: Example, head: Head | JointHead) -> None:
    """Raise ValueError unless a likelihood can be made of what the decoder outputs."""
    is_joint = isinstance(head, JointHead)
    found, parts = jax.tree_util.tree_flatten_with_path(head.num_parameters)
    names = [jax.tree_util.keystr(path) for path, _ in found]
    _check_parts("the example", x, parts, names, is_joint)
    _check_parts("what the decoder outputs", outputs, parts, names, is_joint)
    rows = zip(found, parts.flatten_up_to(outputs), parts.flatten_up_to(x), strict=True)
    for (path, num_parameters), output, part in rows:
        # The columns of a row of a table differ; its head checks them.
        if num_parameters:
            where = f" at {jax.tree_util.keystr(path)}" if path else ""
            _check_part(where, output.shape, part, num_parameters)


def _check_parts(
    what: str, tree: PyTree, parts: Any, names: list[str], is_joint: bool
) -> None:
    tree = jax.tree.map(
        lambda leaf: 0, tree, is_leaf=lambda leaf: isinstance(leaf, MaskedEvent)
    )
    given = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)]
    if is_joint:
        try:
            is_alike = all(leaf == 0 for leaf in parts.flatten_up_to(tree))
        except (TypeError, ValueError):
            is_alike = False
        if not is_alike:
            raise ValueError(
                f"{what} has the parts {_listed(given)} and the likelihood "
                f"{_listed(names)}; give joint_head a head for each part of an "
                "example, and the decoder an output for each, in the same containers."
            )
    elif given != [""]:
        raise ValueError(
            f"{what} has the parts {_listed(given)} and the likelihood is of one "
            "array; give likelihood=vaejax.distributions.joint_head with a head for "
            "each part, and a decoder that outputs one array for each "
            "(vaejax.networks.branched_network)."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(name or "one array" for name in names) or "none"


def _check_part(
    where: str, shape: tuple[int, ...], x: Example, num_parameters: int
) -> None:
    extra = () if num_parameters == 1 else (num_parameters,)
    of_x = jnp.shape(x.values if isinstance(x, MaskedEvent) else x)
    if of_x and shape == (*of_x[1:], *extra):
        raise ValueError(
            f"the decoder outputs {shape}{where} for an example of shape {of_x}, "
            "which has a batch axis; give one example, x[0]."
        )
    if shape != (*of_x, *extra):
        raise ValueError(
            f"the decoder outputs {shape}{where} for an example of shape "
            f"{of_x}; the likelihood has {num_parameters} parameter(s) "
            f"per dimension, so it must output {(*of_x, *extra)} for one "
            "example, without a batch axis; map a batch with jax.vmap."
        )
