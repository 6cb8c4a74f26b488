"""Models that are written out, without the builders of the library.

They judge the skeleton: a linear model of four functions, a posterior that can be
sampled and no more, a hierarchy, and an autoregressive likelihood over padded
sequences. None has a special case in the library.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

import vaejax
from vaejax.base import END_TOKEN, VAE, Array, Key, Latents, Params
from vaejax.distributions import Normal

PIXELS = (3, 4)


def dense(key: Key, fan_in: int, fan_out: int) -> Array:
    return jax.random.normal(key, (fan_out, fan_in)) / jnp.sqrt(fan_in)


def standard_normal(size: int) -> Normal:
    return Normal(jnp.zeros(size), jnp.zeros(size))


def linear_gaussian(size: int = 2) -> VAE:
    """Four functions and no network: x = W z + b + noise (probabilistic PCA), with a
    linear encoder.
    """

    def init(key: Key, x: Array) -> Params:
        loadings_key, encoder_key = jax.random.split(key)
        return {
            "loadings": dense(loadings_key, size, x.size),
            "offset": jnp.zeros(x.size),
            "log_variance": jnp.zeros(()),
            "encoder": dense(encoder_key, x.size, size),
            "posterior_log_variance": jnp.zeros(size),
        }

    def encode(params: Params, x: Array) -> Normal:
        return Normal(
            params["encoder"] @ (x.ravel() - params["offset"]),
            params["posterior_log_variance"],
        )

    def decode(params: Params, z: Array) -> Normal:
        return Normal(
            (params["loadings"] @ z + params["offset"]).reshape(PIXELS),
            params["log_variance"],
        )

    return VAE(init, encode, lambda params: standard_normal(size), decode)


def matrix_latent() -> VAE:
    """A VAE whose z is a matrix; only its shapes matter."""

    def encode(params, x):
        return Normal(jnp.zeros((2, 2)), jnp.zeros(()))

    prior = Normal(jnp.zeros((2, 2)), jnp.zeros(()))
    return VAE(
        lambda key, x: (),
        encode,
        lambda params: prior,
        lambda params, z: Normal(0 * z[0, 0], jnp.zeros(())),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlanarFlow:
    """z = z0 + u tanh(w.z0 + b), z0 ~ base: can be sampled and no more. Rezende &
    Mohamed 2015, (10).
    """

    base: Normal
    scale: Array
    direction: Array
    bias: Array

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        z, log_prob = self.base.sample_and_log_prob(key)
        activation = jnp.tanh(self.direction @ z + self.bias)
        # u is a positive multiple of w, which keeps the map invertible.
        step = jax.nn.softplus(self.scale) * self.direction
        log_determinant = jnp.log1p((1 - activation**2) * (self.direction @ step))
        return z + step * activation, log_prob - log_determinant


def with_flow_posterior(vae: VAE, latent_size: int = 3) -> VAE:
    def init(key: Key, x: Array) -> Params:
        vae_key, flow_key = jax.random.split(key)
        flow = (
            jnp.zeros(()),
            jax.random.normal(flow_key, (latent_size,)),
            jnp.zeros(()),
        )
        return {"vae": vae.init(vae_key, x), "flow": flow}

    return VAE(
        init,
        encode=lambda params, x: PlanarFlow(
            vae.encode(params["vae"], x), *params["flow"]
        ),
        prior=lambda params: vae.prior(params["vae"]),
        decode=lambda params, z: vae.decode(params["vae"], z),
    )


# A hierarchy: p(z2) p(z1|z2) p(x|z1, path) and q(z2|x) q(z1|z2, x); the path is
# p(z1|z2), which three functions need.
def conditional_prior(params: Params, z2: Array) -> Normal:
    return Normal(jnp.tanh(params["down"] @ z2), jnp.full(3, -1.0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopDownPrior:
    params: Params

    def log_prob(self, z: Latents) -> Array:
        z1, z2 = z.values
        return standard_normal(2).log_prob(z2) + z.path.log_prob(z1)

    def sample(self, key: Key) -> Latents:
        top_key, bottom_key = jax.random.split(key)
        z2 = standard_normal(2).sample(top_key)
        path = conditional_prior(self.params, z2)
        return Latents((path.sample(bottom_key), z2), path)

    def complete(self, values: tuple[Array, Array]) -> Latents:
        return Latents(values, conditional_prior(self.params, values[1]))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopDownPosterior:
    params: Params
    features: Array

    @property
    def top(self) -> Normal:
        return Normal(self.params["top"] @ self.features, jnp.full(2, -1.0))

    def bottom(self, z2: Array) -> Normal:
        return Normal(
            self.params["bottom"] @ self.features + self.params["down"] @ z2,
            jnp.full(3, -1.0),
        )

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        top_key, bottom_key = jax.random.split(key)
        z2, log_top = self.top.sample_and_log_prob(top_key)
        z1, log_bottom = self.bottom(z2).sample_and_log_prob(bottom_key)
        return Latents(
            (z1, z2), conditional_prior(self.params, z2)
        ), log_top + log_bottom

    @property
    def mean(self) -> Latents:
        z2 = self.top.mean
        return Latents((self.bottom(z2).mean, z2), conditional_prior(self.params, z2))


def kl_per_level(
    posterior: TopDownPosterior, prior: TopDownPrior, z: Latents, log_posterior: Array
) -> Array:
    """One term a level, in closed form given the sample of the level above."""
    top = vaejax.kl_divergence(posterior.top, standard_normal(2))
    return jnp.stack([vaejax.kl_divergence(posterior.bottom(z.values[1]), z.path), top])


def hierarchical() -> VAE:
    def init(key: Key, x: Array) -> Params:
        sizes = {
            "features": (x.size, 8),
            "top": (8, 2),
            "bottom": (8, 3),
            "down": (2, 3),
            "x": (6, x.size),
        }
        keys = jax.random.split(key, len(sizes))
        return {
            name: dense(key, *size)
            for key, (name, size) in zip(keys, sizes.items(), strict=True)
        }

    def decode(params: Params, z: Latents) -> vaejax.Bernoulli:
        return vaejax.Bernoulli(
            (params["x"] @ jnp.concatenate([z.values[0], z.path.mean])).reshape(PIXELS)
        )

    return VAE(
        init,
        encode=lambda params, x: TopDownPosterior(
            params, jnp.tanh(params["features"] @ x.ravel())
        ),
        prior=TopDownPrior,
        decode=decode,
    )


# A sentence is `length` tokens, the last of them END, padded to MAX_LENGTH.
MAX_LENGTH, VOCABULARY = 6, 5


class Sentence(NamedTuple):
    tokens: Array
    length: Array


def sentence_of(tokens: Array) -> Sentence:
    """Cut after the first END, or at the maximal length; what follows is set to END."""
    is_end = (tokens == END_TOKEN).astype(jnp.int32)
    ended = jnp.cumsum(is_end) - is_end > 0
    return Sentence(
        jnp.where(ended, END_TOKEN, tokens), jnp.sum(~ended).astype(jnp.int32)
    )


def sentences(key: Key, num: int) -> Sentence:
    tokens = jax.random.randint(key, (num, MAX_LENGTH), 0, VOCABULARY, dtype=jnp.int32)
    return jax.vmap(sentence_of)(tokens)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """p(x) = prod_t p(x_t|x_<t): `log_prob` is teacher-forced, `sample` and `mode` run
    token by token.

    `step` is `(state, token) -> (state, logits)`, a Partial so that it crosses jit with
    its parameters.
    """

    start: Array
    step: jax.tree_util.Partial

    def log_prob(self, event: Sentence) -> Array:
        previous = jnp.concatenate(
            [jnp.full(1, END_TOKEN, jnp.int32), event.tokens[:-1]]
        )
        _, logits = jax.lax.scan(self.step, self.start, previous)
        log_probs = jax.vmap(
            lambda logits, token: vaejax.Categorical(logits).log_prob(token)
        )(logits, event.tokens)
        return jnp.sum(jnp.where(jnp.arange(MAX_LENGTH) < event.length, log_probs, 0))

    def sample(self, key: Key) -> Sentence:
        return self._generate(
            lambda logits, t: jax.random.categorical(jax.random.fold_in(key, t), logits)
        )

    @property
    def mode(self) -> Sentence:
        """The greedy sentence: the likeliest token at each step."""
        return self._generate(lambda logits, t: jnp.argmax(logits))

    def _generate(self, choose: Callable[[Array, Array], Array]) -> Sentence:
        def body(
            carry: tuple[Array, Array], t: Array
        ) -> tuple[tuple[Array, Array], Array]:
            state, logits = self.step(*carry)
            token = choose(logits, t).astype(jnp.int32)
            return (state, token), token

        _, tokens = jax.lax.scan(
            body,
            (self.start, jnp.asarray(END_TOKEN, jnp.int32)),
            jnp.arange(MAX_LENGTH),
        )
        return sentence_of(tokens)


def recur(params: Params, state: Array, token: Array) -> tuple[Array, Array]:
    state = jnp.tanh(params["recurrent"] @ state + params["embedding"][token])
    return state, params["readout"] @ state


def sequence() -> VAE:
    def init(key: Key, x: Sentence) -> Params:
        keys = jax.random.split(key, 5)
        return {
            "embedding": jax.random.normal(keys[0], (VOCABULARY, 8)),
            "encoder": dense(keys[1], 8, 6),
            "start": dense(keys[2], 3, 8),
            "recurrent": dense(keys[3], 8, 8),
            "readout": dense(keys[4], 8, VOCABULARY),
        }

    def encode(params: Params, x: Sentence) -> Normal:
        inside = jnp.arange(MAX_LENGTH) < x.length
        words = jnp.where(inside[:, None], params["embedding"][x.tokens], 0)
        mean, log_variance = jnp.split(
            params["encoder"] @ (jnp.sum(words, axis=0) / x.length.astype(jnp.float32)),
            2,
        )
        return Normal(mean, log_variance)

    def decode(params: Params, z: Array) -> Autoregressive:
        return Autoregressive(params["start"] @ z, jax.tree_util.Partial(recur, params))

    return VAE(init, encode, lambda params: standard_normal(3), decode)
