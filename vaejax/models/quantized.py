"""VAEs whose latents are vectors of a codebook (VQ-VAE) or of finite levels (FSQ)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vaejax._checks import (
    check_batch,
    check_count,
    check_in_range,
    check_key,
    check_model,
    check_parameters,
    part_of,
    require,
)
from vaejax.base import (
    VAE,
    Example,
    HeadLike,
    Key,
    NetworkLike,
    Params,
    PyTree,
)
from vaejax.distributions import (
    Bernoulli,
    Categorical,
    Codebook,
    CodeVectors,
    FiniteScalars,
    Quantized,
)
from vaejax.models._assembly import in_dtype
from vaejax.models.discrete import _discrete_vae
from vaejax.networks import as_network


def vq_vae(
    *,
    num_codes: int,
    latent_shape: Sequence[int],
    encoder: NetworkLike,
    decoder: NetworkLike,
    likelihood: HeadLike = Bernoulli,
) -> VAE:
    """Build the VQ-VAE: each position of the latent is a vector of a learned codebook.

    Its posterior has no noise, and its prior is uniform over the codes until
    `with_autoregressive_prior` gives it another. Train it with `negative_elbo`,
    `kl_fn=vaejax.objectives.vector_quantization_terms` and the optimizer of
    `codebook_optimizer`, under which the codebook is a moving average of the features
    assigned to each code. `revive_codes` gives codes that are never used a new start.

    Args:
      num_codes: the number of vectors in the codebook, at least 2.
      latent_shape: the shape of z, `(*positions, size)`.
      encoder: a network from x to features `[*latent_shape]`.
      decoder: a network from z `[*latent_shape]` to the arrays that the likelihood
        needs, as in `gaussian_vae`.
      likelihood: the head of p(x|z), or a distribution class that carries one.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder", "likelihood" and
      "codebook", whose vectors start as draws of N(0, I). Its `init` raises ValueError
      where an output does not fit.

    Raises:
      ValueError: a count is out of range, or `latent_shape` has less than two axes.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.vq_vae(
      ...     num_codes=8,
      ...     latent_shape=(4, 2),
      ...     encoder=vaejax.MLP((8,), (4, 2)),
      ...     decoder=vaejax.MLP((8,), (5,)),
      ... )
      >>> x = jnp.ones(5)
      >>> params = vae.init(jax.random.key(0), x)
      >>> vae.encode(params, x).indices.shape
      (4,)
      >>> vae.decode(params, vae.prior(params).sample(jax.random.key(1))).logits.shape
      (5,)

    Source: van den Oord et al. 2017, section 3 and appendix A.1.
    """
    check_count("num_codes", num_codes)
    if num_codes < 2:
        raise ValueError(f"vq_vae: num_codes is {num_codes}; give at least 2.")
    shape = _latent_shape("vq_vae", latent_shape)
    num_positions = math.prod(shape[:-1])

    def quantizer(params: Params) -> Codebook:
        return Codebook(**part_of(params, "codebook"))

    vae = _quantized_vae("vq_vae", shape, quantizer, encoder, decoder, likelihood)

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        params_key, codebook_key = jax.random.split(key)
        # As if each code had been used alike.
        count = num_positions / num_codes
        vectors = jax.random.normal(codebook_key, (num_codes, shape[-1]))
        counts = jnp.full(num_codes, count, jnp.float32)
        codebook = {"count": counts, "sum": count * vectors}
        return vae.init(params_key, x) | {"codebook": codebook}

    return vae._replace(init=init)


def fsq_vae(
    *,
    levels: Sequence[int],
    positions: Sequence[int],
    encoder: NetworkLike,
    decoder: NetworkLike,
    likelihood: HeadLike = Bernoulli,
) -> VAE:
    """Build the VAE of finite scalar quantization (FSQ), without a learned codebook.

    Its posterior has no noise, and its prior is uniform over the prod(levels) codes of
    each position until `with_autoregressive_prior` gives it another. Train it with
    `negative_elbo` and `kl_fn=kl_monte_carlo`: the KL is the length of the code.

    Args:
      levels: the number of levels of each dimension, each at least 2; 5 or more work
        best.
      positions: the shape of the codes; z is `[*positions, len(levels)]`.
      encoder: a network from x to features of the shape of z.
      decoder: a network from z to the arrays that the likelihood needs, as in
        `gaussian_vae`.
      likelihood: the head of p(x|z), or a distribution class that carries one.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" and "likelihood". Its
      `init` raises ValueError where an output does not fit.

    Raises:
      ValueError: a number of levels or positions is out of range.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.fsq_vae(
      ...     levels=(5, 5),
      ...     positions=(4,),
      ...     encoder=vaejax.MLP((8,), (4, 2)),
      ...     decoder=vaejax.MLP((8,), (3,)),
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.negative_elbo(
      ...     vae, params, jax.random.key(1), x, kl_fn=vaejax.kl_monte_carlo
      ... )
      >>> round(float(terms.kl), 3)  # 4 log(25)
      12.876

    Source: Mentzer et al. 2024, section 3.1.
    """
    shape = _latent_shape("fsq_vae", (*positions, len(levels)))
    for level in levels:
        check_count("fsq_vae: levels", level)
        if level < 2:
            raise ValueError(f"fsq_vae: levels is {tuple(levels)}; give at least 2.")
    quantizer = FiniteScalars(tuple(levels))
    return _quantized_vae(
        "fsq_vae", shape, lambda params: quantizer, encoder, decoder, likelihood
    )


def codebook_optimizer(
    optimizer: optax.GradientTransformation, *, decay: float = 0.99
) -> optax.GradientTransformation:
    """Return an optimizer that leaves the codebook of a `vq_vae` to its moving average.

    Its "codebook" takes steps of gradient descent at rate 1 - decay, which with the
    gradient of `vaejax.objectives.vector_quantization_terms` are a moving average over
    about 1 / (1 - decay) batches; all else takes the steps of the given optimizer.

    Args:
      optimizer: the optimizer of everything else, with its clipping and schedule.
      decay: the weight of the past in the average, in [0, 1).

    Returns:
      An optimizer of parameters that are a dict.

    Raises:
      ValueError: the decay is out of range.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from vaejax.models import codebook_optimizer
      >>> optimizer = codebook_optimizer(optax.sgd(1.0), decay=0.75)
      >>> params = {"codebook": jnp.ones(2), "decoder": jnp.ones(2)}
      >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
      >>> updates["codebook"].tolist(), updates["decoder"].tolist()
      ([-0.25, -0.25], [-1.0, -1.0])

    Source: van den Oord et al. 2017, appendix A.1.
    """
    check_in_range("codebook_optimizer: decay", decay, 0, 1, open_high=True)

    def labels(params: Params) -> PyTree:
        return {
            name: jax.tree.map(lambda leaf, name=name: name == "codebook", part)
            for name, part in params.items()
        }

    return optax.partition({True: optax.sgd(1 - decay), False: optimizer}, labels)


def revive_codes(
    vae: VAE, params: Params, key: Key, xs: Example, *, minimum: float = 0.1
) -> Params:
    """Return parameters of a `vq_vae` whose dead codes start again at features of data.

    A code is dead where it is used less than `minimum` times as often as the average
    code. Its vector becomes that of a random feature of the examples, and its count
    the average, so that it has time to be used. Call it every few hundred steps.

    Args:
      vae: a VAE of `vq_vae`.
      params: its parameters.
      key: decides which features are taken.
      xs: examples, `[num, *x]`, such as a batch.
      minimum: the share of the average count, from 0 to 1.

    Returns:
      The parameters, of which only those of dead codes are changed.

    Raises:
      ValueError: `minimum` is out of range.
      TypeError: the parameters have no codebook.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.vq_vae(
      ...     num_codes=2,
      ...     latent_shape=(4, 1),
      ...     encoder=vaejax.MLP((), (4, 1)),
      ...     decoder=vaejax.MLP((), (3,)),
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> params["codebook"]["count"] = jnp.array([4.0, 0.0])
      >>> xs = jnp.ones((8, 3))
      >>> revived = vaejax.models.revive_codes(vae, params, jax.random.key(1), xs)
      >>> revived["codebook"]["count"].tolist()
      [4.0, 2.0]

    Source: Dhariwal et al. 2020 (Jukebox), section 3.3 (random restarts).
    """
    check_model(vae, params)
    check_key(key)
    check_in_range("revive_codes: minimum", minimum, 0, 1)
    check_batch(xs)
    codebook = part_of(params, "codebook")
    features = jax.vmap(lambda x: require(vae.encode(params, x), "features"))(xs)
    features = features.reshape(-1, features.shape[-1])
    count, total = codebook["count"], codebook["sum"]
    usual = jnp.mean(count)
    is_dead = count < minimum * usual
    chosen = jax.random.randint(key, count.shape, 0, len(features))
    revived = {
        "count": jnp.where(is_dead, usual, count),
        "sum": jnp.where(
            is_dead[:, None], usual * features[chosen].astype(total.dtype), total
        ),
    }
    return params | {"codebook": revived}


def _latent_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    for size in sizes:
        check_count(f"{name}: each size of a latent", size)
    if len(sizes) < 2:
        raise ValueError(
            f"{name}: the latent has shape {shape}; give (*positions, size)."
        )
    return sizes


def _quantized_vae(
    name: str,
    shape: tuple[int, ...],
    quantizer: Callable[[Params], Any],
    encoder: NetworkLike,
    decoder: NetworkLike,
    likelihood: HeadLike,
) -> VAE:
    network = as_network(encoder)

    def prior(params: Params) -> Any:
        check_parameters(params)
        found = quantizer(params)
        uniform = Categorical(jnp.zeros((math.prod(shape[:-1]), found.num_codes)))
        return CodeVectors(uniform, found, shape)

    vae = _discrete_vae(
        shape,
        network,
        lambda params, features: Quantized(features, quantizer(params)),
        prior,
        decoder,
        likelihood,
    )

    def init(key: Key, x: Example) -> Params:
        params = vae.init(key, x)
        features = jax.eval_shape(
            network.apply, params["encoder"], in_dtype(jnp.float32, x)
        )
        if features.shape != shape:
            raise ValueError(
                f"{name}: the encoder outputs {features.shape} and the latent has "
                f"shape {shape}; give an encoder that outputs that shape."
            )
        return params

    return vae._replace(init=init)
