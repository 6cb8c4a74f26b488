"""The types that everything else is written in. Read this file first.

A `VAE` is four pure functions; `encode`, `prior` and `decode` return a `Distribution`
over *one* example. Nothing here or in the objectives knows about a batch axis: a batch
is `jax.vmap`. Parameters, latents and examples are opaque pytrees.
"""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

Array = jax.Array
Key = jax.Array  # a typed key, as `jax.random.key` makes it
PyTree = Any
Params = PyTree
Example = PyTree  # one x, without a batch axis
Latent = PyTree  # one z, without a batch axis
Event = PyTree  # what a distribution is over: an Example or a Latent


class Distribution(Protocol):
    """A distribution over one event: a registered pytree, so that `jax.vmap` and
    `jax.jit` carry it.

    Every log-density is in nats, summed over the event, normalising constants included.
    A posterior must have `sample_and_log_prob`, a prior `log_prob` and `sample`, a
    likelihood `log_prob`; `mean` and `mode` where they exist. Constructors never check
    their arguments: leaves may be tracers, batched, or placeholders.
    """

    def log_prob(self, event: Event) -> Array: ...

    def sample(self, key: Key) -> Event: ...

    def sample_and_log_prob(self, key: Key) -> tuple[Event, Array]: ...

    @property
    def mean(self) -> Event: ...

    @property
    def mode(self) -> Event: ...


def require(
    distribution: Distribution,
    name: str,
    remedy: str = "give a distribution that has it",
) -> Any:
    """The attribute of a distribution; a TypeError that names both, and the remedy,
    where it is missing.
    """
    try:
        return getattr(distribution, name)
    except AttributeError as error:
        raise TypeError(
            f"{type(distribution).__name__} has no {name}; {remedy}."
        ) from error


class VAE(NamedTuple):
    """A variational autoencoder as four pure functions (Kingma & Welling 2014, section
    2).

    Registered as a static pytree: it has no leaves and passes through `jit`, `vmap` and
    checkpoints unchanged. It is compared by the identity of its functions, so build it
    once: a rebuilt VAE compiles again.

    Attributes:
      init: `(key, x) -> params` from one example.
      encode: `(params, x) -> q(z|x)`.
      prior: `params -> p(z)`.
      decode: `(params, z) -> p(x|z)`.
    """

    init: Callable[[Key, Example], Params]
    encode: Callable[[Params, Example], Distribution]
    prior: Callable[[Params], Distribution]
    decode: Callable[[Params, Latent], Distribution]


jax.tree_util.register_static(VAE)


class Latents(NamedTuple):
    """A hierarchical z: what may be edited, and what follows from it.

    Attributes:
      values: the latents of every level, a pytree; the event itself.
      path: deterministic states computed on the way from one level to the next, which
        prior and decoder need not recompute.

    Whoever edits `values` rebuilds `path` with `prior(params).complete(values) ->
    Latents`.
    """

    values: PyTree
    path: PyTree


class Support(NamedTuple):
    """Where a distribution has any mass.

    Attributes:
      description: in words, for an error.
      contains: `values -> bool`, elementwise, of NumPy arrays; false for NaN.
    """

    description: str
    contains: Callable[[Any], Any]


class Head(NamedTuple):
    """Turns the arrays that a network puts out into a distribution.

    Attributes:
      num_parameters: arrays needed for each dimension of the event. With 1 the network
        puts out `[*event]`; with more, `[*event, num_parameters]`.
      init: `key -> params` of the head's own parameters, such as a learned variance;
        `()` where it has none.
      apply: `(params, outputs) -> Distribution`.
    """

    num_parameters: int
    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Distribution]


KlFn = Callable[[Distribution, Distribution, Latent, Array], Array]
"""`(posterior, prior, z, log_posterior) -> kl_terms`, the regulariser in nats,
`[groups]`: one entry a latent group.
"""


def is_key(leaf: Any) -> bool:
    """Whether an array, or its shape and dtype, is of typed keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def batch_size_of(batch: PyTree) -> int:
    """The length of the leading axis, the same in every leaf.

    Raises:
      ValueError: there is none, it is empty, or the leaves differ.
    """
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or 0 in sizes:
        shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
        raise ValueError(
            f"a batch has leaves of shape {shapes}; give one leading axis, the same "
            "and not empty in all."
        )
    return sizes.pop()


def check_count(name: str, value: int) -> None:
    """ValueError unless the value is a positive integer."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; give a positive integer.")
