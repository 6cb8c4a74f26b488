"""A modifier of VAEs: networks that compute in another dtype."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vaejax._checks import check_model
from vaejax.base import VAE, Distribution, Example, Latent, Params, PyTree
from vaejax.distributions import Autoregressive, MaskedEvent


def with_compute_dtype(vae: VAE, dtype: DTypeLike) -> VAE:
    """Return the VAE whose networks compute in another dtype, such as bfloat16.

    Parameters and inputs are cast on the way into `encode` and `decode`, and the
    distributions that come out are cast back to float32: only the networks' work and
    the parameters of the two distributions are rounded. Gradients arrive, and are
    accumulated by the optimizer, in the parameters' own dtype. The prior is computed as
    before.

    Args:
      vae: the model. Its likelihood must not be `Autoregressive`, which computes after
        `decode` has returned.
      dtype: a floating-point dtype.

    Returns:
      A VAE with the same parameters. Its `decode` raises TypeError for an
      autoregressive likelihood.

    Raises:
      TypeError: `dtype` is not a floating-point one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (6,))
      ... )
      >>> half = vaejax.models.with_compute_dtype(vae, jnp.bfloat16)
      >>> params = jax.eval_shape(half.init, jax.random.key(0), jnp.zeros(6))
      >>> jax.eval_shape(half.decode, params, jnp.zeros(2)).logits.dtype
      dtype('float32')

    Source: Micikevicius et al. 2018, section 3.
    """
    check_model(vae, None)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"with_compute_dtype: dtype is {dtype}; give a floating-point one, such as "
            "jnp.bfloat16."
        )

    def encode(params: Params, x: Example) -> Distribution:
        # Rows of a table are standardized before they are rounded.
        x = x if isinstance(x, MaskedEvent) else _cast(x, dtype)
        return _cast(vae.encode(_cast(params, dtype), x), jnp.float32)

    def decode(params: Params, z: Latent) -> Distribution:
        likelihood = vae.decode(_cast(params, dtype), _cast(z, dtype))
        if isinstance(likelihood, Autoregressive):
            raise TypeError(
                "with_compute_dtype: an autoregressive decoder has not computed yet; "
                "cast in its network."
            )
        return _cast(likelihood, jnp.float32)

    return vae._replace(encode=encode, decode=decode)


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    return jax.tree.map(
        lambda leaf: (
            leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        ),
        tree,
    )
