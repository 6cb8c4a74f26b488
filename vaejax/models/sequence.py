"""The VAE of sentences."""

from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_arrays, check_count, check_key, part_of
from vaejax.base import VAE, Example, HeadLike, Key, Latent, NetworkLike, Params
from vaejax.distributions import Autoregressive, as_teacher_forced
from vaejax.models.gaussian import _gaussian_latents
from vaejax.networks import as_network


def sequence_vae(
    *,
    latent_size: int,
    length: int,
    encoder: NetworkLike,
    decoder: NetworkLike,
    posterior: HeadLike | None = None,
) -> VAE:
    """Build the VAE of sentences, whose decoder is autoregressive.

    p(x|z) = prod_t p(x_t | x_<t, z), p(z) = N(0, I), q(z|x) is a Normal.
    A network is a Flax Linen module or any `(init, apply)` pair of functions of one
    example.

    Args:
      latent_size: the number of dimensions of z, at least 1.
      length: the number of tokens of x, `tokens [length]`: of the longest sentence, at
        least 1.
      encoder: a network from a sentence to features, such as `RecurrentEncoder`; one
        linear layer, added here, makes the posterior's parameters of them.
      decoder: a network `(z, inputs [length]) -> logits [length, vocabulary_size]`,
        causal: row t depends on `inputs[:t + 1]` alone.
      posterior: the head of q(z|x); by default `normal_head()`, whose log-variance is
        bounded softly.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" and "posterior"; its
      likelihood is an `Autoregressive`. Its `init` raises ValueError where the example
      or the logits have another length.

    Raises:
      ValueError: a count is not a positive integer.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.sequence_vae(
      ...     latent_size=2,
      ...     length=7,
      ...     encoder=vaejax.networks.RecurrentEncoder(10, hidden_size=16),
      ...     decoder=vaejax.networks.RecurrentDecoder(10, hidden_size=16),
      ... )
      >>> x = jnp.zeros(7, jnp.int32)
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), x)
      >>> jax.eval_shape(vae.encode, params, x).mean.shape
      (2,)

    Source: Bowman et al. 2016, section 3.
    """
    check_count("length", length)
    network = as_network(decoder)
    latents = _gaussian_latents(latent_size, encoder, posterior)

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        check_arrays("x", x)
        tokens = as_teacher_forced(x).tokens
        if tokens.shape != (length,):
            raise ValueError(
                f"sequence_vae: the example has shape {tokens.shape} and length is "
                f"{length}; pad one example to it, and map a batch with jax.vmap."
            )
        z, inputs = jnp.zeros((latent_size,)), jnp.zeros(length, jnp.int32)
        encoder_key, decoder_key, posterior_key = jax.random.split(key, 3)
        params = latents.init(encoder_key, posterior_key, x) | {
            "decoder": network.init(decoder_key, z, inputs)
        }
        logits = jax.eval_shape(network.apply, params["decoder"], z, inputs)
        if logits.ndim != 2 or len(logits) != length:
            raise ValueError(
                f"sequence_vae: the decoder outputs {logits.shape}; give logits "
                f"({length}, vocabulary)."
            )
        return params

    def decode(params: Params, z: Latent) -> Any:  # Autoregressive has no mean
        check_arrays("the latent z", z)
        return Autoregressive(
            jax.tree_util.Partial(network.apply, part_of(params, "decoder"), z), length
        )

    return VAE(init, latents.encode, latents.prior, decode)
