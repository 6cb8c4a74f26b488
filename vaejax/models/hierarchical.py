"""VAEs whose latent has several levels, z = (z_1, ..., z_L), z_1 nearest to x.

All of them have p(z) = p(z_L) p(z_(L-1)|z_L) ... p(z_1|z_2), and differ in how the
posterior passes through the levels. A latent is `Latents`: its `values` are the tuple
of levels, from the bottom, and its path holds what one level made of another.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_arrays, part_of
from vaejax.base import VAE, Array, Example, HeadLike, Key, NetworkLike, Params
from vaejax.distributions import Bernoulli
from vaejax.models.level_networks import (
    check_levels,
    level_network,
    make_descent,
    split_key,
    zeros,
    zeros_like,
)
from vaejax.models.levels import (
    BottomUpPosterior,
    Conditional,
    TopDownPosterior,
    product_with_prior,
)


def hierarchical_vae(
    *,
    latent_sizes: Sequence[int],
    encoders: Sequence[NetworkLike],
    decoders: Sequence[NetworkLike],
    likelihood: HeadLike = Bernoulli,
    posterior: HeadLike | None = None,
    prior: HeadLike | None = None,
) -> VAE:
    """Build the VAE of L levels whose posterior climbs from x, one level after another.

    q(z|x) = q(z_1|x) q(z_2|z_1) ... q(z_L|z_(L-1)), p(z) = p(z_L) p(z_(L-1)|z_L) ...
    p(z_1|z_2) with p(z_L) = N(0, I), and p(x|z_1). A level with much noise passes
    little on, so that high levels often stay unused: `ladder_vae` has the same p(x, z)
    and another posterior.

    Args:
      latent_sizes: the dimensions of z_1, ..., z_L, from the level nearest to x; L is
        at least 1.
      encoders: a network per level: of x for q(z_1|x), and of z_(l-1) for
        q(z_l|z_(l-1)), to features of any shape. One linear layer, added here, makes
        the parameters of them.
      decoders: a network per level: of z_1 to the arrays that the likelihood needs, as
        in `gaussian_vae`, and of z_l to features of p(z_(l-1)|z_l).
      likelihood: the head of p(x|z), or a distribution class that carries one.
      posterior: the head of each level of q(z|x), by default `normal_head()`.
      prior: the head of each p(z_l|z_(l+1)), by default `normal_head()`.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" (a tuple each, from
      the bottom) and "likelihood". Its KL is estimated by `kl_per_level` or
      `kl_monte_carlo`. Its `init` raises ValueError where a decoder does not fit.

    Raises:
      ValueError: a latent size is not a positive integer, or there is not one encoder
        and one decoder per level.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.hierarchical_vae(
      ...     latent_sizes=(4, 3, 2),
      ...     encoders=(vaejax.MLP((16,)), vaejax.MLP((8,)), vaejax.MLP((8,))),
      ...     decoders=(vaejax.MLP((16,), (5,)), vaejax.MLP((8,)), vaejax.MLP((8,))),
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(5))
      >>> z = vae.prior(params).sample(jax.random.key(1))
      >>> [level.shape for level in z.values], vae.decode(params, z).mean.shape
      ([(4,), (3,), (2,)], (5,))

    Source: Burda et al. 2016, equations 1 and 2; Sonderby et al. 2016, section 2.
    """
    sizes = check_levels("hierarchical_vae", latent_sizes, encoders, decoders)
    descent = make_descent(sizes, decoders, likelihood, prior)
    levels = [
        level_network(encoder, size, posterior)
        for encoder, size in zip(encoders, sizes, strict=True)
    ]

    def init(key: Key, x: Example) -> Params:
        encoder_key, decoder_key = split_key(key, x)
        keys = jax.random.split(encoder_key, len(levels))
        inputs = (x, *zeros(sizes[:-1]))
        own = (
            level.init(*each) for level, *each in zip(levels, keys, inputs, strict=True)
        )
        return {"encoder": tuple(own)} | descent.init(decoder_key, x)

    def encode(params: Params, x: Example) -> Any:
        check_arrays("x", x)
        own = part_of(params, "encoder")
        above = (level.given(part) for level, part in zip(levels, own, strict=True))
        return BottomUpPosterior(
            levels[0].apply(own[0], x), tuple(above)[1:], descent.conditionals(params)
        )

    return VAE(init, encode, descent.prior, descent.decode)


def two_layer_vae(
    *,
    latent_sizes: Sequence[int],
    encoders: Sequence[NetworkLike],
    decoders: Sequence[NetworkLike],
    likelihood: HeadLike = Bernoulli,
    posterior: HeadLike | None = None,
    prior: HeadLike | None = None,
    top_down: bool = False,
) -> VAE:
    """Build the VAE of two levels of the IWAE paper, or that of the VampPrior paper.

    p(z_2) = N(0, I) and p(z_1|z_2) in both. By default q(z_1|x) q(z_2|z_1) and
    p(x|z_1), as in the IWAE paper: `hierarchical_vae` of two levels. With `top_down`,
    q(z_2|x) q(z_1|x, z_2) and p(x|z_1, z_2), as in the VampPrior paper.

    Args:
      latent_sizes: the dimensions of z_1 and z_2, z_1 nearest to x.
      encoders: two networks to features of any shape: of x and of z_1. With `top_down`,
        of the tuple (x, z_2), which `networks.merged_network` reads, and of x.
      decoders: two networks: of z_1 to the arrays that the likelihood needs, and of z_2
        to features. With `top_down` the first one is of the tuple (z_1, z_2).
      likelihood: the head of p(x|z), or a distribution class that carries one.
      posterior: the head of both levels of q(z|x), by default `normal_head()`.
      prior: the head of p(z_1|z_2), by default `normal_head()`.
      top_down: whether z_2 is inferred first, from x, and decoded too.

    Returns:
      A VAE, as `hierarchical_vae` returns it.

    Raises:
      ValueError: there are not two latent sizes, encoders and decoders, or a latent
        size is not a positive integer.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.networks import compose_networks, merged_network
      >>> def of_two(joint):
      ...     each = merged_network((vaejax.MLP((16,)), vaejax.MLP((8,))))
      ...     return compose_networks(each, joint)
      >>> vae = vaejax.models.two_layer_vae(
      ...     latent_sizes=(4, 2),
      ...     encoders=(of_two(vaejax.MLP((16,))), vaejax.MLP((16,))),
      ...     decoders=(of_two(vaejax.MLP((16,), (5,))), vaejax.MLP((8,))),
      ...     top_down=True,
      ... )
      >>> x = jnp.ones(5)
      >>> params = vae.init(jax.random.key(0), x)
      >>> kl_fn = vaejax.objectives.kl_per_level
      >>> _, terms = vaejax.negative_elbo(
      ...     vae, params, jax.random.key(1), x, kl_fn=kl_fn
      ... )
      >>> terms.kl_terms.shape
      (2,)

    Source: Burda et al. 2016, section 5; Tomczak & Welling 2018, section 5.
    """
    sizes = check_levels("two_layer_vae", latent_sizes, encoders, decoders)
    if len(sizes) != 2:
        raise ValueError(
            f"two_layer_vae: there are {len(sizes)} latent_sizes; give two, or build a "
            "hierarchical_vae or ladder_vae."
        )
    if not top_down:
        return hierarchical_vae(
            latent_sizes=sizes,
            encoders=encoders,
            decoders=decoders,
            likelihood=likelihood,
            posterior=posterior,
            prior=prior,
        )
    descent = make_descent(sizes, decoders, likelihood, prior, decode_all=True)
    bottom, top = (
        level_network(encoder, size, posterior)
        for encoder, size in zip(encoders, sizes, strict=True)
    )

    def init(key: Key, x: Example) -> Params:
        encoder_key, decoder_key = split_key(key, x)
        bottom_key, top_key = jax.random.split(encoder_key)
        both = x, jnp.zeros((sizes[1],))
        own = bottom.init(bottom_key, both), top.init(top_key, x)
        return {"encoder": own} | descent.init(decoder_key, x)

    def encode(params: Params, x: Example) -> Any:
        check_arrays("x", x)
        own = part_of(params, "encoder")
        return TopDownPosterior(
            top.apply(own[1], x),
            (Conditional(given_both, own[0], x),),
            descent.conditionals(params),
        )

    def given_both(params: Params, x: Example, above: Array, prior: Any) -> Any:
        del prior
        return bottom.apply(params, (x, above))

    return VAE(init, encode, descent.prior, descent.decode)


def ladder_vae(
    *,
    latent_sizes: Sequence[int],
    encoders: Sequence[NetworkLike],
    decoders: Sequence[NetworkLike],
    likelihood: HeadLike = Bernoulli,
    posterior: HeadLike | None = None,
    prior: HeadLike | None = None,
) -> VAE:
    """Build the ladder VAE of L levels, whose posterior corrects the prior on its way.

    A deterministic pass climbs from x, d_l = encoder_l(d_(l-1)) with d_0 = x, and makes
    a Normal N_l of each d_l. Then q(z_L|x) = N_L, and on the way down q(z_l|z_(l+1), x)
    is the normalized product of N_l and the prior p(z_l|z_(l+1)), whose precisions add.
    The prior p(z_L) = N(0, I), p(z_l|z_(l+1)) is learned, and x depends on z_1 alone:
    p(x, z) is that of `hierarchical_vae`.

    Args:
      latent_sizes: the dimensions of z_1, ..., z_L, from the level nearest to x; L is
        at least 1.
      encoders: a network per level: of x, and of the features d_(l-1), to features d_l.
        One linear layer, added here, makes the parameters of N_l of d_l.
      decoders: a network per level: of z_1 to the arrays that the likelihood needs, as
        in `gaussian_vae`, and of z_l to features of p(z_(l-1)|z_l). For images,
        `ConvolutionalEncoder` and `ConvolutionalDecoder` come first, and `MLP`s above.
      likelihood: the head of p(x|z), or a distribution class that carries one.
      posterior: the head of each N_l, which makes a Normal; by default `normal_head()`.
      prior: the head of each p(z_l|z_(l+1)), which makes a Normal; by default
        `normal_head()`.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder" (a tuple each, from
      the bottom) and "likelihood". Its KL is that of `kl_per_level`. Its `init` raises
      ValueError where a decoder does not fit.

    Raises:
      ValueError: a latent size is not a positive integer, or there is not one encoder
        and one decoder per level.
      TypeError: an argument is not a network, or not a head.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> encoder = vaejax.ConvolutionalEncoder(channels=(2, 4))
      >>> decoder = vaejax.ConvolutionalDecoder((8, 8), channels=(4, 2))
      >>> vae = vaejax.models.ladder_vae(
      ...     latent_sizes=(8, 4, 2),
      ...     encoders=(encoder, vaejax.MLP((16,)), vaejax.MLP((8,))),
      ...     decoders=(decoder, vaejax.MLP((16,)), vaejax.MLP((8,))),
      ... )
      >>> x = jnp.ones((8, 8))
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), x)
      >>> posterior = jax.eval_shape(vae.encode, params, x)
      >>> [level.shape for level in jax.eval_shape(lambda q: q.mean, posterior).values]
      [(8,), (4,), (2,)]

    Source: Sonderby et al. 2016, section 2.1, equations 18 and 19 in the proceedings.
    """
    sizes = check_levels("ladder_vae", latent_sizes, encoders, decoders)
    descent = make_descent(sizes, decoders, likelihood, prior)
    levels = [
        level_network(encoder, size, posterior)
        for encoder, size in zip(encoders, sizes, strict=True)
    ]

    def init(key: Key, x: Example) -> Params:
        encoder_key, decoder_key = split_key(key, x)
        keys, features, own = jax.random.split(encoder_key, len(levels)), x, []
        for level, key in zip(levels, keys, strict=True):
            own.append(level.init(key, features))
            features = zeros_like(level.features, own[-1], features)
        params = {"encoder": tuple(own)} | descent.init(decoder_key, x)
        # Merges every level, which checks their heads.
        jax.eval_shape(lambda params: encode(params, x).mean, params)
        return params

    def encode(params: Params, x: Example) -> Any:
        check_arrays("x", x)
        features, normals = x, []
        for level, own in zip(levels, part_of(params, "encoder"), strict=True):
            features = level.features(own, features)
            normals.append(level.readout(own, features))
        return TopDownPosterior(
            normals[-1],
            tuple(Conditional(product_with_prior, each) for each in normals[:-1]),
            descent.conditionals(params),
        )

    return VAE(init, encode, descent.prior, descent.decode)
