"""A trained model of a table with half of its cells missing, of known data."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cases import standard_promotion

import vaejax
from vaejax import latent
from vaejax.distributions import Column, MaskedEvent


def draw_table(num, seed):
    """Six real columns of two factors, in units of their own, half of them hidden."""
    random = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(6, 2))
    scale = np.array([1, 10, 0.1, 1000, 3, 2])
    noise = random.normal(size=(num, 6))
    values = scale * (5 + random.normal(size=(num, 2)) @ loadings.T + 0.5 * noise)
    return np.float32(values), random.random((num, 6)) < 0.5


@pytest.mark.slow
def test_half_of_the_cells_missing_are_imputed_better_than_by_column_means():
    values, mask = draw_table(2000, 1)
    means = np.mean(values, axis=0, where=mask)
    scales = np.std(values, axis=0, where=mask)
    columns = [
        Column("real", shift=float(mean), scale=float(scale))
        for mean, scale in zip(means, scales, strict=True)
    ]
    vae = vaejax.models.table_vae(
        columns,
        latent_size=2,
        encoder=vaejax.MLP((64,)),
        decoder=vaejax.MLP((32,)),
    )
    optimizer = standard_promotion(optax.adam(optax.cosine_decay_schedule(5e-3, 1500)))
    data = MaskedEvent(jnp.asarray(values), jnp.asarray(mask))
    first = jax.tree.map(lambda leaf: leaf[0], data)
    state = vaejax.init_train_state(vae, optimizer, jax.random.key(0), first)
    loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_iwae, vae, num_samples=5))
    step = vaejax.make_train_step(loss_fn, optimizer)

    def update(state, number):
        start = (number % 10) * 200
        batch = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, 200), data
        )
        return step(state, batch)

    params = jax.jit(lambda s: jax.lax.scan(update, s, jnp.arange(1500))[0])(state)
    params = params.params
    values, mask = draw_table(400, 2)
    impute = partial(latent.impute, vae, params, num_samples=300, num_draws=100)
    found = jax.jit(jax.vmap(impute))(
        jax.random.split(jax.random.key(1), 400),
        MaskedEvent(jnp.asarray(values), jnp.asarray(mask)),
    )
    errors = np.square((np.asarray(found.mean) - values) / scales)[~mask]
    of_means = np.square((means - values) / scales)[~mask]
    ends = np.asarray(jax.vmap(lambda one: one.quantiles([0.05, 0.95]))(found))
    inside = (ends[:, 0] < values) & (values < ends[:, 1])
    assert np.sqrt(errors.mean() / of_means.mean()) < 0.85
    assert 0.85 < inside[~mask].mean() < 0.95
