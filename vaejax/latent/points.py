"""Point estimators: the value that stands for a distribution."""

from collections.abc import Callable

from vaejax._checks import require
from vaejax.base import Distribution, Event, Key

#: `(key, distribution) -> event`: `mean`, `mode`, `draw`, or a function like them.
PointEstimator = Callable[[Key | None, Distribution], Event]

_REMEDY = (
    "choose another `latent_point` or `example_point` (vaejax.latent.mean, mode, draw)"
)


def mean(key: Key | None, distribution: Distribution) -> Event:
    """Return the mean of a distribution.

    Args:
      key: not used; None will do.
      distribution: a posterior or a likelihood that has a `mean`.

    Returns:
      The mean, of the structure of the event.

    Raises:
      TypeError: the distribution has no `mean`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> normal = vaejax.Normal(jnp.array([1.0, 2.0]), jnp.zeros(2))
      >>> vaejax.latent.mean(None, normal).tolist()
      [1.0, 2.0]
    """
    del key
    return require(distribution, "mean", _REMEDY)


def mode(key: Key | None, distribution: Distribution) -> Event:
    """Return the mode of a distribution.

    Args:
      key: not used; None will do.
      distribution: a posterior or a likelihood that has a `mode`.

    Returns:
      The mode, of the structure of the event.

    Raises:
      TypeError: the distribution has no `mode`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> bernoulli = vaejax.Bernoulli(jnp.array([-2.0, 2.0]))
      >>> vaejax.latent.mode(None, bernoulli).tolist()
      [0.0, 1.0]
    """
    del key
    return require(distribution, "mode", _REMEDY)
