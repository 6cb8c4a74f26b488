"""The bound of a multimodal VAE summed over subsets of the parts of an example."""

import jax
import jax.numpy as jnp

from vaejax._checks import check_key, check_model, check_weights, described
from vaejax.base import VAE, Array, Example, Key, KlFn, Params
from vaejax.columns import MaskedEvent
from vaejax.distributions import mask_parts
from vaejax.objectives.elbo import ElboTerms, negative_elbo
from vaejax.objectives.kl_estimators import kl_closed_form


def negative_subset_elbo(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_subsets: int = 1,
    beta: float | Array = 1.0,
    kl_fn: KlFn = kl_closed_form,
) -> tuple[Array, ElboTerms]:
    """Negative ELBO of all parts of an example, of each alone and of random subsets.

    It is -[ELBO(x) + sum_i ELBO(x_i) + sum_j ELBO(X_j)], where each X_j has every part
    with probability 1/2. Training on it teaches each encoder of a product of experts to
    stand alone. Parts that are missing in x are missing in all.

    Args:
      vae: a model of `vaejax.models.multimodal_vae`, or another that takes missing
        parts.
      params: its parameters.
      key: decides the subsets and the samples of z.
      x: one example, a dict, tuple or NamedTuple of parts.
      num_subsets: number of random subsets, at least 0.
      beta: weight of the KL, at least 0; may be traced, as a schedule is.
      kl_fn: estimator of the KL term; `kl_monte_carlo` for a mixture of experts.

    Returns:
      The scalar loss, and the `ElboTerms` of all parts together.

    Raises:
      ValueError: `num_subsets` or `beta` is out of its range.
      TypeError: x is an array, without parts.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.objectives import negative_subset_elbo
      >>> vae = vaejax.models.multimodal_vae(
      ...     latent_size=2,
      ...     encoders={"a": vaejax.MLP((8,)), "b": vaejax.MLP((8,))},
      ...     decoders={"a": vaejax.MLP((), (3,)), "b": vaejax.MLP((), (5,))},
      ...     likelihoods={"a": vaejax.Bernoulli, "b": vaejax.Bernoulli},
      ... )
      >>> x = {"a": jnp.ones(3), "b": jnp.ones(5)}
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = negative_subset_elbo(vae, params, jax.random.key(1), x)
      >>> bool(loss > terms.kl - terms.log_likelihood)
      True

    Source: Wu & Goodman 2018 (MVAE), equation 5.
    """
    check_model(vae, params)
    check_key(key)
    check_weights("negative_subset_elbo", beta=beta)
    if not isinstance(num_subsets, int) or num_subsets < 0:
        raise ValueError(
            f"num_subsets is {described(num_subsets)}; give an integer of at least 0."
        )
    # The parts are one level down, whatever is in them.
    structure = jax.tree.structure(x, is_leaf=lambda node: node is not x)
    if isinstance(x, MaskedEvent) or jax.tree_util.treedef_is_leaf(structure):
        raise TypeError(
            f"negative_subset_elbo: x is {described(x)}; give a dict, tuple or "
            "NamedTuple of parts."
        )
    num_parts = structure.num_leaves
    subset_key, key = jax.random.split(key)
    subsets = jnp.concatenate(
        [
            jnp.ones((1, num_parts), bool),
            jnp.eye(num_parts, dtype=bool),
            jax.random.bernoulli(subset_key, shape=(num_subsets, num_parts)),
        ]
    )

    def of_subset(key: Key, mask: Array) -> tuple[Array, ElboTerms]:
        seen = mask_parts(x, structure.unflatten(list(mask)))
        return negative_elbo(vae, params, key, seen, beta=beta, kl_fn=kl_fn)

    losses, terms = jax.vmap(of_subset)(jax.random.split(key, len(subsets)), subsets)
    return jnp.sum(losses), jax.tree.map(lambda leaf: leaf[0], terms)
