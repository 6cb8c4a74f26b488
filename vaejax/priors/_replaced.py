"""The modifier on which all priors are built."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_functions,
    check_key,
    check_parameters,
    check_without_prior,
    log_prob_of,
)
from vaejax.base import VAE, Distribution, Example, Key, Latent, Params, draw


def with_prior(
    name: str,
    vae: VAE,
    init_prior: Callable[[Key, Params, Example], Params],
    make_prior: Callable[[Params], Distribution],
) -> VAE:
    """Return the VAE with another prior, whose parameters are those under "prior".

    Args:
      name: the public function, for messages.
      vae: the given VAE, whose parameters are a dict.
      init_prior: `(key, params of the given VAE, x) -> params["prior"]`.
      make_prior: `params -> p(z)`, of all parameters.
    """
    check_functions(vae, "init", "encode", "prior", "decode")

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        vae_key, prior_key = jax.random.split(key)
        params = vae.init(vae_key, x)
        check_without_prior(name, params)
        params = params | {"prior": init_prior(prior_key, params, x)}
        _check_latents(name, vae, params, x, make_prior)
        return params

    def prior(params: Params) -> Distribution:
        check_parameters(params)
        return make_prior(params)

    return VAE(init, vae.encode, prior, vae.decode)


def _check_latents(
    name: str,
    vae: VAE,
    params: Params,
    x: Example,
    make_prior: Callable[[Params], Distribution],
) -> None:
    """Raise ValueError unless prior and posterior are over latents of one shape.

    TypeError where the prior has no log-density.
    """

    def of_prior_draw(params: Params) -> Latent:
        prior = make_prior(params)
        z = draw(jax.random.key(0), prior)
        log_prob_of(prior, z)
        return z

    of_prior, of_posterior = (
        jax.tree.map(jnp.shape, jax.eval_shape(make, params))
        for make in (
            of_prior_draw,
            lambda params: draw(jax.random.key(0), vae.encode(params, x)),
        )
    )
    if of_prior != of_posterior:
        raise ValueError(
            f"{name}: the prior is over z of shape {of_prior} and the posterior over "
            f"{of_posterior}; give them the same."
        )
