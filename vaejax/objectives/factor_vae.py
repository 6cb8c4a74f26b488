"""FactorVAE: a discriminator that is trained together with a VAE, in one loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    as_numbers,
    check_key,
    check_model,
    check_parameters,
    check_weights,
    described,
    part_of,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    KlFn,
    LossFn,
    NetworkLike,
    Params,
    PyTree,
)
from vaejax.networks import Network, as_network
from vaejax.objectives._batch_draws import draw_batch, mean_elbo_terms
from vaejax.objectives._numbers import weighted
from vaejax.objectives.kl_estimators import kl_closed_form


class DiscriminatorTerms(NamedTuple):
    """Terms of the FactorVAE loss: batch means, scalars.

    Attributes:
      log_likelihood: E log p(x|z), in nats.
      kl: E KL(q(z|x) || p(z)), in nats.
      total_correlation: E_q(z)[logit], the discriminator's estimate of
        KL(q(z) || prod_j q(z_j)), in nats.
      discriminator_loss: cross-entropy of the discriminator in nats; log 2 where it
        cannot distinguish the two densities.
      discriminator_accuracy: share of correct decisions, the mean over the two
        densities.

    Example:
      >>> from vaejax.objectives import DiscriminatorTerms
      >>> terms = DiscriminatorTerms(
      ...     -80.0,
      ...     8.5,
      ...     total_correlation=0.5,
      ...     discriminator_loss=0.6,
      ...     discriminator_accuracy=0.7,
      ... )
      >>> terms.kl + 35 * terms.total_correlation - terms.log_likelihood
      106.0
    """

    log_likelihood: Array
    kl: Array
    total_correlation: Array
    discriminator_loss: Array
    discriminator_accuracy: Array


def with_discriminator(vae: VAE, discriminator: NetworkLike) -> VAE:
    """Return the VAE with the parameters of a discriminator beside its own.

    The parameters become `{"vae": ..., "discriminator": ...}`. The VAE encodes and
    decodes as before; the discriminator serves `factor_vae_loss`. Apply this modifier
    after all others.

    Args:
      vae: the model; its z must be one vector.
      discriminator: network of one z; it returns one number, the logit log D / (1 - D).

    Returns:
      The VAE.

    Raises:
      ValueError: at `init`, z is not a vector, or the output has another size.
      TypeError: `discriminator` is not a network.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> vae = vaejax.objectives.with_discriminator(vae, vaejax.MLP((8,), (1,)))
      >>> sorted(vae.init(jax.random.key(0), jnp.ones(3)))
      ['discriminator', 'vae']
    """
    check_model(vae, None)
    network = as_network(discriminator)

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        vae_key, discriminator_key = jax.random.split(key)
        params = {"vae": vae.init(vae_key, x)}
        z, _ = jax.eval_shape(
            lambda params, key: sample_and_log_prob_of(encode(params, x), key),
            params,
            key,
        )
        _check_vector(z)
        params["discriminator"] = network.init(
            discriminator_key, jnp.zeros(z.shape, z.dtype)
        )
        _check_logit(jax.eval_shape(network.apply, params["discriminator"], z))
        return params

    def encode(params: Params, x: Example) -> Distribution:
        return vae.encode(part_of(params, "vae"), x)

    return VAE(
        init,
        encode,
        lambda params: vae.prior(part_of(params, "vae")),
        lambda params, z: vae.decode(part_of(params, "vae"), z),
    )


def _check_vector(z: PyTree) -> None:
    if jax.tree.structure(z).num_nodes != 1 or z.ndim != 1:
        raise ValueError(
            f"with_discriminator: z is {z}; its dimensions are permuted, so it must be "
            "one vector."
        )


def _check_logit(output: jax.ShapeDtypeStruct) -> None:
    if output.size != 1:
        raise ValueError(
            f"with_discriminator: the discriminator puts out {output.shape}; give one "
            "logit, as MLP(sizes, (1,))."
        )


def permute_dimensions(key: Key, zs: Array) -> Array:
    """Permute each dimension of z over the samples, independently of the others.

    The results are approximately samples of prod_j q(z_j) for samples z of q(z).

    Args:
      key: decides the permutations.
      zs: `[num, latent]`, samples of q(z).

    Returns:
      `[num, latent]`; each column holds the values of the same column of `zs`.

    Raises:
      ValueError: `zs` has not two axes, or is empty.
      TypeError: `zs` holds anything but numbers, or the key is no typed key.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.objectives import permute_dimensions
      >>> zs = jnp.arange(6.0).reshape(3, 2)
      >>> permuted = permute_dimensions(jax.random.key(0), zs)
      >>> bool(jnp.array_equal(jnp.sort(permuted, axis=0), zs))
      True

    Source: Kim & Mnih 2018, algorithm 1.
    """
    check_key(key)
    zs = jnp.asarray(as_numbers("permute_dimensions: zs", zs))
    if zs.ndim != 2 or not zs.size:
        raise ValueError(
            f"permute_dimensions: zs has shape {zs.shape}; give [num, latent]."
        )
    return jax.random.permutation(key, zs, axis=0, independent=True)


def factor_vae_loss(
    vae: VAE, discriminator: NetworkLike, *, kl_fn: KlFn = kl_closed_form
) -> LossFn:
    """Return the FactorVAE loss of a batch, which also trains a discriminator.

    beta KL - E log p(x|z) + gamma E_q(z)[log D(z) / (1 - D(z))], in nats, with a
    discriminator D between q(z) and prod_j q(z_j). For the optimal D the last term is
    gamma times the total correlation. With gamma = 0 the loss is `mean_over_batch` of
    the negative ELBO, draw for draw.

    D learns from the z of the first half of the batch and from those of the second half
    with permuted dimensions. Its cross-entropy is added with the value zero, and
    gradients are stopped so that each part has the gradient of its own loss. One step
    updates both from the same parameters, where the paper alternates. Give each its
    optimizer, as the paper does::

      optax.partition(
          {
              "vae": optax.adam(1e-4),
              "discriminator": optax.adam(1e-4, b1=0.5, b2=0.9),
          },
          {"vae": "vae", "discriminator": "discriminator"},
      )

    Args:
      vae: a model made by `with_discriminator(vae, discriminator)`.
      discriminator: the same network.
      kl_fn: estimator of the KL term.

    Returns:
      `loss_fn(params, key, batch, *, gamma=35.0, beta=1.0) -> (loss,
      DiscriminatorTerms)` for a batch of at least four examples; both weights are at
      least 0 and may be traced.

    Raises:
      ValueError: when the loss is called, the batch has fewer than four examples, or a
        weight is negative or not finite.
      TypeError: when the loss is called, the parameters are not those of
        `with_discriminator`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> discriminator = vaejax.MLP((8,), (1,))
      >>> vae = vaejax.objectives.with_discriminator(vae, discriminator)
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.objectives.factor_vae_loss(vae, discriminator)
      >>> loss, terms = loss_fn(params, jax.random.key(1), batch)
      >>> loss.shape, terms.total_correlation.shape
      ((), ())

    Source: Kim & Mnih 2018, equations 2 and 3 and algorithm 2.
    """
    check_model(vae, None)
    network = as_network(discriminator)

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        gamma: float | Array = 35.0,
        beta: float | Array = 1.0,
    ) -> tuple[Array, DiscriminatorTerms]:
        check_weights("factor_vae_loss", gamma=gamma, beta=beta)
        _check_discriminator(params)
        draws = draw_batch(vae, params, key, batch)
        num = len(draws.log_posterior)
        if num < 4:
            raise ValueError(
                f"factor_vae_loss: the batch has {num} example(s); give four, to "
                "permute half of them."
            )
        elbo = mean_elbo_terms(draws, vae.prior(params), kl_fn)
        total_correlation = jnp.mean(
            _logits(network, jax.lax.stop_gradient(params["discriminator"]), draws.z)
        )
        # The key after those of the examples, 0 to num - 1.
        permutation_key = jax.random.fold_in(key, num)
        cross_entropy, accuracy = _discriminate(
            network,
            params["discriminator"],
            permutation_key,
            jax.lax.stop_gradient(draws.z),
        )
        loss = weighted(beta, elbo.kl) + gamma * total_correlation - elbo.log_likelihood
        terms = DiscriminatorTerms(
            elbo.log_likelihood, elbo.kl, total_correlation, cross_entropy, accuracy
        )
        return loss + (cross_entropy - jax.lax.stop_gradient(cross_entropy)), terms

    return loss_fn


def _check_discriminator(params: Params) -> None:
    check_parameters(params)
    if not isinstance(params, dict) or "discriminator" not in params:
        raise TypeError(
            f"factor_vae_loss: params is {described(params)} without a discriminator; "
            "give those of with_discriminator(vae, discriminator)."
        )


def _logits(network: Network, params: Params, zs: Array) -> Array:
    logits = jax.vmap(lambda z: jnp.reshape(network.apply(params, z), ()))(zs)
    return at_least_single(logits)


def _discriminate(
    network: Network, params: Params, key: Key, zs: Array
) -> tuple[Array, Array]:
    """Return cross-entropy and accuracy: q(z) against prod_j q(z_j)."""
    half = len(zs) // 2
    joint = _logits(network, params, zs[:half])
    product = _logits(network, params, permute_dimensions(key, zs[half:]))
    cross_entropy = (
        jnp.mean(jax.nn.softplus(-joint)) + jnp.mean(jax.nn.softplus(product))
    ) / 2
    return cross_entropy, (jnp.mean(joint > 0) + jnp.mean(product <= 0)) / 2
