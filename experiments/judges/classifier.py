"""A classifier that judges images, by its confidence and by its features."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import vaejax
from experiments.data.image_data import intensities
from experiments.harness import keys
from vaejax import datasets
from vaejax.base import Array, Key, Params

NUM_EPOCHS, BATCH_SIZE, WIDTH = 10, 128, 400


class Classifier(NamedTuple):
    """A trained classifier: functions of images in [0, 1], `[num, *image]`.

    Attributes:
      features: activations of the last hidden layer, `[num, 400]`.
      log_probabilities: log-probabilities of the classes, `[num, classes]`.
    """

    features: Callable[[Array], Array]
    log_probabilities: Callable[[Array], Array]

    def accuracy(self, data: datasets.Dataset) -> float:
        """Return the share of images whose class is found."""
        found = jnp.argmax(self.log_probabilities(intensities(data.images)), axis=-1)
        return float(jnp.mean(found == data.labels))


def train(data: datasets.Dataset) -> Classifier:
    """Train a classifier of two hidden layers on gray images, with a fixed key."""
    trunk = vaejax.networks.as_network(vaejax.MLP((WIDTH, WIDTH)))
    head = vaejax.networks.as_network(vaejax.MLP((), (int(data.labels.max()) + 1,)))
    batch_size = min(BATCH_SIZE, len(data.images))
    num_steps = NUM_EPOCHS * (len(data.images) // batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, num_steps))

    def init(key: Key, x: Array) -> Params:
        trunk_key, head_key = jax.random.split(key)
        return {
            "trunk": trunk.init(trunk_key, x),
            "head": head.init(head_key, jnp.zeros(WIDTH)),
        }

    def features(params: Params, images: Array) -> Array:
        return jax.vmap(partial(trunk.apply, params["trunk"]))(images)

    def logits(params: Params, images: Array) -> Array:
        return jax.vmap(partial(head.apply, params["head"]))(features(params, images))

    def loss_fn(
        params: Params, key: Key, batch: datasets.Dataset
    ) -> tuple[Array, tuple]:
        del key
        outputs = logits(params, intensities(batch.images))
        return jnp.mean(
            optax.softmax_cross_entropy_with_integer_labels(
                outputs, batch.labels.astype(jnp.int32)
            )
        ), ()

    epoch = jax.jit(
        vaejax.make_train_epoch(vaejax.make_train_step(loss_fn, optimizer), batch_size)
    )
    # Of a VAE, training knows only `init`, which a network has too.
    network = vaejax.networks.as_network((init, logits))
    state = vaejax.init_train_state(
        network,
        optimizer,
        jax.random.key(keys.CLASSIFIER),
        jnp.zeros(data.images.shape[1:]),
    )
    data = jax.device_put(data)
    # With `disable=None` a bar is drawn on a terminal only, not in a notebook or a log.
    for _ in tqdm(
        range(NUM_EPOCHS),
        unit="epoch",
        dynamic_ncols=True,
        desc="classifier",
        disable=None,
    ):
        state, _ = epoch(state, data)
    return Classifier(
        jax.jit(partial(features, state.params)),
        jax.jit(lambda images: jax.nn.log_softmax(logits(state.params, images))),
    )
