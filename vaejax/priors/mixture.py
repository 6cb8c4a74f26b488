"""A learned mixture of Normals as the prior, and the clusters that it makes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import (
    check_arrays,
    check_count,
    check_in_range,
    check_model,
    described,
    part_of,
    require,
)
from vaejax.base import VAE, Array, Example, Key, Latent, Params, draw
from vaejax.distributions import Mixture, Normal
from vaejax.priors._replaced import with_prior


def with_mixture_prior(
    vae: VAE, num_components: int, *, initial_stddev: float = 1.0
) -> VAE:
    """Return the VAE whose prior is a learned mixture of Normals.

    p(z) = sum_k pi_k N(z; mean_k, diag exp(log_variance_k)), with the weights pi, the
    means and the log-variances trained with the networks. The closed form of its KL is
    not known: give objectives `kl_fn=vaejax.kl_monte_carlo`. `responsibilities` gives
    the clusters. With as many components as clusters that are sought this is VaDE,
    whose paper starts the mixture from one that is fitted to the codes of an
    autoencoder; see `mixture_parameters`.

    Args:
      vae: a VAE over z of one array, whose parameters are a dict without "prior", as
        those of `gaussian_vae`.
      num_components: the number of Normals, at least 1.
      initial_stddev: standard deviation of the initial means, at least 0; the
        components start with variance 1 and equal weights.

    Returns:
      The VAE. Its parameters are those of the given one and "prior", the dict of
      "means" and "log_variances" `[num_components, *z]` and "logits"
      `[num_components]`. Its `init` raises TypeError where the given parameters are no
      such dict.

    Raises:
      ValueError: `num_components` is not a positive integer, or `initial_stddev` is
        negative or not finite.
      TypeError: `vae` is not a VAE.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.priors import with_mixture_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> vae = with_mixture_prior(vae, num_components=10)
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> params["prior"]["means"].shape, vae.prior(params).mean.shape
      ((10, 2), (2,))

    Source: Jiang et al. 2017 (VaDE), equations 1 to 3; the bound with q(c|x) = p(c|z)
    of their equation 16.
    """
    check_count("num_components", num_components)
    check_in_range("with_mixture_prior: initial_stddev", initial_stddev, 0)

    def init(key: Key, params: Params, x: Example) -> Params:
        z = jax.eval_shape(lambda: draw(jax.random.key(0), vae.encode(params, x)))
        if not hasattr(z, "shape"):
            raise TypeError(
                f"with_mixture_prior: a latent is {described(z)}; give a VAE over one "
                "array."
            )
        shape = (num_components, *z.shape)
        return {
            "means": initial_stddev * jax.random.normal(key, shape, z.dtype),
            "log_variances": jnp.zeros(shape, z.dtype),
            "logits": jnp.zeros(num_components, z.dtype),
        }

    return with_prior("with_mixture_prior", vae, init, mixture_of)


def mixture_of(params: Params) -> Any:  # has a mean, and no mode
    """Return the mixture of Normals of the parameters of a VAE."""
    own = part_of(params, "prior")
    components = Normal(part_of(own, "means"), part_of(own, "log_variances"))
    return Mixture(components, part_of(own, "logits"))


def mixture_parameters(fitted: Any) -> Params:
    """Return the parameters of a mixture prior from a fitted mixture of scikit-learn.

    Use them as the start of training, or as they are: `params | {"prior":
    mixture_parameters(fitted)}` are parameters of the VAE of `with_mixture_prior`.

    Args:
      fitted: a fitted `sklearn.mixture.GaussianMixture` or `BayesianGaussianMixture`
        of latents, whose `covariance_type` is "diag" or "spherical".

    Returns:
      The dict of "means" and "log_variances" `[num_components, latent_size]` and
      "logits" `[num_components]`, in float32.

    Raises:
      TypeError: `fitted` is no fitted mixture.
      ValueError: its covariances are not diagonal.

    Example:
      >>> import numpy as np
      >>> from sklearn.mixture import GaussianMixture
      >>> from vaejax.priors import mixture_parameters
      >>> zs = np.array([[-3.0, 0.0], [-1.0, 2.0], [2.0, 1.0], [4.0, -1.0]])
      >>> mixture = GaussianMixture(1, covariance_type="diag").fit(zs)
      >>> start = mixture_parameters(mixture)
      >>> start["means"].tolist(), start["logits"].tolist()
      ([[0.5, 0.5]], [0.0])

    Source: Jiang et al. 2017 (VaDE), section 4.2, where training starts so.
    """
    names = ("weights_", "means_", "covariances_", "covariance_type")
    if not all(hasattr(fitted, name) for name in names):
        raise TypeError(
            f"mixture_parameters: the mixture is {described(fitted)}; give a fitted "
            "sklearn.mixture.GaussianMixture."
        )
    if fitted.covariance_type not in ("diag", "spherical"):
        raise ValueError(
            f"mixture_parameters: the covariances are {fitted.covariance_type!r}; fit "
            "the mixture with covariance_type='diag' or 'spherical'."
        )
    means = np.asarray(fitted.means_, np.float32)
    variances = np.asarray(fitted.covariances_, np.float64)
    if fitted.covariance_type == "spherical":
        variances = variances[:, None]
    return {
        "means": jnp.asarray(means),
        "log_variances": jnp.asarray(
            np.broadcast_to(np.log(variances), means.shape), jnp.float32
        ),
        "logits": jnp.asarray(np.log(fitted.weights_), jnp.float32),
    }


def responsibilities(vae: VAE, params: Params, z: Latent) -> Array:
    """Return p(k|z), the probability that component k of the prior made a latent.

    For the clusters of examples, give the latents that `vaejax.embed` returns, mapped
    with `jax.vmap`: the most probable component of the posterior mean.

    Args:
      vae: a VAE whose prior is a mixture, such as those of `with_mixture_prior` and
        `with_vamp_prior`.
      params: its parameters.
      z: one latent.

    Returns:
      `[num_components]`, probabilities.

    Raises:
      TypeError: the prior has no responsibilities.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.priors import responsibilities, with_mixture_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> vae = with_mixture_prior(vae, num_components=10)
      >>> xs = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> zs = vaejax.embed(vae, params, xs)
      >>> of_example = jax.vmap(lambda z: responsibilities(vae, params, z))(zs)
      >>> of_example.shape, of_example.argmax(axis=1).shape
      ((4, 10), (4,))

    Source: Jiang et al. 2017 (VaDE), equation 16.
    """
    check_model(vae, params)
    check_arrays("the latent z", z)
    remedy = "give a VAE whose prior is a mixture, such as with_mixture_prior makes"
    return require(vae.prior(params), "responsibilities", remedy)(z)
