"""Prior that predicts each code of a quantized latent from those before it."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import part_of
from vaejax.base import VAE, Array, Example, Key, NetworkLike, Params
from vaejax.distributions import Autoregressive, CodeVectors
from vaejax.networks import as_network
from vaejax.priors._replaced import with_prior


def with_autoregressive_prior(vae: VAE, network: NetworkLike) -> VAE:
    """Return a VAE of quantized latents whose prior predicts each code from the last.

    p(z) = prod_t p(c_t | c_<t) over the codes in row-major order. Train the prior once
    the rest is trained, on `-vae.prior(params).log_prob(vae.encode(params, x).mean)`,
    which has gradients for the prior alone. It is the length of x's code in nats; by
    log 2 that in bits.

    Args:
      vae: a VAE of `vq_vae` or `fsq_vae`.
      network: a network `(context [1], inputs [positions]) -> logits [positions,
        codes]`, causal: row t depends on `inputs[:t + 1]` alone, which are the codes
        shifted right by one, behind the number of codes. Decoders of `sequence_vae` are
        such networks, for a vocabulary of as many tokens as there are codes.

    Returns:
      The VAE. Its parameters are those of the given one and "prior". Its `init` raises
      TypeError where the parameters are no dict or have a "prior" already, or the
      latents are not quantized, and ValueError where the logits do not fit.

    Raises:
      TypeError: `network` is not a network, or `vae` is no VAE.

    Example:
      >>> import math
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.networks import CausalConvolutionDecoder
      >>> from vaejax.priors import with_autoregressive_prior
      >>> vae = vaejax.models.fsq_vae(
      ...     levels=(5, 5),
      ...     positions=(4,),
      ...     encoder=vaejax.MLP((8,), (4, 2)),
      ...     decoder=vaejax.MLP((8,), (3,)),
      ... )
      >>> network = CausalConvolutionDecoder(25, 16, dilations=(1, 2))
      >>> vae = with_autoregressive_prior(vae, network)
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> z = vae.encode(params, jnp.ones(3)).mean
      >>> bits = -vae.prior(params).log_prob(z) / math.log(2)
      >>> vae.prior(params).sample(jax.random.key(1)).shape, bits.shape
      ((4, 2), ())

    Source: van den Oord et al. 2017, section 3.3.
    """
    causal, context = as_network(network), jnp.ones(1)

    def logits(params: Params, inputs: Array, *, num_codes: int) -> Array:
        # Before the first code there is none.
        return causal.apply(params, context, inputs.at[0].set(num_codes))

    def init(key: Key, params: Params, x: Example) -> Params:
        given = _code_vectors(vae, params)
        num, num_codes = math.prod(given.shape[:-1]), given.quantizer.num_codes
        inputs = jnp.zeros(num, jnp.int32)
        own = causal.init(key, context, inputs)
        outputs = jax.eval_shape(causal.apply, own, context, inputs)
        if outputs.shape != (num, num_codes):
            raise ValueError(
                f"with_autoregressive_prior: the network outputs {outputs.shape}; give "
                f"one that outputs {(num, num_codes)}, the logits of each position."
            )
        return own

    def make_prior(params: Params) -> Any:  # codes have no mean
        given, own = _code_vectors(vae, params), part_of(params, "prior")
        num_codes = given.quantizer.num_codes
        codes = Autoregressive(
            jax.tree_util.Partial(logits, own, num_codes=num_codes),
            length=math.prod(given.shape[:-1]),
            has_end=False,
        )
        return CodeVectors(codes, given.quantizer, given.shape)

    return with_prior("with_autoregressive_prior", vae, init, make_prior)


def _code_vectors(vae: VAE, params: Params) -> CodeVectors:
    prior = vae.prior(params)
    if not isinstance(prior, CodeVectors):
        raise TypeError(
            f"with_autoregressive_prior: the prior is {type(prior).__name__}; give a "
            "VAE of quantized latents, such as vq_vae or fsq_vae."
        )
    return prior
