"""Builder of VAEs of sentences."""

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import VAE, Example, Head, Key, Latent, Params
from vaejax.distributions.autoregressive import Autoregressive, as_teacher_forced
from vaejax.models.gaussian import _gaussian_latents
from vaejax.networks.adapters import as_network


def sequence_vae(
    *, latent_size: int, length: int, encoder, decoder, posterior: Head | None = None
) -> VAE:
    """A VAE of sentences (Bowman et al. 2016): p(x|z) = prod_t p(x_t | x_<t, z), p(z) =
    N(0, I), q(z|x) a Normal.

    Args:
      latent_size: dimensions of z.
      length: of x: the longest sentence, `tokens [length]` (see `vaejax.sequences`).
      encoder: a sentence to features, such as `RecurrentEncoder`; one linear layer,
        added here, makes the posterior's parameters of them. A Linen module, or any
        `(init, apply)` pair.
      decoder: `(z, inputs [length]) -> logits [length, vocabulary_size]`, causal: row t
        from `inputs[:t + 1]`. Likewise.
      posterior: as in `gaussian_vae`.

    Raises:
      ValueError: a count is not a positive integer; or, at `init`, the example or the
        logits have another length.
    """
    check_count("length", length)
    decoder = as_network(decoder)

    latents = _gaussian_latents(latent_size, encoder, posterior)

    def init(key: Key, x: Example) -> Params:
        tokens = as_teacher_forced(x).tokens
        if tokens.shape != (length,):
            raise ValueError(
                f"sequence_vae: the example has shape {tokens.shape} and length is "
                f"{length}; pad to it."
            )
        z, inputs = jnp.zeros((latent_size,)), jnp.zeros(length, jnp.int32)
        encoder_key, decoder_key, posterior_key = jax.random.split(key, 3)
        params = latents.init(encoder_key, posterior_key, x) | {
            "decoder": decoder.init(decoder_key, z, inputs)
        }
        logits = jax.eval_shape(decoder.apply, params["decoder"], z, inputs)
        if logits.ndim != 2 or len(logits) != length:
            raise ValueError(
                f"sequence_vae: the decoder puts out {logits.shape}; give logits "
                f"({length}, vocabulary)."
            )
        return params

    def decode(params: Params, z: Latent) -> Autoregressive:
        return Autoregressive(
            jax.tree_util.Partial(decoder.apply, params["decoder"], z), length
        )

    return VAE(init, latents.encode, latents.prior, decode)
