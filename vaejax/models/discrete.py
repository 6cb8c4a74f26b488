"""VAEs of binary and categorical latents.

Binary latents are trained by the objectives of `vaejax.objectives` that differentiate
log q(z|x), relaxed categorical ones by `negative_elbo`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from vaejax._checks import (
    check_arrays,
    check_count,
    check_in_range,
    check_parameters,
    part_of,
)
from vaejax.base import (
    VAE,
    Array,
    Example,
    HeadLike,
    Key,
    NetworkLike,
    Params,
)
from vaejax.distributions import (
    Bernoulli,
    OneHotCategorical,
    RelaxedCategorical,
    as_head,
)
from vaejax.models._assembly import LatentPart, assembled, in_dtype, in_dtype_of
from vaejax.networks import MLP, Network, as_network, compose_networks


def bernoulli_vae(
    *,
    latent_size: int,
    encoder: NetworkLike,
    decoder: NetworkLike,
    likelihood: HeadLike = Bernoulli,
) -> VAE:
    """Build the VAE of binary latents: p(z) uniform on {0, 1}^latent_size.

    q(z|x) is a Bernoulli for each dimension. A draw has no gradient: train it with
    `vaejax.objectives.negative_disarm`, `negative_reinforce` or `negative_vimco`.

    Args:
      latent_size: the number of dimensions of z, at least 1.
      encoder: a network from x to features of any shape; one linear layer, added here,
        makes the logits of q(z|x) of them.
      decoder: a network from z `[latent_size]` to the arrays that the likelihood needs,
        as in `gaussian_vae`.
      likelihood: the head of p(x|z), or a distribution class that carries one.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" and "likelihood".
      Its `init` raises ValueError where the decoder's output does not fit x.

    Raises:
      ValueError: `latent_size` is not a positive integer.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.bernoulli_vae(
      ...     latent_size=5, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> vae.encode(params, jnp.ones(3)).mean.shape
      (5,)

    Source: Mnih & Gregor 2014, section 2; the uniform prior: Dong et al. 2020, section
    5.
    """
    check_count("latent_size", latent_size)
    logits = compose_networks(as_network(encoder), as_network(MLP((), (latent_size,))))

    def prior(params: Params) -> Bernoulli:
        check_parameters(params)
        return Bernoulli(jnp.zeros((latent_size,)))

    return _discrete_vae(
        (latent_size,),
        logits,
        lambda params, logits: Bernoulli(logits),
        prior,
        decoder,
        likelihood,
    )


def categorical_vae(
    num_variables: int,
    num_classes: int,
    *,
    encoder: NetworkLike,
    decoder: NetworkLike,
    likelihood: HeadLike = Bernoulli,
    temperature: float | Array | None = 1.0,
    straight_through: bool = False,
) -> VAE:
    """Build the VAE of categorical latents, relaxed (Gumbel-softmax) or one-hot.

    z is `[num_variables, num_classes]`, with a uniform prior. With a temperature both
    q(z|x) and p(z) are `RelaxedCategorical`, which `negative_elbo` differentiates:
    with `kl_fn=kl_of_categoricals` as Jang et al. 2017 do, or with `kl_monte_carlo`,
    for a bound on the log-density of the relaxed model. Without one they are
    `OneHotCategorical`, the model that is evaluated, of the same parameters.

    A schedule of the temperature is an argument of the objective, which builds the VAE
    inside: `lambda params, key, x, temperature: negative_elbo(family(temperature),
    params, key, x, kl_fn=kl_of_categoricals)`, with `schedules={"temperature": ...}`
    of `make_train_step`.

    Args:
      num_variables: the number of variables, at least 1.
      num_classes: the number of classes of each, at least 2.
      encoder: a network from x to features of any shape; one linear layer, added here,
        makes the logits of q(z|x) of them.
      decoder: a network from z `[num_variables, num_classes]` to the arrays that the
        likelihood needs, as in `gaussian_vae`.
      likelihood: the head of p(x|z), or a distribution class that carries one.
      temperature: the temperature of the relaxation, above 0; may be traced. None for
        one-hot draws without a gradient.
      straight_through: whether relaxed draws are one-hot, with the gradient of the
        relaxation.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" and "likelihood", the
      same for every temperature.

    Raises:
      ValueError: a count or the temperature is out of range.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.categorical_vae(
      ...     4, 3, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (5,))
      ... )
      >>> x = jnp.ones(5)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.negative_elbo(
      ...     vae,
      ...     params,
      ...     jax.random.key(1),
      ...     x,
      ...     kl_fn=vaejax.objectives.kl_of_categoricals,
      ... )
      >>> loss.shape, terms.kl_terms.shape
      ((), (4,))

    Source: Jang et al. 2017, section 3; Maddison et al. 2017, section 5.
    """
    check_count("num_variables", num_variables)
    check_count("num_classes", num_classes)
    if num_classes < 2:
        raise ValueError(
            f"categorical_vae: num_classes is {num_classes}; give at least 2."
        )
    if temperature is not None:
        check_in_range("categorical_vae: temperature", temperature, 0, open_low=True)
    shape = (num_variables, num_classes)
    logits = compose_networks(as_network(encoder), as_network(MLP((), shape)))

    def made(logits: Array) -> Any:  # a relaxation has no mean
        if temperature is None:
            return OneHotCategorical(logits)
        return RelaxedCategorical(logits, temperature, straight_through)

    def prior(params: Params) -> Any:
        check_parameters(params)
        return made(jnp.zeros(shape))

    return _discrete_vae(
        shape, logits, lambda params, logits: made(logits), prior, decoder, likelihood
    )


def _discrete_vae(
    shape: tuple[int, ...],
    encoder: Network,
    posterior: Callable[[Params, Array], Any],
    prior: Callable[[Params], Any],
    decoder: NetworkLike,
    likelihood: HeadLike,
) -> VAE:
    """Build the VAE of latents `shape` with `posterior(params, encoder's outputs)`."""

    def init(encoder_key: Key, posterior_key: Key, x: Example) -> dict[str, Params]:
        del posterior_key
        return {"encoder": encoder.init(encoder_key, in_dtype(jnp.float32, x))}

    def encode(params: Params, x: Example) -> Any:
        check_arrays("x", x)
        own = part_of(params, "encoder")
        return posterior(params, encoder.apply(own, in_dtype_of(own, x)))

    latents = LatentPart(init, encode, prior)
    return assembled(shape, latents, as_network(decoder), as_head(likelihood))
