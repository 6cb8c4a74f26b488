"""The Gaussian VAE: a standard Normal prior, and a Normal posterior of any encoder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vaejax._checks import (
    check_arrays,
    check_count,
    check_key,
    check_parameters,
    part_of,
)
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Head,
    HeadLike,
    Key,
    Latent,
    NetworkLike,
    Params,
    PyTree,
)
from vaejax.columns import MaskedEvent
from vaejax.distributions import Bernoulli, JointHead, Normal, as_head, normal_head
from vaejax.networks import MLP, as_network, compose_networks


def gaussian_vae(
    *,
    latent_size: int,
    encoder: NetworkLike,
    decoder: NetworkLike,
    likelihood: HeadLike | JointHead = Bernoulli,
    posterior: HeadLike | None = None,
) -> VAE:
    """Build the VAE with prior N(0, I), a Normal posterior and any likelihood.

    p(z) = N(0, I), q(z|x) is a diagonal Normal, p(x|z) is of any family.
    A network is a Flax Linen module or any `(init, apply)` pair of functions of one
    example.

    Args:
      latent_size: the number of dimensions of z, at least 1.
      encoder: a network from x to features of any shape; one linear layer, added here,
        makes the posterior's parameters of them.
      decoder: a network from z `[latent_size]` to the arrays that the likelihood needs:
        `[*x.shape]` for one parameter per dimension (Bernoulli, a Normal of fixed or
        shared variance), `[*x.shape, num_parameters]` for more (Normal: mean and
        log-variance).
      likelihood: the head of p(x|z), or a distribution class that carries one. For an
        example of several parts, a dict or tuple, `vaejax.distributions.joint_head`,
        and the decoder outputs one such array for each part.
      posterior: the head of q(z|x); by default `normal_head()`, whose log-variance is
        bounded softly.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder", and "likelihood" and
      "posterior" (the heads' own, often none). Its `init` raises ValueError where the
      decoder's output does not fit x.

    Raises:
      ValueError: `latent_size` is not a positive integer.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2,
      ...     encoder=vaejax.MLP((8,)),
      ...     decoder=vaejax.MLP((8,), output_shape=(4, 3)),
      ... )
      >>> x = jnp.zeros((4, 3))
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), x)
      >>> jax.eval_shape(vae.encode, params, x).mean.shape
      (2,)
      >>> jax.eval_shape(vae.decode, params, jnp.zeros(2)).logits.shape
      (4, 3)

    Source: Kingma & Welling 2014, section 3.
    """
    head = likelihood if isinstance(likelihood, JointHead) else as_head(likelihood)
    network = as_network(decoder)
    latents = _gaussian_latents(latent_size, encoder, posterior)

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        check_arrays("x", x)
        encoder_key, decoder_key, likelihood_key = jax.random.split(key, 3)
        z = jnp.zeros((latent_size,))
        params = latents.init(encoder_key, jax.random.fold_in(key, 3), x) | {
            "decoder": network.init(decoder_key, z),
            "likelihood": head.init(likelihood_key),
        }
        _check_decoder(jax.eval_shape(network.apply, params["decoder"], z), x, head)
        return params

    def decode(params: Params, z: Latent) -> Distribution:
        check_arrays("the latent z", z)
        outputs = network.apply(part_of(params, "decoder"), z)
        return head.apply(part_of(params, "likelihood"), outputs)

    return VAE(init, latents.encode, latents.prior, decode)


class _Latents(NamedTuple):
    """The half of a VAE that does not depend on its likelihood."""

    init: Callable[[Key, Key, Example], dict[str, Params]]
    encode: Callable[[Params, Example], Distribution]
    prior: Callable[[Params], Distribution]


def _gaussian_latents(
    latent_size: int, encoder: NetworkLike, posterior: HeadLike | None
) -> _Latents:
    """Build p(z) = N(0, I) and the Normal q(z|x) of an encoder that makes features."""
    check_count("latent_size", latent_size)
    head = normal_head() if posterior is None else as_head(posterior)
    outputs = MLP(
        (),
        (latent_size,)
        if head.num_parameters == 1
        else (latent_size, head.num_parameters),
    )
    network = compose_networks(as_network(encoder), as_network(outputs))

    def init(encoder_key: Key, posterior_key: Key, x: Example) -> dict[str, Params]:
        return {
            "encoder": network.init(encoder_key, _in_dtype(jnp.float32, x)),
            "posterior": head.init(posterior_key),
        }

    def encode(params: Params, x: Example) -> Distribution:
        check_arrays("x", x)
        own = part_of(params, "encoder")
        outputs = network.apply(own, _in_dtype_of(own, x))
        return head.apply(part_of(params, "posterior"), outputs)

    def prior(params: Params) -> Normal:
        check_parameters(params)
        return Normal(jnp.zeros((latent_size,)), jnp.zeros((latent_size,)))

    return _Latents(init, encode, prior)


def _is_real(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _in_dtype_of(params: Params, x: PyTree) -> PyTree:
    floats = [leaf for leaf in jax.tree.leaves(params) if _is_real(leaf)]
    return _in_dtype(jnp.result_type(floats[0]), x) if floats else x


def _in_dtype(dtype: DTypeLike, x: PyTree) -> PyTree:
    """Cast real values and bools; integers may be tokens."""
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf).astype(dtype)
            if _is_real(leaf) or jnp.isdtype(jnp.result_type(leaf), "bool")
            else leaf
        ),
        x,
    )


def _check_decoder(outputs: PyTree, x: Example, head: Head | JointHead) -> None:
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
