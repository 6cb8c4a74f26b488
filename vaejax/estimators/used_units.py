"""Numbers of latent dimensions in use: by their posterior means, and by their KL."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from vaejax._checks import as_numbers, check_in_range
from vaejax._reals import as_real, to_device, variances
from vaejax.base import Array


def active_units(means: ArrayLike, *, threshold: float = 0.01) -> Array:
    """Count the dimensions of z whose posterior mean varies over the data.

    Dimension j is active if Var_x(E[z_j|x]) exceeds the threshold. With variance 0.01
    it may carry as little as 0.005 nats: an encoder that has fitted noise has active
    units beside a KL near 0. Read `units_by_kl` beside this number.

    Args:
      means: `[examples, *latent]`, the posterior means, as `vaejax.embed` returns them;
        at least two examples.
      threshold: smallest variance of an active dimension, in squared units of z.

    Returns:
      The number of active dimensions, a floating-point scalar: NaN where a mean is not
      finite, since such a dimension is neither active nor unused.

    Raises:
      ValueError: there are fewer than two examples, or the threshold is negative or not
        finite.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> means = jnp.array([[1.0, 0.01, 0.0], [-1.0, -0.01, 0.0]])
      >>> int(vaejax.active_units(means))
      1

    Source: Burda et al. 2016, section 5.2.
    """
    check_in_range("active_units: threshold", threshold, 0)
    (means,) = to_device(as_numbers("active_units: means", means))
    if means.ndim == 0 or means.shape[0] < 2:
        raise ValueError(
            f"active_units: means has shape {means.shape}; a variance over data needs "
            "at least two examples."
        )
    return _count_above(variances(means), threshold)


def units_by_kl(kl: ArrayLike, *, threshold: float = 0.1) -> Array:
    """Count the dimensions of z that carry more than some nats per example.

    It tells the story of the KL term, whose parts it counts. `active_units` looks at
    the spread of posterior means alone, and is the larger one where an encoder has
    fitted noise.

    Args:
      kl: `[*latent]`, the mean over the data of each dimension's KL(q(z_j|x) || p(z_j))
        in nats, such as `code_statistics(...).kl` or `kl_terms` of `kl_per_dimension`.
      threshold: largest KL of an unused dimension, in nats.

    Returns:
      The number of dimensions above the threshold, a floating-point scalar: NaN where a
      KL is NaN.

    Raises:
      ValueError: the threshold is negative or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import units_by_kl
      >>> int(units_by_kl(jnp.array([2.3, 0.03, 0.0])))
      1

    Source: Lucas et al. 2019, "Don't blame the ELBO!", which calls a dimension
    collapsed where its KL stays below a threshold.
    """
    check_in_range("units_by_kl: threshold", threshold, 0)
    kl = as_real(as_numbers("units_by_kl: kl", kl))
    if not kl.size:
        raise ValueError(
            f"units_by_kl: kl has shape {kl.shape}; give one number or more."
        )
    return _count_above(kl, threshold)


def _count_above(numbers: Array, threshold: float) -> Array:
    count = jnp.sum((numbers > threshold).astype(numbers.dtype))
    return jnp.where(jnp.any(jnp.isnan(numbers)), jnp.nan, count)
