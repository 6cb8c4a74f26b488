"""The uniform prior on the unit sphere, for posteriors that are on it."""

from typing import Any

import jax

from vaejax._checks import check_count
from vaejax._supports import is_all_reals, read_support
from vaejax.base import VAE, Distribution, Example, Key, Params, draw
from vaejax.distributions import UniformSphere
from vaejax.priors._replaced import with_prior


def with_spherical_prior(vae: VAE, *, latent_size: int) -> VAE:
    """Return the VAE with the uniform prior on the unit sphere.

    Its posterior must be on the sphere too, as that of `von_mises_fisher_head` is; the
    KL of the two is known in closed form.

    Args:
      vae: a VAE whose parameters are a dict.
      latent_size: the number of coordinates of z, at least 2: one more than the
        dimension of the sphere.

    Returns:
      A VAE with the parameters of the given one, and an empty "prior". Its `init`
      raises TypeError where the posterior is not on a sphere, and ValueError where z
      has another number of coordinates.

    Raises:
      ValueError: `latent_size` is not an integer above 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.priors.with_spherical_prior(
      ...     vaejax.gaussian_vae(
      ...         latent_size=3,
      ...         encoder=vaejax.MLP((8,)),
      ...         decoder=vaejax.MLP((8,), (5,)),
      ...         posterior=vaejax.distributions.von_mises_fisher_head(),
      ...     ),
      ...     latent_size=3,
      ... )
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros(5))
      >>> vae.prior(params).mean.shape
      (3,)

    Source: Davidson et al. 2018, section 3.
    """
    check_count("with_spherical_prior: latent_size", latent_size)
    if latent_size < 2:
        raise ValueError(
            f"with_spherical_prior: latent_size is {latent_size}; give at least 2."
        )

    def init_prior(key: Key, params: Params, x: Example) -> Params:
        jax.eval_shape(check_posterior, key, params, x)
        return ()

    def check_posterior(key: Key, params: Params, x: Example) -> None:
        posterior: Distribution = vae.encode(params, x)
        support, z = read_support(posterior), draw(key, posterior)
        if support is not None and is_all_reals(support, z.shape):
            raise TypeError(
                f"with_spherical_prior: the posterior is a {type(posterior).__name__}, "
                "which is not on a sphere; give the VAE "
                "posterior=vaejax.distributions.von_mises_fisher_head()."
            )

    def make_prior(params: Params) -> Any:  # has a mean, and no mode
        del params
        return UniformSphere(latent_size)

    return with_prior("with_spherical_prior", vae, init_prior, make_prior)
