"""A conditional VAE as one VAE, which the harness trains and evaluates like any other.

A family `condition -> VAE` becomes a model of examples that hold their condition: the
posterior of such an example draws z together with the condition, which the decoder
reads from there. Losses need none of this; they take
`models.conditional(objective, family)`.
"""

import dataclasses
from typing import Any

import jax

import vaejax
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Event,
    Key,
    Latent,
    Latents,
    Params,
    PyTree,
    values,
)
from vaejax.models import Conditioned, VAEFamily


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beside:
    """Distribution of z whose draws hold a condition beside it.

    Attributes:
      distribution: the distribution of z.
      condition: the condition; None where there is none, as in a prior of all.
    """

    distribution: Any
    condition: PyTree

    def log_prob(self, event: Latent) -> Array:
        return self.distribution.log_prob(values(event))

    def sample(self, key: Key) -> Latents:
        return Latents(self.distribution.sample(key), self.condition)

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        z, log_prob = self.distribution.sample_and_log_prob(key)
        return Latents(z, self.condition), log_prob

    @property
    def mean(self) -> Latents:
        return Latents(self.distribution.mean, self.condition)

    @property
    def mode(self) -> Latents:
        return Latents(self.distribution.mode, self.condition)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OfExamples:
    """Distribution of the x of examples that hold their condition.

    Attributes:
      distribution: p(x|z, condition).
    """

    distribution: Any

    def log_prob(self, event: Event) -> Array:
        return self.distribution.log_prob(event.x)

    @property
    def mean(self) -> Event:
        return self.distribution.mean


def as_one_vae(family: VAEFamily, condition: PyTree) -> VAE:
    """Return the VAE of `Conditioned` examples, whose parameters are the family's.

    Args:
      family: a function from a condition to a VAE, with one prior for all conditions.
      condition: any condition, for the prior.
    """

    def init(key: Key, example: Conditioned) -> Params:
        return family(example.condition).init(key, example.x)

    def encode(params: Params, example: Conditioned) -> Distribution:
        posterior = family(example.condition).encode(params, example.x)
        return Beside(posterior, example.condition)

    def prior(params: Params) -> Distribution:
        return Beside(family(condition).prior(params), None)

    def decode(params: Params, z: Latents) -> Distribution:
        # Scored only: a draw would be of x, without its condition.
        likelihood: Any = OfExamples(family(z.path).decode(params, z.values))
        return likelihood

    return VAE(init, encode, prior, decode)


def kl_closed_form(
    posterior: Beside, prior: Beside, z: Latent, log_posterior: Array
) -> Array:
    """Return the closed form of KL(q(z|x) || p(z)) as one term, in nats."""
    return vaejax.kl_closed_form(
        posterior.distribution, prior.distribution, z, log_posterior
    )
