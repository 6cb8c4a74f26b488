"""InfoVAE: the maximum mean discrepancy between aggregate posterior and prior."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import (
    as_numbers,
    check_function,
    check_in_range,
    check_model,
    is_traced,
    require,
)
from vaejax._reals import at_least_single, difference, to_device
from vaejax.base import VAE, Array, Key, KlFn, LossFn, Params, PyTree
from vaejax.objectives._batch_draws import draw_batch, mean_elbo_terms
from vaejax.objectives._numbers import weighted
from vaejax.objectives.kl_estimators import kl_closed_form

#: `(z, other) -> scalar`: a symmetric, positive definite kernel.
Kernel = Callable[[Array, Array], Array]


def gaussian_kernel(z: Array, other: Array, *, variance: float | None = None) -> Array:
    """Gaussian kernel exp(-|z - z'|^2 / (2 variance)).

    The default variance is the number of dimensions D. Two draws from N(0, I) have the
    squared distance 2 D on average, where the kernel is then exp(-1). The code of Zhao
    et al. 2019 has exp(-|z - z'|^2 / D^2), a variance of D^2 / 2.

    Args:
      z: an array of any shape.
      other: z', an array of the same shape.
      variance: a positive number in squared units of z.

    Returns:
      The scalar value of the kernel, in (0, 1].

    Raises:
      ValueError: `variance` is not positive and finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import gaussian_kernel
      >>> round(float(gaussian_kernel(jnp.zeros(2), jnp.ones(2))), 3)
      0.607

    Source: Zhao et al. 2019 (InfoVAE), but for the variance.
    """
    z, other = _points("gaussian_kernel", z, other)
    if variance is not None:
        check_in_range("gaussian_kernel: variance", variance, 0, open_low=True)
    return jnp.exp(
        -_squared_distance(z, other) / (2 * (z.size if variance is None else variance))
    )


def inverse_multiquadratic_kernel(
    z: Array, other: Array, *, scale: float | None = None
) -> Array:
    """Inverse multiquadratic kernel C / (C + |z - z'|^2) with C = `scale`.

    The default scale is 2 D, for D dimensions of unit variance. The tails are heavier
    than those of a Gaussian kernel, so outliers of the aggregate posterior keep a
    gradient towards the prior.

    Args:
      z: an array of any shape.
      other: z', an array of the same shape.
      scale: C, a positive number in squared units of z.

    Returns:
      The scalar value of the kernel, in (0, 1].

    Raises:
      ValueError: `scale` is not positive and finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import inverse_multiquadratic_kernel
      >>> round(float(inverse_multiquadratic_kernel(jnp.zeros(2), jnp.ones(2))), 3)
      0.667

    Source: Tolstikhin et al. 2018 (WAE), section 4.
    """
    z, other = _points("inverse_multiquadratic_kernel", z, other)
    scale = 2.0 * z.size if scale is None else scale
    check_in_range("inverse_multiquadratic_kernel: scale", scale, 0, open_low=True)
    return scale / (scale + _squared_distance(z, other))


def _squared_distance(z: Array, other: Array) -> Array:
    return jnp.sum(jnp.square(difference(*to_device(z, other))))


def maximum_mean_discrepancy(kernel: Kernel, zs: Array, others: Array) -> Array:
    """Unbiased estimate of the squared maximum mean discrepancy from samples.

    MMD^2 = E k(z, z') - 2 E k(z, y) + E k(y, y') for samples z of one distribution and
    y of another. This is the U-statistic: it leaves out the pairs of a sample with
    itself, its mean is zero where the two distributions are equal, and so it may be
    negative. The V-statistic, used by the code of InfoVAE, keeps those pairs: for a
    kernel of z - z' and sets of `num` samples its gradient within each set is
    (num - 1) / num of that of the U-statistic, and its value is larger by
    2 (1 - E k) / num.

    Args:
      kernel: k, `(z, other) -> scalar`.
      zs: `[num, *z]`, samples of the first distribution, at least two.
      others: `[num_others, *z]`, samples of the second distribution, at least two.

    Returns:
      The scalar estimate, in units of the kernel.

    Raises:
      ValueError: there are fewer than two samples of either distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import maximum_mean_discrepancy
      >>> zs, others = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [3.0]])
      >>> float(maximum_mean_discrepancy(lambda z, y: (z * y)[0], zs, others))
      -1.0

    Source: Gretton et al. 2012, equation 3.
    """
    check_function("maximum_mean_discrepancy: kernel", kernel)
    zs = jnp.asarray(as_numbers("maximum_mean_discrepancy: zs", zs))
    others = jnp.asarray(as_numbers("maximum_mean_discrepancy: others", others))
    if zs.ndim == 0 or zs.shape[1:] != others.shape[1:]:
        raise ValueError(
            f"maximum_mean_discrepancy: zs has shape {zs.shape} and others "
            f"{others.shape}; give samples of one shape along the first axis."
        )
    if min(len(zs), len(others)) < 2:
        raise ValueError(
            f"maximum_mean_discrepancy: there are {len(zs)} and {len(others)} samples, "
            f"zs {zs.shape} and others {others.shape}; give two or more."
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


def _points(name: str, z: Array, other: Array) -> tuple[Array, Array]:
    """Return two points as arrays of one shape, which is not empty."""
    z, other = (
        as_numbers(f"{name}: {argument}", value)
        for argument, value in (("z", z), ("other", other))
    )
    if z.shape != other.shape or not z.size:
        raise ValueError(
            f"{name}: z has shape {z.shape} and other {other.shape}; give two points "
            "of one shape."
        )
    return z, other


def _kernel_matrix(kernel: Kernel, zs: Array, others: Array) -> Array:
    zs, others = at_least_single(zs), at_least_single(others)
    return jax.vmap(lambda z: jax.vmap(lambda other: kernel(z, other))(others))(zs)


class DiscrepancyTerms(NamedTuple):
    """Terms of the InfoVAE loss: batch means, scalars.

    Attributes:
      log_likelihood: E log p(x|z), in nats.
      kl: E KL(q(z|x) || p(z)), in nats.
      maximum_mean_discrepancy: unbiased estimate of MMD^2(q(z), p(z)), in units of the
        kernel.

    Example:
      >>> from vaejax.objectives import DiscrepancyTerms
      >>> terms = DiscrepancyTerms(-80.0, 8.5, maximum_mean_discrepancy=0.125)
      >>> 1000 * terms.maximum_mean_discrepancy - terms.log_likelihood
      205.0
    """

    log_likelihood: Array
    kl: Array
    maximum_mean_discrepancy: Array


def _check_weights(alpha: float | Array, lambda_marginal: float | Array) -> None:
    check_in_range("info_vae_loss: alpha", alpha, high=1)
    check_in_range("info_vae_loss: lambda_marginal", lambda_marginal)
    if is_traced(alpha) or is_traced(lambda_marginal):
        return
    # In NumPy: under jit a sum of JAX's numbers would be traced.
    total = np.float64(alpha) + np.float64(lambda_marginal)
    check_in_range("info_vae_loss: alpha + lambda_marginal", total, 1)


def info_vae_loss(
    vae: VAE, *, kernel: Kernel = gaussian_kernel, kl_fn: KlFn = kl_closed_form
) -> LossFn:
    """Return the InfoVAE loss of a batch, with a discrepancy of q(z) from the prior.

    -E log p(x|z) + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambda - 1)
    MMD^2(q(z), p(z)), the first two in nats. alpha = 0 and lambda = 1 give
    `mean_over_batch` of the negative ELBO, draw for draw; alpha = 1 gives MMD-VAE and,
    except for its likelihood, WAE-MMD. One z per example is compared with as many draws
    from the prior.

    Args:
      vae: the model; its z must be an array.
      kernel: `(z, other) -> scalar`: `gaussian_kernel`,
        `inverse_multiquadratic_kernel`, or a `partial` of one.
      kl_fn: estimator of the KL term.

    Returns:
      `loss_fn(params, key, batch, *, alpha=0.0, lambda_marginal=1000.0) -> (loss,
      DiscrepancyTerms)` for a batch of at least two examples; alpha is at most 1 and
      lambda_marginal at least 1 - alpha, and both may be traced. With a kernel of at
      most 1 the discrepancy is at most 2, so `lambda_marginal`, the paper's lambda,
      matters only from the hundreds on.

    Raises:
      ValueError: when the loss is called, the batch has fewer than two examples, or the
        KL or the discrepancy has a negative weight.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.objectives.info_vae_loss(vae)
      >>> loss, terms = loss_fn(params, jax.random.key(1), batch)
      >>> loss.shape, terms.maximum_mean_discrepancy.shape
      ((), ())

    Source: Zhao et al. 2019 (InfoVAE), equation 6; Tolstikhin et al. 2018 (WAE),
    algorithm 2.
    """
    check_model(vae, None)

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        alpha: float | Array = 0.0,
        lambda_marginal: float | Array = 1000.0,
    ) -> tuple[Array, DiscrepancyTerms]:
        _check_weights(alpha, lambda_marginal)
        draws, prior = draw_batch(vae, params, key, batch), vae.prior(params)
        elbo = mean_elbo_terms(draws, prior, kl_fn)
        num = len(draws.log_posterior)
        # The key after those of the examples, 0 to num - 1.
        prior_keys = jax.random.split(jax.random.fold_in(key, num), num)
        discrepancy = maximum_mean_discrepancy(
            kernel, draws.z, jax.vmap(require(prior, "sample"))(prior_keys)
        )
        loss = (
            weighted(1 - alpha, elbo.kl)
            + (alpha + lambda_marginal - 1) * discrepancy
            - elbo.log_likelihood
        )
        return loss, DiscrepancyTerms(elbo.log_likelihood, elbo.kl, discrepancy)

    return loss_fn
