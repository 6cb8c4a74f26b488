"""The types that everything else is written in. Read this file first.

A `VAE` is four pure functions; `encode`, `prior` and `decode` return a `Distribution`
over one example. Nothing here or in the objectives knows about a batch axis: a batch
is `jax.vmap`. Parameters, latents and examples are opaque pytrees.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from vaejax._checks import check_key, check_model, check_no_list, require

__all__ = [
    "Array",
    "Distribution",
    "END_TOKEN",
    "Event",
    "Example",
    "Head",
    "HeadLike",
    "Key",
    "KlFn",
    "Latent",
    "Latents",
    "LossFn",
    "NetworkLike",
    "Objective",
    "Params",
    "PyTree",
    "Support",
    "TrainStep",
    "Transform",
    "VAE",
    "batch_size_of",
    "complete",
    "complete_by_prior",
    "draw",
    "values",
]

#: An array of JAX.
Array = jax.Array
#: A typed PRNG key, as `jax.random.key` makes it; any other is refused.
Key = jax.Array
#: Any nesting of containers that JAX has registered.
PyTree = Any
#: The parameters of a model.
Params = PyTree
#: One example x, without a batch axis.
Example = PyTree
#: One latent z, without a batch axis.
Latent = PyTree
#: One value that a distribution is over: an example or a latent.
Event = PyTree
#: The token that ends a sentence and pads it to its length.
END_TOKEN = 0


class Distribution(Protocol):
    """A distribution over one event, as a pytree that `jax.vmap` and `jax.jit` carry.

    Every log-density is in nats, summed over the event, normalizing constants included;
    it is -inf outside the support, NaN for NaN, and float32 for parameters in half
    precision. One event has the broadcast shape of all parameters.
    A posterior must have `sample_and_log_prob`, a prior `log_prob` and `sample`, a
    likelihood `log_prob`; `mean` and `mode` exist where they are defined. Constructors
    never check their arguments: leaves may be tracers, batched, or placeholders.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> prior = vaejax.Normal(mean=jnp.zeros(3), log_variance=jnp.zeros(3))
      >>> round(float(prior.log_prob(jnp.zeros(3))), 3)  # -3/2 log(2 pi)
      -2.757
    """

    def log_prob(self, event: Event) -> Array:
        """Return the log-density of one event in nats, a scalar."""
        ...

    def sample(self, key: Key) -> Event:
        """Return one draw."""
        ...

    def sample_and_log_prob(self, key: Key) -> tuple[Event, Array]:
        """Return one draw and its log-density in nats."""
        ...

    @property
    def mean(self) -> Event:
        """The expected event."""
        ...

    @property
    def mode(self) -> Event:
        """The event of highest density."""
        ...


class VAE(NamedTuple):
    """A variational autoencoder as four pure functions.

    It is registered as a static pytree: it has no leaves and passes through `jit`,
    `vmap` and checkpoints unchanged. It is compared by the identity of its functions,
    so build it once: a rebuilt VAE compiles again.

    Attributes:
      init: `(key, x) -> params` from one example.
      encode: `(params, x) -> q(z|x)`.
      prior: `params -> p(z)`.
      decode: `(params, z) -> p(x|z)`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.VAE(
      ...     init=lambda key, x: jax.random.normal(key, (x.size, 2)),
      ...     encode=lambda params, x: vaejax.Normal(x @ params, jnp.zeros(2)),
      ...     prior=lambda params: vaejax.Normal(jnp.zeros(2), jnp.zeros(2)),
      ...     decode=lambda params, z: vaejax.Normal(params @ z, jnp.zeros(4)),
      ... )
      >>> params = vae.init(jax.random.key(0), jnp.ones(4))
      >>> vae.encode(params, jnp.ones(4)).mean.shape
      (2,)
      >>> vae.decode(params, jnp.zeros(2)).mean.shape
      (4,)

    Source: Kingma & Welling 2014, section 2.
    """

    init: Callable[[Key, Example], Params]
    encode: Callable[[Params, Example], Distribution]
    prior: Callable[[Params], Distribution]
    decode: Callable[[Params, Latent], Distribution]


jax.tree_util.register_static(VAE)


class Latents(NamedTuple):
    """A hierarchical latent: the values of its levels, and the states they lead to.

    After `values` are edited, `prior(params).complete(values) -> Latents` rebuilds
    `path`, or `complete_like(latent, values)` where the path holds what does not follow
    from the values, such as a condition.

    Attributes:
      values: the latents of every level, a pytree; the event itself, which may be
        edited.
      path: deterministic states computed on the way from one level to the next, which
        prior and decoder need not recompute.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> z = vaejax.Latents(values=(jnp.zeros(3), jnp.zeros(2)), path=jnp.ones(8))
      >>> [level.shape for level in z.values]
      [(3,), (2,)]
    """

    values: PyTree
    path: PyTree


class Support(NamedTuple):
    """The set of values where a distribution has mass.

    Attributes:
      description: the set in words, for error messages.
      contains: `values -> bool`, elementwise, of NumPy arrays; false for NaN. Where it
        takes all numbers of a vector to tell, it is the same for all of them.
      is_convex: whether straight lines between events stay inside; None leaves it to be
        judged by `contains`.

    Example:
      >>> import numpy as np
      >>> import vaejax
      >>> support = vaejax.Bernoulli.support
      >>> support.description, support.contains(np.array([0, 1, 0.5])).tolist()
      ('0 and 1', [True, True, False])
    """

    description: str
    contains: Callable[[Any], Any]
    is_convex: bool | None = None


class Head(NamedTuple):
    """A map from the output arrays of a network to a distribution.

    Attributes:
      num_parameters: the number of arrays per dimension of the event. With 1 the
        network outputs `[*event]`; with more, `[*event, num_parameters]`.
      init: `key -> params` of the head's own parameters, such as a learned variance;
        `()` where it has none.
      apply: `(params, outputs) -> Distribution`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> head = vaejax.normal_head()
      >>> params = head.init(jax.random.key(0))
      >>> outputs = jnp.zeros((3, head.num_parameters))
      >>> head.apply(params, outputs).mean.shape
      (3,)
    """

    num_parameters: int
    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Distribution]


#: `(posterior, prior, z, log_posterior) -> kl_terms` in nats, one per latent group.
KlFn = Callable[[Distribution, Distribution, Latent, Array], Array]
#: `(params, key, x, **options) -> (loss, metrics)` of one example, its VAE bound.
Objective = Callable[..., tuple[Array, Any]]
#: `(params, key, batch, **schedules) -> (loss, metrics)`: all that training sees.
LossFn = Callable[..., tuple[Array, Any]]
#: `(state, batch) -> (state, metrics)`, as `make_train_step` returns it.
TrainStep = Callable[[Any, PyTree], tuple[Any, Any]]
#: `(key, x) -> x` of one example, such as `vaejax.binarize`.
Transform = Callable[[Key, Example], Example]
#: A Flax Linen module or a pair `(init, apply)` of functions of one example.
NetworkLike = Any
#: A `Head`, or a distribution class that carries one as its attribute `head`.
HeadLike = Head | type


def batch_size_of(batch: PyTree) -> int:
    """Return the length of the leading axis that all leaves share.

    Args:
      batch: arrays `[num, ...]` with the same positive `num` in every leaf.

    Returns:
      `num`.

    Raises:
      ValueError: a leaf has no axis, the axis is empty, or the lengths differ.
      TypeError: the batch is a list.

    Example:
      >>> import numpy as np
      >>> from vaejax.base import batch_size_of
      >>> batch_size_of({"image": np.zeros((8, 28, 28)), "label": np.zeros(8)})
      8
    """
    check_no_list(batch)
    sizes = {
        np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(batch)
    }
    if len(sizes) != 1 or 0 in sizes:
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch)]
        raise ValueError(
            f"a batch has leaves of shape {shapes}; give one leading axis, the same "
            "and not empty in all."
        )
    return sizes.pop()


def draw(key: Key | None, distribution: Distribution) -> Event:
    """Draw one event from a distribution that can at least be sampled.

    Args:
      key: a typed key. None stands for a tool that was given no key.
      distribution: a distribution with `sample`, or only `sample_and_log_prob`.

    Returns:
      One event.

    Raises:
      TypeError: the key is no typed key, or the distribution has neither method.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.base import draw
      >>> normal = vaejax.Normal(jnp.zeros(3), jnp.zeros(3))
      >>> draw(jax.random.key(0), normal).shape
      (3,)
    """
    if key is None:
        raise TypeError(
            "draw: there is no key to draw with; give the tool "
            "`key=jax.random.key(seed)`."
        )
    check_key(key)
    if not isinstance(distribution, type) and hasattr(distribution, "sample"):
        return distribution.sample(key)
    # All that a posterior must have.
    return require(distribution, "sample_and_log_prob")(key)[0]


def values(z: Latent) -> PyTree:
    """Return the part of a latent that may be edited.

    Args:
      z: a latent of any model.

    Returns:
      The `values` of a hierarchical latent (`Latents`), and any other z itself.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.base import Latents, values
      >>> values(Latents(values=jnp.zeros(3), path=jnp.ones(8))).shape
      (3,)
      >>> values(jnp.zeros(2)).shape
      (2,)
    """
    return z.values if isinstance(z, Latents) else z


def complete(vae: VAE, params: Params, like: Latent, edited: PyTree) -> Latent:
    """Return the latent that has edited values, of the same kind as another latent.

    Args:
      vae: the model. If `like` is hierarchical, its prior must have `complete`.
      params: the parameters of the model.
      like: a latent of the model.
      edited: new values, with the structure and shapes of `values(like)`.

    Returns:
      `edited` itself, or for a hierarchical `like` the `Latents` whose path the prior
      has rebuilt from `edited`.

    Raises:
      TypeError: `like` is hierarchical and the prior has no `complete`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.base import complete
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,), (6,))
      ... )
      >>> complete(vae, {}, jnp.zeros(2), jnp.ones(2)).shape
      (2,)
    """
    check_model(vae, params)
    if not isinstance(like, Latents):
        return edited
    return complete_by_prior(vae.prior(params), like, edited)


def complete_by_prior(prior: Distribution, like: Latents, edited: PyTree) -> Latents:
    """Return the hierarchical latent that has edited values, with the path of a prior.

    It is `complete` for those who have a prior and no model, such as a `KlFn`.

    Args:
      prior: p(z), with `complete_like` where its path holds what does not follow from
        the values, such as a condition, and else with `complete`.
      like: a hierarchical latent of its model.
      edited: new values, with the structure and shapes of `values(like)`.

    Returns:
      The `Latents` whose path the prior has rebuilt from `edited`.

    Raises:
      TypeError: the prior has neither method.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.base import complete_by_prior
      >>> vae = vaejax.models.hierarchical_vae(
      ...     latent_sizes=(3, 2),
      ...     encoders=(vaejax.MLP((4,)), vaejax.MLP((4,))),
      ...     decoders=(vaejax.MLP((4,), (5,)), vaejax.MLP((4,))),
      ... )
      >>> prior = vae.prior(vae.init(jax.random.key(0), jnp.ones(5)))
      >>> z = prior.sample(jax.random.key(1))
      >>> edited = complete_by_prior(prior, z, (jnp.ones(3), jnp.zeros(2)))
      >>> [level.tolist() for level in edited.values]
      [[1.0, 1.0, 1.0], [0.0, 0.0]]
    """
    if hasattr(type(prior), "complete_like"):
        return require(prior, "complete_like")(like, edited)
    return require(prior, "complete")(edited)
