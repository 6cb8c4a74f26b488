"""Networks that see a condition beside their input."""

from collections.abc import Callable

import jax.numpy as jnp

from vaejax._checks import as_numbers, check_function, naming_condition
from vaejax.base import Array, Key, NetworkLike, Params, PyTree
from vaejax.networks._inputs import integers_as_single
from vaejax.networks.adapters import Network, as_network


def _joined(x: Array, condition: Array) -> Array:
    """Return x and the condition as one vector, in the dtype of x."""
    x = integers_as_single(x).ravel()
    return jnp.concatenate([x, jnp.ravel(condition).astype(x.dtype)])


def with_condition(
    network: NetworkLike,
    condition: Array,
    *,
    join: Callable[[Array, Array], PyTree] = _joined,
) -> Network:
    """Return the network x -> network([x, condition]).

    Its parameters do not depend on the value of the condition, so that networks of all
    conditions share them: a function of the condition that builds a VAE of such
    networks is a conditional VAE.

    Args:
      network: a network of one input: an encoder of x, or a decoder of z.
      condition: real numbers of any shape, `[C]` as a rule: covariates of a scale of
        about 1, or a class as `jax.nn.one_hot(label, num_classes)`.
      join: `(x, condition) -> input of the network`. By default both are flattened and
        put behind each other, as `MLP` and the decoders of images want it. An encoder
        of images takes the condition as channels.

    Returns:
      The network of x. It raises ValueError where the condition is of another size than
      the one that its parameters were made with.

    Raises:
      TypeError: `network` is not a network, or `condition` is not of numbers.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.networks import with_condition
      >>> network = with_condition(vaejax.MLP((), (4,)), jax.nn.one_hot(2, 5))
      >>> params = network.init(jax.random.key(0), jnp.ones(3))
      >>> params["Dense_0"]["kernel"].shape, network.apply(params, jnp.ones(3)).shape
      ((8, 4), (4,))

    Source: Sohn et al. 2015, section 4.1.
    """
    inner = as_network(network)
    check_function("with_condition: join", join)
    condition = as_numbers("with_condition: condition", condition)

    def init(key: Key, x: Array) -> Params:
        return inner.init(key, join(x, condition))

    def apply(params: Params, x: Array) -> PyTree:
        with naming_condition("with_condition", condition):
            return inner.apply(params, join(x, condition))

    return Network(init, apply)
