"""The Gaussian VAE: a standard Normal prior, and a Normal posterior of any encoder."""

import jax.numpy as jnp

from vaejax._checks import check_arrays, check_count, check_parameters, part_of
from vaejax.base import (
    VAE,
    Distribution,
    Example,
    HeadLike,
    Key,
    NetworkLike,
    Params,
)
from vaejax.distributions import Bernoulli, JointHead, Normal, as_head, normal_head
from vaejax.models._assembly import LatentPart, assembled, in_dtype, in_dtype_of
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
    return assembled((latent_size,), latents, network, head)


def _gaussian_latents(
    latent_size: int, encoder: NetworkLike, posterior: HeadLike | None
) -> LatentPart:
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
            "encoder": network.init(encoder_key, in_dtype(jnp.float32, x)),
            "posterior": head.init(posterior_key),
        }

    def encode(params: Params, x: Example) -> Distribution:
        check_arrays("x", x)
        own = part_of(params, "encoder")
        outputs = network.apply(own, in_dtype_of(own, x))
        return head.apply(part_of(params, "posterior"), outputs)

    def prior(params: Params) -> Normal:
        check_parameters(params)
        return Normal(jnp.zeros((latent_size,)), jnp.zeros((latent_size,)))

    return LatentPart(init, encode, prior)
