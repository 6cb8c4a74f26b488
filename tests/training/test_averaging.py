"""The moving average of the parameters, against its sum written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vaejax

VAE = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (4, 4))
)
OPTIMIZER = optax.sgd(0.1)
STEP = vaejax.make_train_step(
    vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE)), OPTIMIZER
)
BATCH = jax.random.bernoulli(jax.random.key(7), 0.3, (10, 4, 4)).astype(jnp.float32)


def start():
    return vaejax.init_train_state(VAE, OPTIMIZER, jax.random.key(0), BATCH[0])


def leaves_close(one, other, **options):
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, **options)


@pytest.mark.slow
def test_the_average_is_the_weighted_sum_of_every_step():
    state, plain, expected = (
        vaejax.training.init_average(start()),
        start(),
        start().params,
    )
    step = jax.jit(vaejax.training.with_average(STEP, 0.9))
    for _ in range(5):
        state, _ = step(state, BATCH)
        plain, _ = jax.jit(STEP)(plain, BATCH)
        expected = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, expected, plain.params)
    leaves_close(state.params, plain.params)
    leaves_close(
        vaejax.training.averaged_state(state).params, expected, rtol=1e-5, atol=1e-7
    )
    assert vaejax.training.averaged_state(plain) is plain


@pytest.mark.parametrize("decay", [1.0, -0.1, 2])
def test_the_decay_of_an_average_is_checked(decay):
    with pytest.raises(ValueError, match="decay is"):
        vaejax.training.with_average(STEP, decay)


@pytest.mark.parametrize(
    "decay", [np.float32(1.5), np.float64("nan"), jnp.float32(-1), 0.999999999]
)
def test_decays_of_numpy_and_jax_and_those_that_round_to_one_are_refused(decay):
    with pytest.raises(ValueError, match="decay is"):
        vaejax.training.with_average(STEP, decay)


def test_an_average_of_half_precision_keeps_small_steps():
    """A thousandth of each step is far below the rounding of bfloat16."""

    def step(state, batch):
        return state._replace(params=state.params + batch), ()

    state = vaejax.TrainState(
        jnp.full((), 128, jnp.bfloat16), (), jax.random.key(0), jnp.int32(0)
    )
    state = vaejax.training.init_average(state)
    averaging = vaejax.training.with_average(step, 0.999)
    expected, param = 128.0, 128.0
    for _ in range(20):
        state, _ = averaging(state, jnp.ones((), jnp.bfloat16))
        param += 1
        expected = 0.999 * expected + 0.001 * param
    np.testing.assert_allclose(state.extra["average"], expected, rtol=1e-6)
    assert vaejax.training.averaged_state(state).params.dtype == jnp.bfloat16
