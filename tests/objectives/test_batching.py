"""Transforms of examples, and losses of a batch from objectives of one example."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.linear_gaussian import draw_examples, make_params, vae

from vaejax import (
    ElboTerms,
    loss_of_means,
    mean_over_batch,
    negative_elbo,
    with_transform,
)

X = np.array([1.0, -0.5, 0.3, 2.0, -1.0], np.float32)
PARAMS = make_params()
ZERO = np.float32(0)


def test_with_transform_gives_each_its_half_of_the_key():
    def transform(key, x):
        return jax.random.key_data(key)

    def objective(vae, params, key, x, *, beta):
        return vae, params, jax.random.key_data(key), x, beta

    unbound = with_transform(objective, transform)(
        "vae", "params", jax.random.key(3), X, beta=2.0
    )
    bound = with_transform(partial(objective, "vae"), transform)(
        "params", jax.random.key(3), X, beta=2.0
    )
    transform_key, objective_key = jax.random.key_data(
        jax.random.split(jax.random.key(3))
    )
    assert not np.array_equal(transform_key, objective_key)
    for *leading, key, x, beta in (unbound, bound):
        assert (*leading, beta) == ("vae", "params", 2)
        np.testing.assert_array_equal(key, objective_key)
        np.testing.assert_array_equal(x, transform_key)


def test_mean_over_batch_is_the_mean_over_split_keys():
    batch = draw_examples(PARAMS, 4)
    objective = jax.jit(partial(negative_elbo, vae))
    loss, terms = mean_over_batch(objective)(PARAMS, jax.random.key(5), batch, beta=0.5)
    keys = jax.random.split(jax.random.key(5), 4)
    losses, each = zip(
        *(objective(PARAMS, keys[i], batch[i], beta=0.5) for i in range(4)), strict=True
    )
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(terms.kl, np.mean([one.kl for one in each]), rtol=1e-5)
    np.testing.assert_allclose(
        terms.kl_terms, np.mean([one.kl_terms for one in each], axis=0), rtol=1e-5
    )


def kl_terms_as_data(params, key, x):
    del params, key
    return ElboTerms(ZERO, jnp.sum(x), x)


def free_bits(terms, *, floor, beta=1.0):
    """As Kingma et al. 2016 publish it: the floor is under the mean over the batch."""
    return beta * jnp.sum(jnp.maximum(terms.kl_terms, floor)) - terms.log_likelihood


def test_loss_of_means_combines_after_the_mean():
    batch = np.array([[0.0, 3.0], [4.0, 1.0]], np.float32)
    of_means = loss_of_means(kl_terms_as_data, partial(free_bits, floor=1.5))
    loss, means = of_means(None, jax.random.key(0), batch)
    assert loss == 2 + 2
    np.testing.assert_array_equal(means.kl_terms, [2, 2])
    per_example = mean_over_batch(
        lambda params, key, x: (
            free_bits(kl_terms_as_data(params, key, x), floor=1.5),
            (),
        )
    )
    assert per_example(None, jax.random.key(0), batch)[0] == ((1.5 + 3) + (4 + 1.5)) / 2


def test_loss_of_means_passes_schedules_to_combine():
    batch = np.array([[0.0, 3.0], [4.0, 1.0]], np.float32)
    of_means = loss_of_means(kl_terms_as_data, partial(free_bits, floor=0.0))
    assert of_means(None, jax.random.key(0), batch, beta=0.5)[0] == 0.5 * 4


def test_loss_of_means_draws_as_mean_over_batch_does():
    def terms_fn(params, key, x):
        return params * x * jax.random.key_data(key)[0].astype(jnp.float32)

    of_means = loss_of_means(terms_fn, lambda terms: 3 * terms)
    mean_of = mean_over_batch(lambda params, key, x: (3 * terms_fn(params, key, x), ()))
    arguments = ZERO + 2, jax.random.key(5), np.arange(4, dtype=np.float32)
    with jax.debug_key_reuse(False):
        np.testing.assert_allclose(
            of_means(*arguments)[0], mean_of(*arguments)[0], rtol=1e-6
        )


@pytest.mark.parametrize(
    "batch", [np.zeros((0, 5)), (np.zeros((2, 5)), np.zeros((3, 5))), np.zeros(()), ()]
)
def test_batches_need_one_leading_axis(batch):
    with pytest.raises(ValueError, match="leading axis"):
        mean_over_batch(kl_terms_as_data)(None, jax.random.key(0), batch)
