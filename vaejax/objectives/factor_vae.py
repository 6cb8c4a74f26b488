"""A discriminator trained beside a VAE, as part of one set of parameters and of one
loss: FactorVAE.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import require
from vaejax.base import VAE, Array, Distribution, Example, Key, KlFn, Params, PyTree
from vaejax.networks.adapters import as_network
from vaejax.objectives._batch_draws import draw_batch, mean_elbo_terms
from vaejax.objectives.kl_estimators import kl_closed_form


class DiscriminatorTerms(NamedTuple):
    """Batch means in nats, and how the discriminator does.

    Attributes:
      log_likelihood, kl: the two sides of the ELBO.
      total_correlation: E_q(z)[logit], the discriminator's estimate of KL(q(z) ||
        prod_j q(z_j)).
      discriminator_loss: its cross-entropy; log 2 where it cannot tell the two apart.
      discriminator_accuracy: the mean over the two kinds.
    """

    log_likelihood: Array
    kl: Array
    total_correlation: Array
    discriminator_loss: Array
    discriminator_accuracy: Array


def with_discriminator(vae: VAE, discriminator) -> VAE:
    """The VAE whose parameters are {"vae": its own, "discriminator": those of a network
    z -> one logit}.

    It encodes and decodes as before; the discriminator is for `factor_vae_loss`. Apply
    this last, after anything else that changes the VAE.

    Args:
      vae: its z must be one vector.
      discriminator: a Linen module or an `(init, apply)` pair, of one z; its output has
        one number, log D / (1 - D).

    Raises:
      ValueError: at `init`, z is not a vector, or the output has another size.
    """
    network = as_network(discriminator)

    def init(key: Key, x: Example) -> Params:
        vae_key, discriminator_key = jax.random.split(key)
        params = {"vae": vae.init(vae_key, x)}
        z, _ = jax.eval_shape(
            lambda params, key: require(encode(params, x), "sample_and_log_prob")(key),
            params,
            key,
        )
        if jax.tree.structure(z).num_nodes != 1 or z.ndim != 1:
            raise ValueError(
                f"with_discriminator: z is {z}; its dimensions are permuted, so it "
                "must be one vector."
            )
        params["discriminator"] = network.init(
            discriminator_key, jnp.zeros(z.shape, z.dtype)
        )
        output = jax.eval_shape(network.apply, params["discriminator"], z)
        if output.size != 1:
            raise ValueError(
                f"with_discriminator: the discriminator puts out {output.shape}; give "
                "one logit, as MLP(sizes, (1,))."
            )
        return params

    def encode(params: Params, x: Example) -> Distribution:
        return vae.encode(params["vae"], x)

    return VAE(
        init,
        encode,
        lambda params: vae.prior(params["vae"]),
        lambda params, z: vae.decode(params["vae"], z),
    )


def permute_dimensions(key: Key, zs: Array) -> Array:
    """Each dimension of `[num, latent]` permuted over the samples on its own: nearly
    draws from prod_j q(z_j).

    Source: Kim & Mnih 2018, algorithm 1.
    """
    return jax.random.permutation(key, zs, axis=0, independent=True)


def factor_vae_loss(
    vae: VAE, discriminator, *, kl_fn: KlFn = kl_closed_form
) -> Callable:
    """-ELBO + gamma E_q(z)[log D(z) / (1 - D(z))], of a batch, with D trained along to
    tell q(z) from prod_j q(z_j).

    At the best D the second term is gamma times the total correlation. D learns from
    the first half of the batch's z and from the second half with its dimensions
    permuted. The loss is that of the VAE; the discriminator's cross-entropy is added
    with the value zero, and gradients are stopped so that each part sees its own loss.
    One step moves both from the same parameters, where the paper alternates. Give each
    its optimizer, as the paper does:

        optax.partition({"vae": optax.adam(1e-4), "discriminator": optax.adam(1e-4,
                        b1=0.5, b2=0.9)}, {"vae": "vae", "discriminator":
                        "discriminator"})

    Args:
      vae: made by `with_discriminator(..., discriminator)`.
      discriminator: the same network.
      kl_fn: how the KL is computed.

    Returns:
      `(params, key, batch, *, gamma=35.0, beta=1.0) -> (loss, DiscriminatorTerms)`.

    Raises:
      ValueError: when called, the batch has fewer than four examples.
      TypeError: when called, the parameters are not of `with_discriminator`.

    Source: Kim & Mnih 2018, equations 2 and 3 and algorithm 2.
    """
    network = as_network(discriminator)

    def logits_of(params: Params, zs: Array) -> Array:
        return jax.vmap(lambda z: jnp.reshape(network.apply(params, z), ()))(zs)

    def discriminate(params: Params, key: Key, zs: Array) -> tuple[Array, Array]:
        """Cross-entropy and accuracy."""
        half = len(zs) // 2
        joint, product = (
            logits_of(params, zs[:half]),
            logits_of(params, permute_dimensions(key, zs[half:])),
        )
        cross_entropy = (
            jnp.mean(jax.nn.softplus(-joint)) + jnp.mean(jax.nn.softplus(product))
        ) / 2
        return cross_entropy, (jnp.mean(joint > 0) + jnp.mean(product <= 0)) / 2

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        gamma: float | Array = 35.0,
        beta: float | Array = 1.0,
    ) -> tuple[Array, DiscriminatorTerms]:
        if not isinstance(params, dict) or "discriminator" not in params:
            raise TypeError(
                "factor_vae_loss: the parameters have no discriminator; give it "
                "with_discriminator(vae)."
            )
        draws = draw_batch(vae, params, key, batch)
        num = len(draws.log_posterior)
        if num < 4:
            raise ValueError(
                f"factor_vae_loss: the batch has {num} example(s); give four, to "
                "permute half of them."
            )
        elbo = mean_elbo_terms(draws, vae.prior(params), kl_fn)
        total_correlation = jnp.mean(
            logits_of(jax.lax.stop_gradient(params["discriminator"]), draws.z)
        )
        # The key after those of the examples.
        permutation_key, zs = (
            jax.random.fold_in(key, num),
            jax.lax.stop_gradient(draws.z),
        )
        cross_entropy, accuracy = discriminate(
            params["discriminator"], permutation_key, zs
        )
        loss = beta * elbo.kl + gamma * total_correlation - elbo.log_likelihood
        terms = DiscriminatorTerms(
            elbo.log_likelihood, elbo.kl, total_correlation, cross_entropy, accuracy
        )
        return loss + (cross_entropy - jax.lax.stop_gradient(cross_entropy)), terms

    return loss_fn
