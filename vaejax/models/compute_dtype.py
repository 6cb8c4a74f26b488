"""VAEs whose networks compute in another dtype."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vaejax.base import VAE, Distribution, Example, Latent, Params, PyTree
from vaejax.distributions.autoregressive import Autoregressive


def with_compute_dtype(vae: VAE, dtype: DTypeLike) -> VAE:
    """The VAE whose networks compute in `dtype`, such as bfloat16, with parameters and
    log-densities as they were.

    Parameters and inputs are cast on the way into `encode` and `decode`, and the
    distributions that come out are cast back to float32: what is rounded is the
    networks' work and the parameters of the two distributions. Gradients arrive, and
    are accumulated by the optimizer, in the parameters' own dtype. The prior is
    computed as before.

    Raises:
      TypeError: `dtype` is not a floating-point one; or, at `decode`, the decoder is
        autoregressive.

    Source: Micikevicius et al. 2018, section 3.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"with_compute_dtype: dtype is {dtype}; give a floating-point one, such as "
            "jnp.bfloat16."
        )

    def encode(params: Params, x: Example) -> Distribution:
        return _cast(vae.encode(_cast(params, dtype), _cast(x, dtype)), jnp.float32)

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
