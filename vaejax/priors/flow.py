"""The prior that is a flow on the prior of the given VAE."""

from typing import cast

from vaejax._checks import check_functions, described, part_of
from vaejax.base import VAE, Distribution, Example, Key, Params
from vaejax.distributions import Flow
from vaejax.networks import FlowLayers
from vaejax.priors._replaced import with_prior


def with_flow_prior(vae: VAE, layers: FlowLayers) -> VAE:
    """Return the VAE whose prior is a learned flow on the prior that it had.

    p(z) = p_0(f^-1(z)) |det df^-1/dz| for the given prior p_0, N(0, I) as a rule. Since
    the KL has no closed form then, train with `kl_fn=kl_monte_carlo`.

    Args:
      vae: a VAE whose parameters are a dict, as those of `gaussian_vae`, and whose
        prior is over a vector.
      layers: layers that have an inverse and need no context, such as
        `vaejax.networks.coupling_layers(latent_size)`. Of inverse autoregressive
        layers, each log-density costs as many evaluations of the networks as z has
        dimensions.

    Returns:
      The VAE. Its parameters are those of the given one and "prior", those of the
      layers. Its `init` raises TypeError where the parameters are no dict or have a
      "prior" already, or a layer has no inverse, and ValueError where the latent size
      differs.

    Raises:
      TypeError: `layers` is no `FlowLayers`.
      ValueError: the layers need a context.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> vae = vaejax.priors.with_flow_prior(vae, vaejax.networks.coupling_layers(2))
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> vae.prior(params).log_prob(jnp.zeros(2)).shape
      ()

    Source: Huang et al. 2017; Chen et al. 2017 (variational lossy autoencoder),
    section 3.2.
    """
    check_functions(vae, "prior")
    if not isinstance(layers, FlowLayers):
        raise TypeError(
            f"with_flow_prior: layers is {described(layers)}; give "
            "vaejax.networks.FlowLayers, such as coupling_layers(latent_size)."
        )
    if layers.num_context:
        raise ValueError(
            f"with_flow_prior: the layers need a context of {layers.num_context} "
            "numbers per dimension, which a prior does not have; give layers with "
            "num_context=0, such as coupling_layers(latent_size)."
        )

    def init(key: Key, params: Params, x: Example) -> Params:
        del params, x
        return layers.init(key)

    def prior(params: Params) -> Distribution:
        made = layers.apply(part_of(params, "prior"), None)
        return cast(Distribution, Flow(vae.prior(params), made))

    return with_prior("with_flow_prior", vae, init, prior)
