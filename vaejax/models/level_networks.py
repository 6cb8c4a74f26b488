"""Networks of the levels of a hierarchical VAE, and the p(x, z) that all share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_arrays,
    check_count,
    check_key,
    check_parameters,
    described,
    part_of,
)
from vaejax.base import (
    Array,
    Distribution,
    Example,
    HeadLike,
    Key,
    Latent,
    Latents,
    NetworkLike,
    Params,
    PyTree,
)
from vaejax.distributions import Normal, as_head, normal_head
from vaejax.models._assembly import check_decoder, in_dtype, in_dtype_of
from vaejax.models.levels import Conditional, TopDownPrior
from vaejax.networks import MLP, Network, as_network


class LevelNetwork(NamedTuple):
    """A network whose features one linear layer turns into a distribution of a level.

    Attributes:
      init: `(key, x) -> params`.
      features: `(params, x) -> features`.
      readout: `(params, features) -> distribution`.
    """

    init: Callable[[Key, PyTree], Params]
    features: Callable[[Params, PyTree], PyTree]
    readout: Callable[[Params, PyTree], Any]

    def apply(self, params: Params, x: PyTree) -> Any:
        """Return the distribution, given what it depends on."""
        return self.readout(params, self.features(params, x))

    def given(self, params: Params) -> Conditional:
        """Return `x -> distribution`, which holds its parameters."""
        return Conditional(self.apply, params)


def level_network(
    network: NetworkLike, latent_size: int, head: HeadLike | None
) -> LevelNetwork:
    """Build the network of one level, whose distribution is over `[latent_size]`."""
    inner, head = as_network(network), normal_head() if head is None else as_head(head)
    shape = (latent_size,)
    if head.num_parameters > 1:
        shape = (latent_size, head.num_parameters)
    last = as_network(MLP((), shape))

    def init(key: Key, x: PyTree) -> Params:
        network_key, last_key, head_key = jax.random.split(key, 3)
        x = in_dtype(jnp.float32, x)
        own = inner.init(network_key, x)
        features = zeros_like(inner.apply, own, x)
        return {
            "network": own,
            "outputs": last.init(last_key, features),
            "head": head.init(head_key),
        }

    def features(params: Params, x: PyTree) -> PyTree:
        # The network itself may have no parameters.
        return inner.apply(params["network"], in_dtype_of(params["outputs"], x))

    def readout(params: Params, features: PyTree) -> Any:
        return head.apply(params["head"], last.apply(params["outputs"], features))

    return LevelNetwork(init, features, readout)


class Descent(NamedTuple):
    """The model p(z_L) ... p(z_1|z_2) p(x|z): the half of a VAE that all share.

    Attributes:
      init: `(key, x) -> params`, of "decoder" and "likelihood".
      conditionals: `params -> (z_(l+1) -> p(z_l|z_(l+1)), ...)`, from the bottom.
      prior: `params -> p(z)`.
      decode: `(params, z) -> p(x|z)`.
    """

    init: Callable[[Key, Example], dict[str, Params]]
    conditionals: Callable[[Params], tuple[Conditional, ...]]
    prior: Callable[[Params], Any]
    decode: Callable[[Params, Latent], Distribution]


def make_descent(
    sizes: Sequence[int],
    decoders: Sequence[NetworkLike],
    likelihood: HeadLike,
    prior_head: HeadLike | None,
    *,
    decode_all: bool = False,
) -> Descent:
    """Build the model of a likelihood that depends on z_1, or on all levels."""
    head, network = as_head(likelihood), as_network(decoders[0])
    levels = [
        level_network(decoder, size, prior_head)
        for decoder, size in zip(decoders[1:], sizes[:-1], strict=True)
    ]

    def init(key: Key, x: Example) -> dict[str, Params]:
        likelihood_key, *keys = jax.random.split(key, len(sizes) + 1)
        zs = zeros(sizes)
        decoded = zs if decode_all else zs[0]
        own = network.init(keys[0], decoded)
        check_decoder(jax.eval_shape(network.apply, own, decoded), x, head)
        above = (
            level.init(key, z)
            for level, key, z in zip(levels, keys[1:], zs[1:], strict=True)
        )
        return {"decoder": (own, *above), "likelihood": head.init(likelihood_key)}

    def conditionals(params: Params) -> tuple[Conditional, ...]:
        own = part_of(params, "decoder")[1:]
        return tuple(level.given(part) for level, part in zip(levels, own, strict=True))

    def prior(params: Params) -> Any:
        check_parameters(params)
        top = Normal(jnp.zeros((sizes[-1],)), jnp.zeros((sizes[-1],)))
        return TopDownPrior(top, conditionals(params))

    def decode(params: Params, z: Latent) -> Distribution:
        check_arrays("the latent z", z)
        if not isinstance(z, Latents):
            raise TypeError(
                f"decode: the latent z is {described(z)}; give Latents, "
                "vae.prior(params).complete((z_1, ..., z_L))."
            )
        decoded = z.values if decode_all else z.values[0]
        outputs = network.apply(part_of(params, "decoder")[0], decoded)
        return head.apply(part_of(params, "likelihood"), outputs)

    return Descent(init, conditionals, prior, decode)


def check_levels(name: str, latent_sizes: Any, *networks: Any) -> tuple[int, ...]:
    """Return the latent sizes, of which there must be as many as of all networks."""
    for sequence in (latent_sizes, *networks):
        if not isinstance(sequence, Sequence) or isinstance(sequence, str | Network):
            raise TypeError(
                f"{name}: latent_sizes, encoders or decoders is {described(sequence)}; "
                "give a tuple with one entry per level, from the one nearest to x."
            )
    counts = [len(sequence) for sequence in (latent_sizes, *networks)]
    if len(set(counts)) > 1 or 0 in counts:
        raise ValueError(
            f"{name}: there are {counts[0]} latent_sizes, {counts[1]} encoders and "
            f"{counts[2]} decoders; give one of each per level."
        )
    for size in latent_sizes:
        check_count(f"{name}: a latent size", size)
    return tuple(latent_sizes)


def split_key(key: Key, x: Example) -> Array:
    """Return the keys of encoder and decoder, of arguments that are checked."""
    check_key(key)
    check_arrays("x", x)
    return jax.random.split(key)


def zeros(sizes: Sequence[int]) -> tuple[Array, ...]:
    """Return a vector of each size."""
    return tuple(jnp.zeros((size,)) for size in sizes)


def zeros_like(function: Callable[..., PyTree], *inputs: PyTree) -> PyTree:
    """Return zeros of the shapes that a function returns, without calling it."""
    outputs = jax.eval_shape(function, *inputs)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), outputs)
