"""Small VAEs whose encoder shares parameters with prior and decoder: a flat one, a
two-layer one and a ladder.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaejax import VAE, Latents, Normal
from vaejax.base import Array, Key, Params, PyTree

X_SIZE = 3
SIZES = {
    "up": (4, X_SIZE),
    "top": (1, 4),
    "bottom": (2, 4),
    "down": (3, 1),
    "state": (2, 3),
    "out": (X_SIZE, 5),
    "tied": (X_SIZE, 2),
}


def init(key: Key, x: Array) -> Params:
    del x
    keys = jax.random.split(key, len(SIZES))
    return {
        name: jax.random.normal(key, size) / jnp.sqrt(float(size[1]))
        for key, (name, size) in zip(keys, SIZES.items(), strict=True)
    }


def standard_normal(size: int) -> Normal:
    return Normal(jnp.zeros(size), jnp.zeros(size))


def flat() -> VAE:
    """Encoder and decoder have one matrix: q(z|x) = N(tied^T x, .)."""
    return VAE(
        init,
        encode=lambda params, x: Normal(params["tied"].T @ x, jnp.full(2, -1.0)),
        prior=lambda params: Normal(params["tied"][0], jnp.zeros(2)),
        decode=lambda params, z: Normal(
            jnp.tanh(params["tied"] @ z), jnp.full(X_SIZE, -1.0)
        ),
    )


def top_down(params: Params, z2: Array) -> tuple[Array, Normal]:
    """The path: a state that z2 leads to, and p(z1|z2)."""
    state = jnp.tanh(params["down"] @ z2)
    return state, Normal(params["state"] @ state, jnp.full(2, -0.5))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prior:
    params: Params

    def log_prob(self, z: Latents) -> Array:
        z1, z2 = z.values
        return standard_normal(1).log_prob(z2) + z.path[1].log_prob(z1)

    def complete(self, values: PyTree) -> Latents:
        return Latents(values, top_down(self.params, values[1]))


@dataclasses.dataclass(frozen=True)
class Posterior:
    """q(z2|x) q(z1|z2, x); `bottom` is `(params, features, path) -> q(z1|z2, x)`."""

    params: Params
    features: Array
    bottom: Callable[..., Normal]

    @property
    def top(self) -> Normal:
        return Normal(self.params["top"] @ self.features, jnp.full(1, -0.5))

    def log_prob(self, z: Latents) -> Array:
        z1, z2 = z.values
        bottom = self.bottom(self.params, self.features, z.path)
        return self.top.log_prob(z2) + bottom.log_prob(z1)

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        top_key, bottom_key = jax.random.split(key)
        z2, log_top = self.top.sample_and_log_prob(top_key)
        path = top_down(self.params, z2)
        bottom = self.bottom(self.params, self.features, path)
        z1, log_bottom = bottom.sample_and_log_prob(bottom_key)
        return Latents((z1, z2), path), log_top + log_bottom


jax.tree_util.register_dataclass(
    Posterior, data_fields=["params", "features"], meta_fields=["bottom"]
)


def of_state(params: Params, features: Array, path: PyTree) -> Normal:
    """Two layers: the mean of z1 depends on x and on the state."""
    mean = params["bottom"] @ features + params["state"] @ path[0]
    return Normal(mean, jnp.full(2, -1.0))


def of_both_directions(params: Params, features: Array, path: PyTree) -> Normal:
    """A ladder: p(z1|z2) times a normal of the features, weighted by precision."""
    prior, mean = path[1], params["bottom"] @ features
    precisions = jnp.exp(-prior.log_variance), jnp.exp(jnp.full(2, 0.5))
    total = precisions[0] + precisions[1]
    return Normal(
        (precisions[0] * prior.mean + precisions[1] * mean) / total, -jnp.log(total)
    )


def hierarchy(bottom: Callable[..., Normal]) -> VAE:
    """The encoder's features pass the decoder's matrix too, and the decoder reads z1
    and the state.
    """

    def encode(params: Params, x: Array) -> Posterior:
        features = jnp.tanh(params["up"] @ x + params["out"][:, :4].T @ x)
        return Posterior(params, features, bottom)

    def decode(params: Params, z: Latents) -> Normal:
        inputs = jnp.concatenate([z.values[0], z.path[0]])
        return Normal(params["out"] @ inputs, jnp.full(X_SIZE, -1.0))

    return VAE(init, encode, Prior, decode)


MODELS = {
    "flat": flat(),
    "two-layer": hierarchy(of_state),
    "ladder": hierarchy(of_both_directions),
}
