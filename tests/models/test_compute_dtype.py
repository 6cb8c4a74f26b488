"""Half precision: the networks are rounded, and nothing else."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import vaejax

VAE = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
)
BATCH = jax.random.bernoulli(jax.random.key(7), 0.3, (10, 4, 4)).astype(jnp.float32)


@pytest.mark.slow
def test_half_precision_rounds_the_networks_and_nothing_else():
    half = vaejax.models.with_compute_dtype(VAE, jnp.bfloat16)
    params = VAE.init(jax.random.key(0), BATCH[0])
    posterior, likelihood = (
        half.encode(params, BATCH[0]),
        half.decode(params, jnp.zeros(2)),
    )
    assert isinstance(posterior, vaejax.Normal) and isinstance(
        likelihood, vaejax.Bernoulli
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((posterior, likelihood))} == {
        jnp.dtype("float32")
    }
    hlo = jax.jit(half.decode).lower(params, jnp.zeros(2)).as_text()
    assert (
        "bf16" in hlo
        and "bf16" not in jax.jit(VAE.decode).lower(params, jnp.zeros(2)).as_text()
    )
    loss = vaejax.mean_over_batch(partial(vaejax.negative_elbo, half))
    gradient = jax.grad(lambda params: loss(params, jax.random.key(1), BATCH)[0])(
        params
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    full = vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE))(
        params, jax.random.key(1), BATCH
    )[0]
    difference = abs(loss(params, jax.random.key(1), BATCH)[0] - full)
    assert 0 < difference < 0.02 * full
    with pytest.raises(TypeError, match="int32"):
        vaejax.models.with_compute_dtype(VAE, jnp.int32)
