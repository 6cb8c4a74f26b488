"""Losses of a batch, made of objectives of one example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_batch, check_function, check_key, check_options
from vaejax._reals import at_least_single
from vaejax.base import (
    Array,
    Example,
    Key,
    LossFn,
    Objective,
    Params,
    PyTree,
    Transform,
    batch_size_of,
)

#: `(params, key, x) -> terms` of one example, such as `partial(elbo_terms, vae)`.
TermsFn = Callable[[Params, Key, Example], PyTree]
#: `(mean_terms, **schedules) -> loss`, such as `partial(free_bits_loss, minimum=2.0)`.
CombineFn = Callable[..., Array]


def with_transform(objective: Objective, transform: Transform) -> Objective:
    """Return the objective of `transform(key, x)` with a new draw at each call.

    Use it for binarization, dequantization, word dropout or masking in the training
    step. The key is split in two: the transform draws from the first half, the
    objective from the second.

    Args:
      objective: `(params, key, x, **options) -> (loss, terms)` or, with the VAE not
        bound yet, `(vae, params, key, x, **options)`; or a `TermsFn`.
      transform: `(key, x) -> x` for one example.

    Returns:
      A function with the arguments and results of `objective`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> image = jnp.array([0, 128, 255], jnp.uint8)
      >>> params = vae.init(jax.random.key(0), jnp.zeros(3))
      >>> objective = vaejax.with_transform(
      ...     partial(vaejax.negative_elbo, vae), vaejax.binarize
      ... )
      >>> loss, terms = objective(params, jax.random.key(1), image)
      >>> loss.shape
      ()
    """
    check_function("with_transform: objective", objective)
    check_function("with_transform: transform", transform)

    def transformed(*args: Any, **options: Any):
        *leading, key, x = args
        check_key(key)
        check_options("with_transform", objective, options)
        transform_key, objective_key = jax.random.split(key)
        return objective(
            *leading, objective_key, transform(transform_key, x), **options
        )

    return transformed


def mean_over_batch(objective: Objective) -> LossFn:
    """Return the loss of a batch that is the mean of an objective over its examples.

    Every example draws from its own key. Losses are summed within an example and
    averaged over examples, so the scale of the loss does not depend on the batch size.

    Args:
      objective: `(params, key, x, **options) -> (loss, terms)` of one example, with
        its VAE bound, as in `mean_over_batch(partial(negative_elbo, vae))`.

    Returns:
      `loss_fn(params, key, batch, **schedules) -> (loss, terms)`. The leaves of `batch`
      have a leading axis `[batch]`; the leaves of `terms` are means over it. Schedules
      are passed on as options of the objective.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
      >>> loss, terms = loss_fn(params, jax.random.key(1), batch, beta=0.5)
      >>> loss.shape, terms.kl_terms.shape
      ((), (1,))
    """
    check_function("mean_over_batch: objective", objective)

    def loss_fn(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        check_options("mean_over_batch", objective, schedules)
        return _batch_means(
            lambda key, x: objective(params, key, x, **schedules), key, batch
        )

    return loss_fn


def loss_of_means(terms_fn: TermsFn, combine: CombineFn) -> LossFn:
    """Return the loss of a batch that is a function of the means of its terms.

    Use it for regularizers that act on the mean over the batch, as free bits and
    capacity targets are published. The noise is that of `mean_over_batch`.

    Args:
      terms_fn: `(params, key, x) -> terms` of one example, such as
        `partial(elbo_terms, vae)`.
      combine: `(mean_terms, **schedules) -> loss`, such as
        `partial(free_bits_loss, minimum=2.0)`.

    Returns:
      `loss_fn(params, key, batch, **schedules) -> (loss, mean_terms)`. The leaves of
      `batch` have a leading axis `[batch]`. Schedules are passed on to `combine`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.loss_of_means(
      ...     partial(vaejax.elbo_terms, vae, kl_fn=vaejax.kl_per_dimension),
      ...     partial(vaejax.objectives.free_bits_loss, minimum=2.0),
      ... )
      >>> loss, means = loss_fn(params, jax.random.key(1), batch)
      >>> loss.shape, means.kl_terms.shape
      ((), (2,))
    """
    check_function("loss_of_means: terms_fn", terms_fn)
    check_function("loss_of_means: combine", combine)

    def loss_fn(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        check_options("loss_of_means", combine, schedules)
        means = _batch_means(lambda key, x: terms_fn(params, key, x), key, batch)
        return combine(means, **schedules), means

    return loss_fn


def _batch_means(
    per_example: Callable[[Key, Example], PyTree], key: Key, batch: PyTree
) -> PyTree:
    check_key(key)
    check_batch(batch)
    values = jax.vmap(per_example)(jax.random.split(key, batch_size_of(batch)), batch)
    return jax.tree.map(lambda leaf: jnp.mean(at_least_single(leaf), axis=0), values)
