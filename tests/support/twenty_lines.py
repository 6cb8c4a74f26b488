"""A prior, a posterior and a likelihood that the library lacks, in twenty lines each.

They are written as a user writes them, from public names alone, and as a row of
cases.py they pass the tests that every model of the library does.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

import vaejax
from vaejax import distributions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Logistic:
    """As a prior: density s / (4 cosh^2(s z / 2)) of each dimension, s its slope."""

    slope: jax.Array

    def log_prob(self, z):
        u = self.slope * z
        return jnp.sum(
            jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u) + jnp.log(self.slope)
        )

    def sample(self, key):
        return jax.random.logistic(key, self.slope.shape) / self.slope


def with_logistic_prior(vae, size):
    return vae._replace(
        init=lambda key, x: vae.init(key, x) | {"slope": jnp.zeros(size)},
        prior=lambda params: Logistic(jnp.exp(params["slope"])),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gumbel:
    """As a posterior: z = location + scale g, for g of density exp(-g - exp(-g))."""

    location: jax.Array
    log_scale: jax.Array

    def sample_and_log_prob(self, key):
        g = jax.random.gumbel(key, self.location.shape)
        z = self.location + jnp.exp(self.log_scale) * g
        return z, -jnp.sum(g + jnp.exp(-g) + self.log_scale)

    @property
    def mean(self):
        return self.location + jnp.euler_gamma * jnp.exp(self.log_scale)


gumbel_head = distributions.parameter_free_head(Gumbel, num_parameters=2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exponential:
    """As a likelihood: density exp(log_rate - exp(log_rate) x) of positive values."""

    log_rate: jax.Array
    support: ClassVar[vaejax.base.Support] = vaejax.base.Support(
        "non-negative numbers", lambda x: (x >= 0) & (x < math.inf)
    )

    def log_prob(self, x):
        outside = jnp.where(x < 0, -jnp.inf, 0)
        return jnp.sum(self.log_rate - jnp.exp(self.log_rate) * x + outside)

    def sample(self, key):
        return jax.random.exponential(key, self.log_rate.shape) * jnp.exp(
            -self.log_rate
        )

    mean = property(lambda self: jnp.exp(-self.log_rate))


exponential_head = distributions.parameter_free_head(Exponential)
