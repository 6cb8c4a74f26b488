"""Networks of other libraries as `(init, apply)` pairs: a line each."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support.cases import standard_promotion

import vaejax

X = jnp.linspace(-1, 1, 12).reshape(3, 4)


def of_nnx(make):
    """A Flax NNX module, which `make(rngs)` builds; its state is the parameters."""
    graph = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))[0]
    return (lambda key, x: nnx.state(make(nnx.Rngs(key)))), (
        lambda params, x: nnx.merge(graph, params)(x)
    )


def of_equinox(make):
    """An Equinox module, which `make(key)` builds; its arrays are the parameters."""
    static = eqx.filter_eval_shape(make, jax.random.key(0))
    static = eqx.partition(static, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))[
        1
    ]
    return (lambda key, x: eqx.filter(make(key), eqx.is_array)), (
        lambda params, x: eqx.combine(params, static)(x)
    )


class NnxEncoder(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.linear(x))


ENCODERS = {
    "nnx": lambda: of_nnx(NnxEncoder),
    "equinox": lambda: of_equinox(lambda key: eqx.nn.MLP(4, 6, 6, 1, key=key)),
}


@pytest.mark.slow
@pytest.mark.parametrize("library", ENCODERS)
def test_a_foreign_network_trains(library):
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        vae = vaejax.gaussian_vae(
            latent_size=2,
            encoder=ENCODERS[library](),
            decoder=vaejax.MLP((6,), (4,)),
            likelihood=vaejax.distributions.fixed_variance_normal_head(),
        )
        optimizer = standard_promotion(optax.adam(1e-2))
        loss_fn = vaejax.mean_over_batch(lambda *args: vaejax.negative_elbo(vae, *args))
        step = jax.jit(vaejax.make_train_step(loss_fn, optimizer))
        state = vaejax.init_train_state(vae, optimizer, jax.random.key(0), X[0])
        before = jax.tree.map(np.asarray, state.params["encoder"])
        losses = []
        for _ in range(60):
            state, metrics = step(state, X)
            losses.append(float(metrics.loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    changed = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        before,
        state.params["encoder"],
    )
    assert all(jax.tree.leaves(changed))
