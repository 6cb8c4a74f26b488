"""How far the aggregate posterior q(z) = E_p(x)[q(z|x)] is from a factorial one or from
the prior, as part of a loss.

By its moments (DIP-VAE) or by a kernel on samples (InfoVAE, WAE); by a discriminator in
`discriminators.py`. The losses are of a batch, and at neutral strengths they are
`mean_over_batch` of the negative ELBO, draw for draw.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import require
from vaejax.base import VAE, Array, Key, KlFn, Params, PyTree
from vaejax.objectives._batch_draws import draw_batch, mean_elbo_terms
from vaejax.objectives.kl_estimators import kl_closed_form

Kernel = Callable[[Array, Array], Array]
"""`(z, other) -> scalar`, symmetric and positive definite."""


def gaussian_kernel(z: Array, other: Array, *, variance: float | None = None) -> Array:
    """exp(-|z - z'|^2 / (2 variance)); the variance is by default the number of
    dimensions D.

    Two draws from N(0, I) are at the distance |z - z'|^2 = 2 D on average, where the
    kernel is then exp(-1). The code of Zhao et al. has exp(-|z - z'|^2 / D^2), a
    variance of D^2 / 2.
    """
    return jnp.exp(
        -_squared_distance(z, other) / (2 * (z.size if variance is None else variance))
    )


def inverse_multiquadratic_kernel(
    z: Array, other: Array, *, scale: float | None = None
) -> Array:
    """C / (C + |z - z'|^2) with C = `scale`, by default 2 D for D dimensions of unit
    variance.

    Its tails are heavier than a Gaussian's: outliers of the aggregate posterior are
    still pulled back.

    Source: Tolstikhin et al. 2018 (WAE), section 4.
    """
    scale = 2.0 * z.size if scale is None else scale
    return scale / (scale + _squared_distance(z, other))


def _squared_distance(z: Array, other: Array) -> Array:
    return jnp.sum(jnp.square(z - other))


def maximum_mean_discrepancy(kernel: Kernel, zs: Array, others: Array) -> Array:
    """MMD^2 = E k(z, z') - 2 E k(z, y) + E k(y, y'), estimated without bias from
    samples of both, `[num, *z]`.

    The U-statistic: pairs of a sample with itself are left out, and where the two
    distributions are equal its mean is zero, so that it may be negative. The
    V-statistic, which InfoVAE's code takes, keeps them: for a kernel of z - z' its
    gradient within each set is (num - 1) / num of this one's, and its value is larger
    by 2 (1 - E k) / num.

    Raises:
      ValueError: fewer than two samples of either.

    Source: Gretton et al. 2012, equation 3.
    """
    if min(len(zs), len(others)) < 2:
        raise ValueError(
            f"maximum_mean_discrepancy: there are {len(zs)} and {len(others)} samples; "
            "give two or more."
        )

    def mean_of_pairs(samples: Array) -> Array:
        pairs = _kernel_matrix(kernel, samples, samples)
        return jnp.sum(jnp.where(jnp.eye(len(pairs), dtype=bool), 0, pairs)) / (
            len(pairs) * (len(pairs) - 1)
        )

    return (
        mean_of_pairs(zs)
        + mean_of_pairs(others)
        - 2 * jnp.mean(_kernel_matrix(kernel, zs, others))
    )


def _kernel_matrix(kernel: Kernel, zs: Array, others: Array) -> Array:
    return jax.vmap(lambda z: jax.vmap(lambda other: kernel(z, other))(others))(zs)


class DiscrepancyTerms(NamedTuple):
    """Batch means in nats; the squared maximum mean discrepancy is in units of the
    kernel.

    Attributes:
      log_likelihood, kl: the two sides of the ELBO.
      maximum_mean_discrepancy: between q(z) and p(z), squared, without bias.
    """

    log_likelihood: Array
    kl: Array
    maximum_mean_discrepancy: Array


def info_vae_loss(
    vae: VAE, *, kernel: Kernel = gaussian_kernel, kl_fn: KlFn = kl_closed_form
) -> Callable:
    """-E log p(x|z) + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambda - 1) MMD^2(q(z),
    p(z)), of a batch.

    alpha = 0, lambda = 1 is the negative ELBO, alpha = 1 MMD-VAE and, but for its
    likelihood, WAE-MMD. One z an example is compared with as many draws from the prior.

    Args:
      vae: its z must be an array.
      kernel: `(z, other) -> scalar`: `gaussian_kernel`,
        `inverse_multiquadratic_kernel`, or a `partial` of one.
      kl_fn: how the KL is computed.

    Returns:
      `(params, key, batch, *, alpha=0.0, lambda_marginal=1000.0) -> (loss,
      DiscrepancyTerms)`. With kernels of at most
      1 the discrepancy is at most 2, so that `lambda_marginal`, the paper's lambda,
      counts from the hundreds on.

    Raises:
      ValueError: when called, the batch has fewer than two examples.

    Source: Zhao et al. 2019 (InfoVAE), equation 6; Tolstikhin et al. 2018 (WAE),
    algorithm 2.
    """

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        alpha: float | Array = 0.0,
        lambda_marginal: float | Array = 1000.0,
    ) -> tuple[Array, DiscrepancyTerms]:
        draws, prior = draw_batch(vae, params, key, batch), vae.prior(params)
        elbo = mean_elbo_terms(draws, prior, kl_fn)
        num = len(draws.log_posterior)
        # The key after those of the examples.
        prior_keys = jax.random.split(jax.random.fold_in(key, num), num)
        discrepancy = maximum_mean_discrepancy(
            kernel, draws.z, jax.vmap(require(prior, "sample"))(prior_keys)
        )
        loss = (
            (1 - alpha) * elbo.kl
            + (alpha + lambda_marginal - 1) * discrepancy
            - elbo.log_likelihood
        )
        return loss, DiscrepancyTerms(elbo.log_likelihood, elbo.kl, discrepancy)

    return loss_fn
