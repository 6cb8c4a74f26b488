"""The types that everything else is written in. Read this file first.

A `VAE` is four pure functions; `encode`, `prior` and `decode` return a `Distribution`
over *one* example. Nothing here or in the objectives knows about a batch axis: a batch
is `jax.vmap`. Parameters, latents and examples are opaque pytrees.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from vaejax._checks import require

#: An array of JAX.
Array = jax.Array
#: A typed PRNG key, as `jax.random.key` makes it.
Key = jax.Array
#: Any nesting of containers that JAX has registered.
PyTree = Any
#: Parameters of a model.
Params = PyTree
#: One example x, without a batch axis.
Example = PyTree
#: One latent z, without a batch axis.
Latent = PyTree
#: What a distribution is over: an example or a latent.
Event = PyTree
#: Token that ends a sequence and pads it to its length.
END_TOKEN = 0


class Distribution(Protocol):
    """A distribution over one event: a registered pytree, so that `jax.vmap` and
    `jax.jit` carry it.

    Every log-density is in nats, summed over the event, normalizing constants included.
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


#: `(posterior, prior, z, log_posterior) -> kl_terms`: the regularizer in nats,
#: `[groups]`, one entry per latent group.
KlFn = Callable[[Distribution, Distribution, Latent, Array], Array]
#: `(params, key, x, **options) -> (loss, metrics)` of one example: an objective such as
#: `negative_elbo` whose VAE is bound by `functools.partial`.
Objective = Callable[..., tuple[Array, Any]]
#: `(params, key, batch, **schedules) -> (loss, metrics)`: all that training sees.
LossFn = Callable[..., tuple[Array, Any]]
#: `(state, batch) -> (state, metrics)`, as `make_train_step` returns it.
TrainStep = Callable[[Any, PyTree], tuple[Any, Any]]
#: A Flax Linen module or any pair `(init, apply)` of functions of one example.
NetworkLike = Any
#: A `Head`, or a distribution class that carries one as its attribute `head`.
HeadLike = Head | type


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


def draw(key: Key | None, distribution: Distribution) -> Event:
    """A draw from the distribution; TypeError without a key."""
    if key is None:
        raise TypeError(
            "draw: there is no key to draw with; give the tool "
            "`key=jax.random.key(seed)`."
        )
    if hasattr(distribution, "sample"):
        return distribution.sample(key)
    # All that a posterior must have.
    return require(distribution, "sample_and_log_prob")(key)[0]


def values(z: Latent) -> PyTree:
    """What of a latent may be edited: z itself, or the `values` of a hierarchical one."""
    return z.values if isinstance(z, Latents) else z


def complete(vae: VAE, params: Params, like: Latent, edited: PyTree) -> Latent:
    """The latent of the kind of `like` with edited values; the prior rebuilds the path
    of a hierarchical one.
    """
    return vae.prior(params).complete(edited) if isinstance(like, Latents) else edited
