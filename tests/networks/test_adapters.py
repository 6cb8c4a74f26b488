"""Networks of other libraries train like Linen modules, or say why they cannot."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support.cases import standard_promotion

import vaejax
from vaejax.networks import as_network, from_equinox, from_nnx

X = jnp.linspace(-1, 1, 12).reshape(3, 4)


class NnxEncoder(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.linear(x))


class NnxNormalized(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


ENCODERS = {
    "nnx": lambda: from_nnx(NnxEncoder),
    "equinox": lambda: from_equinox(lambda key: eqx.nn.MLP(4, 6, 6, 1, key=key)),
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


@pytest.mark.parametrize("library", ENCODERS)
def test_each_key_gives_a_foreign_network_its_own_parameters(library):
    network = ENCODERS[library]()

    @jax.jit
    @jax.vmap
    def use(key):
        params = network.init(key, X[0])
        return network.apply(params, X[0]), params

    outputs, params = use(jax.random.split(jax.random.key(0), 2))
    assert outputs.shape == (2, 6) and not np.allclose(outputs[0], outputs[1])
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(params))


def test_modules_that_are_no_network_are_refused_in_a_sentence():
    linear = eqx.nn.Linear(4, 6, key=jax.random.key(0))
    for wrong, name in [
        (NnxEncoder(nnx.Rngs(0)), "of type NnxEncoder"),
        (linear, "of type Linear"),
        (vaejax.MLP, "the class MLP"),
        (3, "of type int"),
    ]:
        with pytest.raises(TypeError, match=rf"network is {name}; .*from_nnx") as error:
            as_network(wrong)
        assert len(str(error.value)) < 300
    with pytest.raises(TypeError, match=r"type NnxEncoder .*function of nnx.Rngs"):
        from_nnx(NnxEncoder(nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"type Linear .*function of a key"):
        from_equinox(linear)
    with pytest.raises(TypeError, match="returns a tuple"):
        from_equinox(lambda key: (linear, None))


def test_networks_with_state_are_refused():
    with pytest.raises(
        TypeError, match=r"NnxNormalized keeps .*'BatchStat'.*GroupNorm"
    ):
        from_nnx(NnxNormalized)
    network = as_network(nn.BatchNorm(use_running_average=False))
    with pytest.raises(TypeError, match=r"BatchNorm keeps .*'batch_stats'.*GroupNorm"):
        network.init(jax.random.key(0), X)


class LinenDropout(nn.Module):
    deterministic: bool

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=self.deterministic)(nn.Dense(6)(x))


class NnxDropout(nnx.Module):
    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(x)


class EquinoxLayers(eqx.Module):
    layer: eqx.Module

    def __call__(self, x):
        return self.layer(x)


def test_layers_that_want_random_numbers_or_a_batch_are_refused_in_a_sentence():
    network = as_network(LinenDropout(deterministic=False))
    with pytest.raises(
        TypeError, match=r"LinenDropout asks for random .*deterministic"
    ):
        network.apply(network.init(jax.random.key(0), X), X)
    with pytest.raises(TypeError, match=r"NnxDropout keeps .*'RngKey'.*no Dropout"):
        from_nnx(NnxDropout)
    norm = eqx.nn.BatchNorm(4, axis_name="batch", mode="batch")
    for layer, name in ((eqx.nn.Dropout(0.5), "Dropout"), (norm, "StateIndex")):
        with pytest.raises(TypeError, match=rf"EquinoxLayers keeps .*'{name}'.*no Dro"):
            from_equinox(lambda key, layer=layer: EquinoxLayers(layer))


def test_dropout_that_is_turned_off_is_a_network():
    network = as_network(LinenDropout(deterministic=True))
    params = network.init(jax.random.key(0), X)
    expected = nn.Dense(6).apply({"params": params["Dense_0"]}, X)
    np.testing.assert_array_equal(network.apply(params, X), expected)
    off = from_equinox(lambda key: EquinoxLayers(eqx.nn.Dropout(0.5, inference=True)))
    np.testing.assert_array_equal(off.apply(off.init(jax.random.key(0), X), X), X)


def test_inputs_that_do_not_fit_the_parameters_are_named():
    network = as_network(vaejax.MLP((5,)))
    params = network.init(jax.random.key(0), X)
    with pytest.raises(
        ValueError, match=r"shape \(7, 3, 4\).*jax.vmap.*mean_over_batch"
    ):
        network.apply(params, jnp.ones((7, 3, 4)))
    with pytest.raises(ValueError, match="MLP lacks parameters; .*init"):
        network.apply({"Dense_1": params["Dense_0"]}, X)
