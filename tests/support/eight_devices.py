"""Run by test_sharding.py in a process with eight host devices: one device and eight do
the same.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments import mnist
from vaejax import checkpoints

STEPS = 100
EXPERIMENT = mnist.make_experiment(
    mnist.Config(epochs=1, hidden_size=32, latent_size=8)
)
RECIPE = EXPERIMENT.recipe(EXPERIMENT.hyperparameters)
DATA = jnp.asarray(EXPERIMENT.train[: STEPS * 128])


def train(
    step, num_devices: int, *, fsdp: bool = False, generator: str = "threefry2x32"
) -> tuple:
    mesh = vaejax.training.make_mesh(num_devices=num_devices)
    key = jax.random.key(0, impl=generator)
    state = vaejax.init_train_state(
        EXPERIMENT.vae, RECIPE.optimizer, key, EXPERIMENT.example
    )
    layout = (
        vaejax.training.fully_sharded(mesh, state, min_size=64)
        if fsdp
        else vaejax.training.replicated_sharding(mesh)
    )
    epoch = vaejax.make_train_epoch(
        step, 128, batch_sharding=vaejax.training.batch_sharding(mesh)
    )
    data = vaejax.training.place_on_devices(
        DATA, vaejax.training.replicated_sharding(mesh)
    )
    return jax.jit(epoch, out_shardings=(layout, None))(
        vaejax.training.place_on_devices(state, layout), data
    )


def losses_agree(directory: str) -> None:
    step = vaejax.make_train_step(*RECIPE)
    one_state, one = train(step, 1)
    eight_state, eight = train(step, 8)
    sharded_state, sharded = train(step, 8, fsdp=True)
    assert one.loss.shape == (STEPS,)
    np.testing.assert_allclose(eight.loss, one.loss, rtol=1e-5)
    np.testing.assert_allclose(sharded.loss, one.loss, rtol=1e-5)
    kernel = max(jax.tree.leaves(sharded_state.params), key=jnp.size)
    assert kernel.addressable_shards[0].data.size == kernel.size // 8
    assert max(
        jax.tree.leaves(eight_state.params), key=jnp.size
    ).sharding.is_fully_replicated
    whole = vaejax.training.gather_from_devices(
        sharded_state, vaejax.training.make_mesh(num_devices=8)
    )
    assert checkpoints.digest(whole) == checkpoints.digest(sharded_state)
    for name, state in {
        "one": one_state,
        "eight": eight_state,
        "sharded": sharded_state,
    }.items():
        checkpoints.save(f"{directory}/{name}", state, step=STEPS)
        for like in (one_state, eight_state, sharded_state):
            restored = checkpoints.restore(f"{directory}/{name}", like)
            assert checkpoints.digest(restored) == checkpoints.digest(state)
            leaves = zip(
                *map(jax.tree.leaves, (restored.params, like.params)), strict=True
            )
            assert all(
                a.sharding.is_equivalent_to(b.sharding, a.ndim) for a, b in leaves
            )


def gathering_again_compiles_nothing() -> None:
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **about: (
            compiled.append(name) if "backend_compile" in name else None
        )
    )
    mesh = vaejax.training.make_mesh(num_devices=8)
    tree = vaejax.training.place_on_devices(
        {"x": jnp.ones((16, 3))}, vaejax.training.batch_sharding(mesh)
    )
    vaejax.training.gather_from_devices(tree, mesh)
    first = len(compiled)
    vaejax.training.gather_from_devices(tree, mesh)
    assert first and len(compiled) == first


def every_example_draws_the_same_noise(generator: str) -> None:
    """Bitwise, and for the same example: the first step's noise and images, in the
    order of the batch.
    """

    def noise(params, key, image):
        return jnp.sum(jax.tree.leaves(params)[0]), (
            jax.random.normal(key, (4,)),
            image,
        )

    def loss_fn(params, key, batch):
        losses, seen = jax.vmap(partial(noise, params))(
            jax.random.split(key, len(batch)), batch
        )
        return jnp.mean(losses), seen

    step = vaejax.make_train_step(loss_fn, RECIPE.optimizer)
    (_, one), (_, eight) = (train(step, num, generator=generator) for num in (1, 8))
    for a, b in zip(one.terms, eight.terms, strict=True):
        assert a.shape[:2] == (STEPS, 128) and np.array_equal(a, b)


if __name__ == "__main__":
    losses_agree(sys.argv[1])
    every_example_draws_the_same_noise("threefry2x32")
    every_example_draws_the_same_noise("rbg")
    gathering_again_compiles_nothing()
    print("the same")
