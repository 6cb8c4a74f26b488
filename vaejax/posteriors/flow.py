"""Heads that make a flow on a diagonal Normal."""

from typing import cast

from vaejax._checks import check_bounds, described
from vaejax.base import Array, Distribution, Head, Params
from vaejax.distributions import Flow, normal_head
from vaejax.networks import FlowLayers


def flow_head(
    layers: FlowLayers,
    *,
    min_log_variance: float = -20.0,
    max_log_variance: float = 20.0,
) -> Head:
    """Build a head that makes a flow on a Normal with independent dimensions.

    The first two outputs of the network for each dimension are mean and log-variance of
    the base, as in `normal_head`; the others are the context of the layers. Since its
    divergence has no closed form, train with `kl_fn=kl_monte_carlo`.

    Args:
      layers: the layers, of the latent size of the model, such as
        `vaejax.networks.inverse_autoregressive_layers(latent_size, num_context=1)`.
      min_log_variance: lower bound of the log-variance of the base, soft.
      max_log_variance: upper bound of the log-variance, above the lower one.

    Returns:
      A head of 2 + `num_context` parameters, whose own parameters are those of the
      layers.

    Raises:
      TypeError: `layers` is no `FlowLayers`.
      ValueError: the bounds are not in increasing order.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.networks import sylvester_layers
      >>> head = vaejax.posteriors.flow_head(sylvester_layers(2, num_layers=1))
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2,
      ...     encoder=vaejax.MLP((8,)),
      ...     decoder=vaejax.MLP((8,), (3,)),
      ...     posterior=head,
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.negative_elbo(
      ...     vae, params, jax.random.key(1), x, kl_fn=vaejax.kl_monte_carlo
      ... )
      >>> loss.shape
      ()

    Source: Rezende & Mohamed 2015, algorithm 1.
    """
    if not isinstance(layers, FlowLayers):
        raise TypeError(
            f"flow_head: layers is {described(layers)}; give vaejax.networks.FlowLayers"
            ", such as coupling_layers(latent_size)."
        )
    check_bounds("log_variance", min_log_variance, max_log_variance)
    base = normal_head(
        min_log_variance=min_log_variance, max_log_variance=max_log_variance
    )

    def apply(params: Params, outputs: Array) -> Distribution:
        made = layers.apply(params, outputs[:, 2:])
        # It has what a posterior must have, and not all of a distribution.
        return cast(Distribution, Flow(base.apply((), outputs[:, :2]), made))

    return Head(2 + layers.num_context, layers.init, apply)
