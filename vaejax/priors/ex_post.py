"""Priors that are fitted to the posteriors of a trained model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax._checks import (
    check_batch,
    check_count,
    check_in_range,
    check_key,
    check_model,
    check_without_prior,
    described,
)
from vaejax._programs import run
from vaejax.base import VAE, Array, Key, Params, PyTree, batch_size_of, draw
from vaejax.distributions import Flow
from vaejax.networks import FlowLayers
from vaejax.priors.flow import with_flow_prior
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
    check_without_prior("fit_mixture_prior", params)
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


def fit_flow_prior(
    vae: VAE,
    params: Params,
    key: Key,
    xs: PyTree,
    layers: FlowLayers,
    *,
    num_steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
) -> tuple[VAE, Params]:
    """Fit a flow to draws of q(z) by maximum likelihood, as the prior of a model.

    It maximizes the mean of log p(z) over z ~ q(z) = 1/N sum_n q(z|x_n), with new draws
    in each step, by Adam with a cosine decay. The flow is one on the prior that the
    model had. Encoder and decoder stay as they are.

    Args:
      vae: the trained model, over z of one vector, whose parameters are a dict without
        "prior".
      params: its parameters.
      key: key of the layers' initial parameters and of the draws.
      xs: the N training examples, `[N, *x]`; their N posteriors are held at once.
      layers: layers with an inverse and without a context, such as
        `vaejax.networks.coupling_layers(latent_size)`.
      num_steps: steps of Adam, at least 1.
      batch_size: draws in each step, at least 1.
      learning_rate: the initial learning rate, positive.

    Returns:
      The VAE of `with_flow_prior`, and parameters for it: those given, and the fitted
      ones of the layers.

    Raises:
      ValueError: a number is out of its range, the layers do not fit the latents, or
        the fitted parameters are not finite.
      TypeError: the parameters are no dict or have a "prior" already, or `layers` is
        no `FlowLayers`, or a layer has no inverse.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.priors import fit_flow_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> xs = jnp.eye(3)
      >>> params = vae.init(jax.random.key(0), xs[0])
      >>> layers = vaejax.networks.coupling_layers(2)
      >>> fitted_vae, fitted = fit_flow_prior(
      ...     vae, params, jax.random.key(1), xs, layers, num_steps=2
      ... )
      >>> fitted_vae.prior(fitted).log_prob(jnp.zeros(2)).shape
      ()

    Source: Ghosh et al. 2020 (from variational to deterministic autoencoders), section
    4, with the density estimator a flow: Dinh et al. 2017, equation 2.
    """
    check_model(vae, params)
    check_key(key)
    check_batch(xs)
    check_count("num_steps", num_steps)
    check_count("batch_size", batch_size)
    check_in_range("fit_flow_prior: learning_rate", learning_rate, 0, open_low=True)
    check_without_prior("fit_flow_prior", params)
    batch_size_of(xs)
    fitted_vae = with_flow_prior(vae, layers)
    init_key, fit_key = jax.random.split(key)
    static = vae, layers, num_steps, batch_size, float(learning_rate)
    own = run(_fit_flow, static, params, layers.init(init_key), fit_key, xs)
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(own)):
        raise ValueError(
            "fit_flow_prior: a fitted parameter is not finite; give finite examples "
            "and parameters, and a smaller learning_rate."
        )
    return fitted_vae, params | {"prior": own}


def _fit_flow(
    vae: VAE,
    layers: FlowLayers,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    params: Params,
    own: Params,
    key: Key,
    xs: PyTree,
) -> Params:
    """Return the parameters of the layers that make draws of q(z) likely."""
    # By shapes alone: whether the layers fit the latents.
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    jax.eval_shape(with_flow_prior(vae, layers).init, key, x)
    posteriors = jax.lax.map(lambda x: vae.encode(params, x), xs, batch_size=1000)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(own: Params, key: Key) -> Array:
        index_key, draws_key = jax.random.split(key)
        index = jax.random.randint(index_key, (batch_size,), 0, batch_size_of(xs))
        chosen = jax.tree.map(lambda leaf: leaf[index], posteriors)
        zs = jax.vmap(draw)(jax.random.split(draws_key, batch_size), chosen)
        prior = Flow(vae.prior(params), layers.apply(own, None))
        return -jnp.mean(jax.vmap(prior.log_prob)(zs))

    def step(carry: tuple[Params, Any], key: Key) -> tuple[tuple[Params, Any], None]:
        own, optimizer_state = carry
        gradient = jax.grad(loss)(own, key)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, own)
        return (optax.apply_updates(own, updates), optimizer_state), None

    start = own, optimizer.init(own)
    return jax.lax.scan(step, start, jax.random.split(key, num_steps))[0][0]


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
