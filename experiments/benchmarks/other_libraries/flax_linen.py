"""The VAE of Flax's examples: one Linen module, and a jitted step for each batch.

500 hidden units of ReLU on either side, pixels that are 0 or 1, Adam at a constant
rate, and noise of one key for the whole batch, as that example has them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from experiments.benchmarks.timing import Program


class LinenVAE(nn.Module):
    """VAE of a batch `[batch, pixels]`, as one module of two networks."""

    num_pixels: int
    hidden_size: int
    latent_size: int

    def setup(self):
        self.hidden = nn.Dense(self.hidden_size)
        self.mean = nn.Dense(self.latent_size)
        self.log_variance = nn.Dense(self.latent_size)
        self.decoder = nn.Sequential(
            [nn.Dense(self.hidden_size), nn.relu, nn.Dense(self.num_pixels)]
        )

    def __call__(self, x: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        hidden = nn.relu(self.hidden(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        noise = jax.random.normal(key, mean.shape)
        z = mean + jnp.exp(log_variance / 2) * noise
        return self.decoder(z), mean, log_variance


def negative_elbo(outputs: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    """Return the loss of a batch in nats per example."""
    logits, mean, log_variance = outputs
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1)
    kl = 0.5 * (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(axis=-1)
    return jnp.mean(cross_entropy + kl)


@jax.jit
def train_step(
    state: TrainState, x: jax.Array, key: jax.Array
) -> tuple[TrainState, jax.Array]:
    """Return the state after one step, and its loss."""

    def loss_fn(params: dict) -> jax.Array:
        return negative_elbo(state.apply_fn({"params": params}, x, key), x)

    loss, gradient = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=gradient), loss


def linen_loop(
    images: np.ndarray,
    *,
    hidden_size: int,
    latent_size: int,
    batch_size: int,
    learning_rate: float,
) -> Program:
    """Return an epoch over images `[num, pixels]` of 0 and 1, shuffled on the host."""
    module = LinenVAE(images.shape[1], hidden_size, latent_size)
    key = jax.random.key(0)
    variables = module.init(key, jnp.ones((batch_size, images.shape[1])), key)
    state = TrainState.create(
        apply_fn=module.apply, params=variables["params"], tx=optax.adam(learning_rate)
    )
    used = len(images) // batch_size * batch_size

    def run_epoch(state: tuple) -> tuple[tuple, list[jax.Array]]:
        train_state, key, number = state
        order = np.random.default_rng(number).permutation(len(images))[:used]
        losses = []
        for indices in order.reshape(-1, batch_size):
            key, noise_key = jax.random.split(key)
            train_state, loss = train_step(train_state, images[indices], noise_key)
            losses.append(loss)
        return (train_state, key, number + 1), losses

    return Program((state, key, 0), run_epoch)
