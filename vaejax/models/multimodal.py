"""Multimodal VAEs: an encoder and a decoder for each part of an example, one latent.

Any subset of the parts may be seen: a missing part is a `MaskedEvent` whose mask has no
axes, as `vaejax.distributions.mask_parts` makes it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_arrays,
    check_count,
    check_function,
    part_of,
    split_parts,
)
from vaejax.base import VAE, Array, Distribution, Example, Key, Params, PyTree
from vaejax.columns import MaskedEvent
from vaejax.distributions import Mixture, Normal, joint_head
from vaejax.models._assembly import LatentPart, assembled
from vaejax.models.gaussian import _gaussian_latents
from vaejax.networks import branched_network
from vaejax.posteriors import product_of_normals

#: `(prior, experts, mask) -> q(z|x)`; experts are Normals `[K, latent_size]`.
CombineExperts = Callable[[Normal, Normal, Array], Distribution]


def product_of_experts(prior: Normal, experts: Normal, mask: Array) -> Normal:
    """Return the product of the prior and of the experts of the parts that are seen.

    q(z|x) is proportional to p(z) prod_k q_k(z|x_k) over the seen parts k, and the
    prior where nothing is seen. Its precision is at least that of each expert.

    Args:
      prior: p(z), over `[latent_size]`.
      experts: one `Normal` whose leaves are `[K, latent_size]`, a row for each part.
      mask: `[K]`, true for the parts that are seen.

    Returns:
      The posterior, a `Normal`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import product_of_experts
      >>> prior = vaejax.Normal(jnp.zeros(1), jnp.zeros(1))
      >>> experts = vaejax.Normal(jnp.array([[3.0], [9.0]]), jnp.zeros((2, 1)))
      >>> product_of_experts(prior, experts, jnp.array([True, False])).mean.tolist()
      [1.5]

    Source: Wu & Goodman 2018 (MVAE), section 2.2.
    """
    everyone = _with_prior(prior, experts)
    return product_of_normals(everyone, jnp.append(True, mask))


def mixture_of_experts(prior: Normal, experts: Normal, mask: Array) -> Mixture:
    """Return the equal mixture of the experts of the parts that are seen.

    q(z|x) = 1/K sum_k q_k(z|x_k) over the K seen parts, and the prior where nothing is
    seen. A draw is of one expert at random; its KL is estimated by `kl_monte_carlo`.

    Args:
      prior: p(z), over `[latent_size]`.
      experts: one `Normal` whose leaves are `[K, latent_size]`, a row for each part.
      mask: `[K]`, true for the parts that are seen.

    Returns:
      The posterior, a `Mixture`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import mixture_of_experts
      >>> prior = vaejax.Normal(jnp.zeros(1), jnp.zeros(1))
      >>> experts = vaejax.Normal(jnp.array([[3.0], [9.0]]), jnp.zeros((2, 1)))
      >>> mixture_of_experts(prior, experts, jnp.array([True, True])).mean.tolist()
      [6.0]

    Source: Shi et al. 2019 (MMVAE), section 3.
    """
    is_taken = jnp.append(~jnp.any(mask), mask)
    logits = jnp.where(is_taken, jnp.zeros(()), -jnp.inf)
    return Mixture(_with_prior(prior, experts), logits)


def _with_prior(prior: Normal, experts: Normal) -> Normal:
    """Return the prior as the first of the experts."""
    return jax.tree.map(
        lambda one, rows: jnp.concatenate([one.astype(rows.dtype)[None], rows]),
        prior,
        experts,
    )


def multimodal_vae(
    *,
    latent_size: int,
    encoders: PyTree,
    decoders: PyTree,
    likelihoods: PyTree,
    combine: CombineExperts = product_of_experts,
) -> VAE:
    """Build the VAE of several modalities with one latent, any subset of them seen.

    p(z) = N(0, I), p(x|z) = prod_k p_k(x_k|z), and q(z|x) is combined of one Normal
    q_k(z|x_k) for each modality that is seen. The bound of an example with missing
    parts is one on log p of the parts that are seen. An example has the containers of
    `encoders`; a part that may be missing is a `MaskedEvent` whose mask has no axes.

    Args:
      latent_size: the number of dimensions of z, at least 1.
      encoders: a dict, tuple or NamedTuple of networks from a part to features of any
        shape; one linear layer for each, added here, makes its Normal of them.
      decoders: the same of networks from z `[latent_size]` to the array that the part's
        likelihood needs, see `gaussian_vae`.
      likelihoods: the same of heads, or of distribution classes that carry one.
      combine: how the experts make q(z|x): `product_of_experts` or
        `mixture_of_experts`.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" and "likelihood", each
      in the containers of an example. Its likelihood is a `Joint`. Its `init` raises
      ValueError where the parts of the example, or what the decoders output, do not
      fit.

    Raises:
      ValueError: `latent_size` is not a positive integer, or the parts of `encoders`,
        `decoders` and `likelihoods` differ.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import mask_parts
      >>> from vaejax.models import multimodal_vae
      >>> vae = multimodal_vae(
      ...     latent_size=2,
      ...     encoders={"image": vaejax.MLP((8,)), "sound": vaejax.MLP((8,))},
      ...     decoders={
      ...         "image": vaejax.MLP((), (4, 4)), "sound": vaejax.MLP((), (9, 2))
      ...     },
      ...     likelihoods={"image": vaejax.Bernoulli, "sound": vaejax.Normal},
      ... )
      >>> x = {"image": jnp.ones((4, 4)), "sound": jnp.ones(9)}
      >>> params = vae.init(jax.random.key(0), x)
      >>> seen = mask_parts(x, {"image": True, "sound": False})
      >>> vae.decode(params, vae.encode(params, seen).mean).mean["sound"].shape
      (9,)

    Source: Wu & Goodman 2018 (MVAE), section 2; Shi et al. 2019 (MMVAE), section 3.
    """
    check_count("latent_size", latent_size)
    check_function("multimodal_vae: combine", combine)
    network, head = branched_network(decoders), joint_head(likelihoods)
    structure = jax.tree.structure(head.num_parameters)
    latents = [
        _gaussian_latents(latent_size, encoder, None)
        for encoder in _split("encoders", structure, encoders)
    ]
    _split("decoders", structure, decoders)

    def experts(params: Params, x: Example) -> tuple[Normal, Array]:
        own = structure.flatten_up_to(part_of(params, "encoder"))
        found, mask = [], []
        for each, part_params, part in zip(
            latents, own, _split("the example", structure, x), strict=True
        ):
            values, is_seen = _seen(part)
            found.append(each.encode(part_params, values))
            mask.append(is_seen)
        return jax.tree.map(lambda *rows: jnp.stack(rows), *found), jnp.stack(mask)

    def init(encoder_key: Key, posterior_key: Key, x: Example) -> dict[str, Params]:
        del posterior_key
        parts = _split("the example", structure, x)
        keys = jax.random.split(encoder_key, (len(parts), 2))
        of_parts = [
            each.init(pair[0], pair[1], _seen(part)[0])
            for each, pair, part in zip(latents, keys, parts, strict=True)
        ]
        return {"encoder": structure.unflatten(of_parts)}

    def encode(params: Params, x: Example) -> Distribution:
        check_arrays("x", x)
        return combine(prior(params), *experts(params, x))

    prior: Any = latents[0].prior  # N(0, I), as that of each
    combined = LatentPart(init, encode, prior)
    return assembled((latent_size,), combined, network, head)


def _seen(part: Example) -> tuple[Example, Array]:
    """Return a part, with zeros where it is missing, and whether it is seen."""
    if not (isinstance(part, MaskedEvent) and jnp.ndim(part.mask) == 0):
        return part, jnp.asarray(True)
    is_seen = jnp.asarray(part.mask).astype(bool)
    values = jax.tree.map(jnp.asarray, part.values)
    return (
        jax.tree.map(
            lambda leaf: jnp.where(is_seen, leaf, jnp.zeros((), leaf.dtype)), values
        ),
        is_seen,
    )


def _split(what: str, structure: Any, tree: PyTree) -> list[Any]:
    names = structure.unflatten(range(structure.num_leaves))
    parts = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(names)]
    wanted = f"likelihoods has the parts {', '.join(parts)}; give the same"
    return split_parts(f"multimodal_vae: {what}", structure, tree, wanted)
