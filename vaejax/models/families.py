"""Conditional VAEs: families of VAEs, one per condition, over one set of parameters.

A family is a function of the condition that returns a VAE. All that is done with a VAE
is done with `family(condition)`; `conditional` applies a function to examples that each
have a condition of their own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from vaejax._checks import (
    check_function,
    check_functions,
    check_key,
    check_parameters,
    check_without_prior,
    described,
    naming_condition,
    part_of,
)
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    NetworkLike,
    Params,
    PyTree,
)
from vaejax.distributions import normal_head
from vaejax.networks import as_network

#: `condition -> VAE`; the parameters of all are alike.
VAEFamily = Callable[[PyTree], VAE]


class Conditioned(NamedTuple):
    """Example with its condition, or a batch of both.

    Attributes:
      x: the example.
      condition: what is given with it: labels, covariates, a library size; any pytree
        of arrays.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.models import Conditioned
      >>> labels = jnp.array([0, 2, 1, 1])
      >>> batch = Conditioned(jnp.zeros((4, 28, 28)), jax.nn.one_hot(labels, 3))
      >>> batch.condition.shape
      (4, 3)
    """

    x: Example
    condition: PyTree


def conditional(function: Callable[..., Any], family: VAEFamily) -> Callable[..., Any]:
    """Return a function of examples with conditions from one of a VAE and an example.

    It is `(params, key, example, **options) -> function(family(condition), params, key,
    x, **options)` for a `Conditioned` example, so that a batch whose examples have
    conditions of their own is `jax.vmap` of it. Outside of `jax.jit` the VAE is built
    in every call, and functions that loop compile again each time.

    Args:
      function: a function `(vae, params, key, x, **options)` of one example: an
        objective, such as `negative_elbo`, or an estimator, such as `log_marginal`.
      family: a function from a condition to a VAE.

    Returns:
      The function; of an objective, one that `mean_over_batch` takes.

    Raises:
      TypeError: an argument is not a function.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import Conditioned, conditional
      >>> from vaejax.networks import with_condition
      >>> def family(label):
      ...     return vaejax.gaussian_vae(
      ...         latent_size=2,
      ...         encoder=with_condition(vaejax.MLP((8,)), label),
      ...         decoder=with_condition(vaejax.MLP((8,), (3,)), label),
      ...     )
      >>> labels = jax.nn.one_hot(jnp.array([0, 1, 1, 0]), 2)
      >>> batch = Conditioned(jnp.ones((4, 3)), labels)
      >>> params = family(labels[0]).init(jax.random.key(0), batch.x[0])
      >>> loss_fn = vaejax.mean_over_batch(conditional(vaejax.negative_elbo, family))
      >>> loss_fn(params, jax.random.key(1), batch)[0].shape
      ()

    Source: Sohn et al. 2015, equation 4.
    """
    check_function("conditional: function", function)
    check_function("conditional: family", family)

    def of_example(
        params: Params, key: Key, example: Conditioned, **options: Any
    ) -> Any:
        example = _as_conditioned("conditional", example)
        vae = family(example.condition)
        return function(vae, params, key, example.x, **options)

    return of_example


def with_network_noise(
    function: Callable[..., Any], family: Callable[[Key | None], VAE]
) -> Callable[..., Any]:
    """Return a function of examples from one of a VAE whose networks draw, as dropout.

    It is `(params, key, x, **options) -> function(family(noise_key), params, key, x,
    **options)`, with a key of the noise and one of the function from two halves of the
    key. Every example has noise of its own, and all calls of encoder and decoder for
    one example have the same. `family(None)` is the VAE without noise, for evaluation.

    Args:
      function: a function `(vae, params, key, x, **options)` of one example, such as
        `negative_elbo`.
      family: a function from a key, or None for no noise, to a VAE; its networks take
        the key by `vaejax.networks.with_noise`.

    Returns:
      The function; of an objective, one that `mean_over_batch` takes.

    Raises:
      TypeError: an argument is not a function.

    Example:
      >>> import flax.linen as nn
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import with_network_noise
      >>> from vaejax.networks import with_noise
      >>> def family(key):
      ...     dropout = nn.Dropout(0.5, deterministic=key is None)
      ...     encoder = nn.Sequential([vaejax.MLP((8,)), dropout])
      ...     return vaejax.gaussian_vae(
      ...         latent_size=2,
      ...         encoder=with_noise(encoder, key),
      ...         decoder=vaejax.MLP((8,), (3,)),
      ...     )
      >>> params = family(None).init(jax.random.key(0), jnp.ones(3))
      >>> loss_fn = vaejax.mean_over_batch(
      ...     with_network_noise(vaejax.negative_elbo, family)
      ... )
      >>> loss_fn(params, jax.random.key(1), jnp.ones((4, 3)))[0].shape
      ()

    Source: Srivastava et al. 2014 (dropout), equations 3 to 6.
    """
    check_function("with_network_noise: function", function)
    check_function("with_network_noise: family", family)

    def of_example(params: Params, key: Key, x: Example, **options: Any) -> Any:
        check_key(key)
        noise_key, function_key = jax.random.split(key)
        return function(family(noise_key), params, function_key, x, **options)

    return of_example


def with_conditional_prior(vae: VAE, network: NetworkLike, condition: Array) -> VAE:
    """Return the VAE whose prior p(z|condition) is a Normal that a network makes.

    Use it inside of a family, with its condition. Without it the prior of a conditional
    VAE is one for all conditions, and z is what the condition does not say: leave it
    out where a condition is to be changed with z held fixed.

    Args:
      vae: a VAE whose parameters are a dict, as those of `gaussian_vae`.
      network: a network from the condition to `[latent_size, 2]`, mean and log-variance
        of the prior, such as `MLP((16,), (latent_size, 2))`.
      condition: the condition, as the network takes it.

    Returns:
      The VAE. Its parameters are those of the given one and "prior". Its `init` raises
      TypeError where the parameters are no dict, or have a "prior" already.

    Raises:
      TypeError: `network` is not a network.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import with_conditional_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> prior = vaejax.MLP((8,), (2, 2))
      >>> of_class = with_conditional_prior(vae, prior, jax.nn.one_hot(1, 5))
      >>> params = of_class.init(jax.random.key(0), jnp.ones(3))
      >>> of_class.prior(params).mean.shape
      (2,)

    Source: Sohn et al. 2015, equation 4.
    """
    check_functions(vae, "init", "encode", "decode")
    prior_network, head = as_network(network), normal_head()

    def init(key: Key, x: Example) -> Params:
        vae_key, prior_key = jax.random.split(key)
        params = vae.init(vae_key, x)
        check_without_prior("with_conditional_prior", params)
        return params | {"prior": prior_network.init(prior_key, condition)}

    def prior(params: Params) -> Distribution:
        check_parameters(params)
        own = part_of(params, "prior")
        with naming_condition("with_conditional_prior", condition):
            outputs = prior_network.apply(own, condition)
        if outputs.ndim != 2 or outputs.shape[1] != 2:
            raise ValueError(
                f"with_conditional_prior: the network outputs {outputs.shape}; give "
                "one that outputs (latent_size, 2), mean and log-variance."
            )
        return head.apply((), outputs)

    return VAE(init, vae.encode, prior, vae.decode)


def _as_conditioned(name: str, example: Any) -> Conditioned:
    if not isinstance(example, Conditioned):
        raise TypeError(
            f"{name}: the example is {described(example)}; give "
            "vaejax.models.Conditioned(x, condition)."
        )
    return example
