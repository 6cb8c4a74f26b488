"""Builders: networks, heads and priors put together into a `VAE`. Assembly only."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import VAE, Distribution, Example, Head, Key, Latent, Params
from vaejax.distributions.continuous import Normal, normal_head
from vaejax.distributions.discrete import Bernoulli
from vaejax.distributions.heads import as_head
from vaejax.networks.adapters import as_network, compose_networks
from vaejax.networks.mlp import MLP


def gaussian_vae(
    *,
    latent_size: int,
    encoder,
    decoder,
    likelihood=Bernoulli,
    posterior: Head | None = None,
) -> VAE:
    """The VAE of Kingma & Welling 2014: p(z) = N(0, I), q(z|x) a diagonal Normal,
    p(x|z) of any likelihood.

    Args:
      latent_size: dimensions of z.
      encoder: x to features of any shape; one linear layer, added here, makes the
        posterior's parameters of them. A Linen module, or any `(init, apply)` pair.
      decoder: z to the arrays that the likelihood needs: `[*x.shape]` for one parameter
        a dimension (Bernoulli, a Normal of fixed or shared variance), `[*x.shape,
        num_parameters]` for more (Normal: mean and log-variance). Likewise.
      likelihood: a `Head`, or a distribution class that carries its own as `head`.
      posterior: the head of q(z|x); by default `normal_head()`, whose log-variance is
        bounded softly.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder", and "likelihood" and
      "posterior" (the heads' own,
      often none).

    Raises:
      ValueError: `latent_size` is not a positive integer; or, at `init`, the decoder's
        output does not fit x.
      TypeError: an argument is neither a network nor a head.
    """
    likelihood, decoder = as_head(likelihood), as_network(decoder)
    latents = _gaussian_latents(latent_size, encoder, posterior)

    def init(key: Key, x: Example) -> Params:
        encoder_key, decoder_key, likelihood_key = jax.random.split(key, 3)
        z = jnp.zeros((latent_size,))
        params = latents.init(encoder_key, jax.random.fold_in(key, 3), x) | {
            "decoder": decoder.init(decoder_key, z),
            "likelihood": likelihood.init(likelihood_key),
        }
        _check_decoder(
            jax.eval_shape(decoder.apply, params["decoder"], z), x, likelihood
        )
        return params

    def decode(params: Params, z: Latent) -> Distribution:
        return likelihood.apply(
            params["likelihood"], decoder.apply(params["decoder"], z)
        )

    return VAE(init, latents.encode, latents.prior, decode)


class _Latents(NamedTuple):
    """The half of a VAE that does not depend on its likelihood."""

    init: Callable[[Key, Key, Example], dict[str, Params]]
    encode: Callable[[Params, Example], Distribution]
    prior: Callable[[Params], Distribution]


def _gaussian_latents(latent_size: int, encoder, posterior: Head | None) -> _Latents:
    """p(z) = N(0, I) and a Normal q(z|x), of an encoder that makes features."""
    check_count("latent_size", latent_size)
    posterior = normal_head() if posterior is None else as_head(posterior)
    outputs = MLP(
        (),
        (latent_size,)
        if posterior.num_parameters == 1
        else (latent_size, posterior.num_parameters),
    )
    encoder = compose_networks(as_network(encoder), as_network(outputs))

    def init(encoder_key: Key, posterior_key: Key, x: Example) -> dict[str, Params]:
        return {
            "encoder": encoder.init(encoder_key, x),
            "posterior": posterior.init(posterior_key),
        }

    def encode(params: Params, x: Example) -> Distribution:
        return posterior.apply(params["posterior"], encoder.apply(params["encoder"], x))

    def prior(params: Params) -> Normal:
        del params
        return Normal(jnp.zeros((latent_size,)), jnp.zeros((latent_size,)))

    return _Latents(init, encode, prior)


def _check_decoder(outputs, x, likelihood: Head) -> None:
    extra = () if likelihood.num_parameters == 1 else (likelihood.num_parameters,)
    if outputs.shape != (*jnp.shape(x), *extra):
        raise ValueError(
            f"the decoder puts out {outputs.shape} for an example of shape "
            f"{jnp.shape(x)}; the likelihood has "
            f"{likelihood.num_parameters} parameter(s) a dimension, so it must put out "
            f"{(*jnp.shape(x), *extra)} "
            "(one example, without a batch axis)."
        )
