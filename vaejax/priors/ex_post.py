"""Priors that are fitted to the posteriors of a trained model."""

from typing import Any

import jax
import numpy as np

from vaejax._checks import (
    check_batch,
    check_count,
    check_key,
    check_model,
    described,
)
from vaejax._programs import run
from vaejax.base import VAE, Array, Key, Params, PyTree, batch_size_of, draw
from vaejax.priors.mixture import mixture_parameters, with_mixture_prior


def fit_mixture_prior(
    vae: VAE,
    params: Params,
    key: Key,
    xs: PyTree,
    *,
    num_components: int,
    num_samples: int = 1,
    batch_size: int = 1000,
) -> tuple[VAE, Params]:
    """Fit a mixture of Normals to draws of q(z), as the prior of a trained model.

    q(z) = 1/N sum_n q(z|x_n). The part KL(q(z) || p(z)) of the KL term, which draws of
    the old prior pay for by decoding to what no example is like, becomes that of the
    fitted mixture. Encoder and decoder stay as they are. The fit is that of
    scikit-learn's `GaussianMixture` with diagonal covariances.

    Args:
      vae: the trained model, over z of one array, whose parameters are a dict without
        "prior".
      params: its parameters.
      key: key of the draws, and of the start of the fit.
      xs: the N training examples, `[N, *x]`.
      num_components: the number of Normals, at least 1 and at most the number of draws.
      num_samples: draws of q(z|x) per example, at least 1.
      batch_size: examples that are encoded together, at least 1; it does not change the
        draws.

    Returns:
      The VAE of `with_mixture_prior`, and parameters for it: those given, and the
      fitted ones of the prior.

    Raises:
      ValueError: a number is not a positive integer, there are fewer draws than
        components, or a draw is not finite.
      TypeError: the parameters are no dict or have a "prior" already, or a latent is
        not one array.
      ImportError: scikit-learn is not installed.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.priors import fit_mixture_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> xs = jnp.eye(3)[jnp.arange(30) % 3]
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> fitted_vae, fitted = fit_mixture_prior(
      ...     vae, params, jax.random.key(1), xs, num_components=3
      ... )
      >>> fitted_vae.prior(fitted).responsibilities(jnp.zeros(2)).shape
      (3,)

    Source: Ghosh et al. 2020 (from variational to deterministic autoencoders), section
    4, where covariances are full.
    """
    check_model(vae, params)
    check_key(key)
    check_count("num_components", num_components)
    check_count("num_samples", num_samples)
    check_count("batch_size", batch_size)
    check_batch(xs)
    _check_without_prior("fit_mixture_prior", params)
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError(
            "fit_mixture_prior needs scikit-learn: pip install 'vaejax[analysis]'."
        ) from error
    draws_key, start_key = jax.random.split(key)
    zs = run(_draws, (vae, num_samples, batch_size), params, draws_key, xs)
    zs = _checked_draws(zs, num_components)
    seed = int(jax.random.randint(start_key, (), 0, 2**31 - 1))
    mixture = GaussianMixture(num_components, covariance_type="diag", random_state=seed)
    own = mixture_parameters(mixture.fit(zs.reshape(len(zs), -1)))
    for name in ("means", "log_variances"):
        own[name] = own[name].reshape(num_components, *zs.shape[1:])
    return with_mixture_prior(vae, num_components), params | {"prior": own}


def _check_without_prior(name: str, params: Params) -> None:
    if not isinstance(params, dict) or "prior" in params:
        names = sorted(params) if isinstance(params, dict) else "no names"
        raise TypeError(
            f"{name}: the parameters are {described(params)} with {names}; give a VAE "
            "whose parameters are a dict without 'prior'."
        )


def _draws(
    vae: VAE, num_samples: int, batch_size: int, params: Params, key: Key, xs: PyTree
) -> PyTree:
    """Return draws of q(z|x) `[num, num_samples, *z]`."""

    def of_example(example: tuple[Key, PyTree]) -> PyTree:
        key, x = example
        posterior = vae.encode(params, x)
        keys = jax.random.split(key, num_samples)
        return jax.vmap(lambda key: draw(key, posterior))(keys)

    keys = jax.random.split(key, batch_size_of(xs))
    return jax.lax.map(of_example, (keys, xs), batch_size=batch_size)


def _checked_draws(zs: Any, num_components: int) -> np.ndarray:
    """Return draws `[num, *z]` on the host, or raise where no mixture fits them."""
    if not isinstance(zs, Array):
        raise TypeError(
            f"fit_mixture_prior: a latent is {described(zs)}; give a VAE over one "
            "array."
        )
    zs = np.asarray(zs, np.float64).reshape(-1, *zs.shape[2:])
    if len(zs) < num_components:
        raise ValueError(
            f"fit_mixture_prior: there are {len(zs)} draws for {num_components} "
            "components; give more examples or num_samples."
        )
    if not np.all(np.isfinite(zs)):
        raise ValueError(
            "fit_mixture_prior: a draw of q(z|x) is not finite; give finite examples "
            "and parameters."
        )
    return zs
