"""From objectives of one example to losses of a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax.base import Array, Example, Key, Params, PyTree, batch_size_of


def with_transform(
    objective: Callable, transform: Callable[[Key, Example], Example]
) -> Callable:
    """The objective of `transform(key, x)`, drawn afresh at each call: binarization,
    dequantization, masking.

    The transform has its own half of the key. The objective may have its vae bound
    already, or be a `terms_fn`.
    """

    def transformed(*args: Any, **options: Any):
        *leading, key, x = args
        transform_key, objective_key = jax.random.split(key)
        return objective(
            *leading, objective_key, transform(transform_key, x), **options
        )

    return transformed


def mean_over_batch(objective: Callable) -> Callable:
    """`loss_fn(params, key, batch, **schedules) -> (loss, terms)`: the objective's mean
    over the batch.

    Args:
      objective: `(params, key, x, **options) -> (loss, terms)` of one example; its vae
        is bound, as in `mean_over_batch(partial(negative_elbo, vae))`.

    Every example draws from its own key. Losses are summed within an example and
    averaged over examples, so that the loss does not depend on the batch size.
    """

    def loss_fn(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        return _batch_means(
            lambda key, x: objective(params, key, x, **schedules), key, batch
        )

    return loss_fn


def loss_of_means(terms_fn: Callable, combine: Callable[..., Array]) -> Callable:
    """`loss_fn(params, key, batch, **schedules) -> (loss, terms)`: a function of the
    batch means of the terms.

    For regularizers that act on the mean over the batch, as free bits and capacity
    targets are published.

    Args:
      terms_fn: `(params, key, x) -> terms` of one example, such as `partial(elbo_terms,
        vae)`.
      combine: `(mean_terms, **schedules) -> loss`.
    """

    def loss_fn(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        means = _batch_means(lambda key, x: terms_fn(params, key, x), key, batch)
        return combine(means, **schedules), means

    return loss_fn


def _batch_means(
    per_example: Callable[[Key, Example], PyTree], key: Key, batch: PyTree
) -> PyTree:
    values = jax.vmap(per_example)(jax.random.split(key, batch_size_of(batch)), batch)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), values)
