"""Builders: networks, heads and priors put together into a `VAE`. Assembly only."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vaejax.base import VAE, Distribution, Example, Head, Key, Latent, Params, PyTree, check_count
from vaejax.distributions import Bernoulli, Normal, as_head, normal_head
from vaejax.networks import MLP, as_network, chain


def gaussian_vae(*, latent_size: int, encoder, decoder, likelihood=Bernoulli, posterior: Head | None = None) -> VAE:
    """The VAE of Kingma & Welling 2014: p(z) = N(0, I), q(z|x) a diagonal Normal, p(x|z) of any likelihood.

    Args:
      latent_size: dimensions of z.
      encoder: x to features of any shape; one linear layer, added here, makes the posterior's parameters of them. A
        Linen module, or any `(init, apply)` pair.
      decoder: z to the arrays that the likelihood needs: `[*x.shape]` for one parameter a dimension (Bernoulli, a
        Normal of fixed or shared variance), `[*x.shape, num_parameters]` for more (Normal: mean and log-variance).
        Likewise.
      likelihood: a `Head`, or a distribution class that carries its own as `head`.
      posterior: the head of q(z|x); by default `normal_head()`, whose log-variance is bounded softly.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder", and "likelihood" and "posterior" (the heads' own,
      often none).

    Raises:
      ValueError: `latent_size` is not a positive integer; or, at `init`, the decoder's output does not fit x.
      TypeError: an argument is neither a network nor a head.
    """
    check_count("latent_size", latent_size)
    likelihood = as_head(likelihood)
    posterior = normal_head() if posterior is None else as_head(posterior)
    outputs = MLP((), (latent_size,) if posterior.num_parameters == 1 else (latent_size, posterior.num_parameters))
    encoder, decoder = chain(as_network(encoder), as_network(outputs)), as_network(decoder)

    def init(key: Key, x: Example) -> Params:
        encoder_key, decoder_key, likelihood_key = jax.random.split(key, 3)
        z = jnp.zeros((latent_size,))
        params = {
            "encoder": encoder.init(encoder_key, x),
            "decoder": decoder.init(decoder_key, z),
            "likelihood": likelihood.init(likelihood_key),
            # Folded, so that the other parts start as they would beside a posterior without parameters of its own.
            "posterior": posterior.init(jax.random.fold_in(key, 3)),
        }
        _check_decoder(jax.eval_shape(decoder.apply, params["decoder"], z), x, likelihood)
        return params

    def encode(params: Params, x: Example) -> Normal:
        return posterior.apply(params["posterior"], encoder.apply(params["encoder"], x))

    def prior(params: Params) -> Normal:
        del params
        return Normal(jnp.zeros((latent_size,)), jnp.zeros((latent_size,)))

    def decode(params: Params, z: Latent):
        return likelihood.apply(params["likelihood"], decoder.apply(params["decoder"], z))

    return VAE(init, encode, prior, decode)


def with_compute_dtype(vae: VAE, dtype: DTypeLike) -> VAE:
    """The VAE whose networks compute in `dtype`, such as bfloat16, with parameters and log-densities as they were.

    Parameters and inputs are cast on the way into `encode` and `decode`, and the distributions that come out are cast
    back to float32: what is rounded is the networks' work and the parameters of the two distributions. Gradients
    arrive, and are accumulated by the optimizer, in the parameters' own dtype. The prior is computed as before.

    Raises:
      TypeError: `dtype` is not a floating-point one.

    Source: Micikevicius et al. 2018, section 3.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"with_compute_dtype: dtype is {dtype}; give a floating-point one, such as jnp.bfloat16.")

    def encode(params: Params, x: Example) -> Distribution:
        return _cast(vae.encode(_cast(params, dtype), _cast(x, dtype)), jnp.float32)

    def decode(params: Params, z: Latent) -> Distribution:
        return _cast(vae.decode(_cast(params, dtype), _cast(z, dtype)), jnp.float32)

    return vae._replace(encode=encode, decode=decode)


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def _check_decoder(outputs, x, likelihood: Head) -> None:
    extra = () if likelihood.num_parameters == 1 else (likelihood.num_parameters,)
    if outputs.shape != (*jnp.shape(x), *extra):
        raise ValueError(
            f"the decoder puts out {outputs.shape} for an example of shape {jnp.shape(x)}; the likelihood has "
            f"{likelihood.num_parameters} parameter(s) a dimension, so it must put out {(*jnp.shape(x), *extra)} "
            "(one example, without a batch axis)."
        )
