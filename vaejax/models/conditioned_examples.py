"""A family of VAEs as one VAE, of examples that hold their conditions.

Tools that take a batch of examples then take one whose rows have conditions of their
own. Read `families.py` first.
"""

import dataclasses
from functools import partial
from typing import Any

import jax

from vaejax._checks import (
    check_function,
    described,
    log_prob_of,
    sample_and_log_prob_of,
)
from vaejax._supports import read_support
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Event,
    Key,
    Latents,
    Params,
    PyTree,
    Support,
    complete,
    draw,
)
from vaejax.distributions import kl_divergence
from vaejax.models._conditions import Path, beside, inner
from vaejax.models.families import Conditioned, VAEFamily, _as_conditioned


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Posterior:
    """q(z|x, condition), whose draws hold the condition for the decoder."""

    distribution: Any
    condition: PyTree

    def log_prob(self, event: Latents) -> Array:
        return log_prob_of(self.distribution, inner(event))

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        z, log_prob = sample_and_log_prob_of(self.distribution, key)
        return beside(z, self.condition), log_prob

    def sample(self, key: Key) -> Latents:
        return beside(draw(key, self.distribution), self.condition)

    def kl_divergence(self, prior: Any) -> Array:
        if not isinstance(prior, _Prior):
            raise TypeError(
                f"kl_divergence: the prior is {type(prior).__name__}; give that of the "
                "same conditional_vae."
            )
        return kl_divergence(self.distribution, prior.given(self.condition))

    @property
    def kl_per_level(self) -> Any:
        """That of the posterior of the member, where it has one."""
        of_member = self.distribution.kl_per_level
        return lambda prior, z: of_member(prior.given(self.condition), inner(z))

    @property
    def support(self) -> Support | None:
        return read_support(self.distribution)

    @property
    def mean(self) -> Latents:
        return beside(self.distribution.mean, self.condition)

    @property
    def mode(self) -> Latents:
        return beside(self.distribution.mode, self.condition)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "condition"],
    meta_fields=["family"],
)
@dataclasses.dataclass(frozen=True)
class _Prior:
    """p(z|condition) of the condition that z holds; draws are of one condition."""

    params: Params
    condition: PyTree
    family: VAEFamily

    def given(self, condition: PyTree) -> Any:
        return self.family(condition).prior(self.params)

    def log_prob(self, event: Latents) -> Array:
        return log_prob_of(self.given(event.path.condition), inner(event))

    def of_example(self, x: Conditioned) -> Any:
        """Return p(z|condition) of the condition of an example."""
        example = _as_conditioned("conditional_vae", x)
        return dataclasses.replace(self, condition=example.condition)

    @property
    def support(self) -> Support | None:
        return read_support(self.given(self.condition))

    def sample(self, key: Key) -> Latents:
        return beside(draw(key, self.given(self.condition)), self.condition)

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        z, log_prob = sample_and_log_prob_of(self.given(self.condition), key)
        return beside(z, self.condition), log_prob

    def complete_like(self, like: Latents, edited: PyTree) -> Latents:
        condition = like.path.condition
        z = complete(self.family(condition), self.params, inner(like), edited)
        return beside(z, condition)

    @property
    def mean(self) -> Latents:
        return beside(self.given(self.condition).mean, self.condition)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "z"],
    meta_fields=["family"],
)
@dataclasses.dataclass(frozen=True)
class _Likelihood:
    """p(x|z, condition): a score under the condition of the example, points of x alone.

    Points are under the condition that z holds.
    """

    params: Params
    z: Latents
    family: VAEFamily

    def given(self, condition: PyTree) -> Any:
        return self.family(condition).decode(self.params, inner(self.z))

    def log_prob(self, event: Conditioned) -> Array:
        return log_prob_of(*self.of_scored(event))

    def of_scored(self, event: Conditioned) -> tuple[Any, Any]:
        """Return the distribution of what is scored of an example, and that part."""
        example = _as_conditioned("conditional_vae", event)
        return self.given(example.condition), example.x

    def sample(self, key: Key) -> Event:
        return draw(key, self.given(self.z.path.condition))

    @property
    def mean(self) -> Event:
        return self.given(self.z.path.condition).mean

    @property
    def mode(self) -> Event:
        return self.given(self.z.path.condition).mode


def conditional_vae(family: VAEFamily, *, condition: PyTree) -> VAE:
    """Return the VAE of examples that hold their conditions, made of a family.

    Its examples are `Conditioned(x, condition)`, so that `embed`, `reconstruct`, the
    statistics of codes, evaluation and the encoder of `export` take a batch whose rows
    have conditions of their own. A latent is a `Latents` of the values of z, with the
    condition in its path: tools that move z keep the condition (`interpolate` that of
    its first example), and what they decode is of x. The prior is p(z|condition) of the
    condition that a latent holds. `conditional` is the shorter way to train.

    Apply modifiers such as `with_compute_dtype` to the members, within the family: this
    VAE decodes when its likelihood is used.

    Args:
      family: a function from a condition to a VAE.
      condition: the condition of what is drawn from the prior, by `sample` and by an
        exported file, such as a class that is one-hot.

    Returns:
      The VAE, whose parameters are those of the family. It raises TypeError for an
      example that is not `Conditioned`.

    Raises:
      TypeError: `family` is not a function.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.models import Conditioned, conditional_vae
      >>> from vaejax.networks import with_condition
      >>> def family(label):
      ...     return vaejax.gaussian_vae(
      ...         latent_size=2,
      ...         encoder=with_condition(vaejax.MLP((8,)), label),
      ...         decoder=with_condition(vaejax.MLP((8,), (3,)), label),
      ...     )
      >>> labels = jax.nn.one_hot(jnp.array([0, 1, 1, 0]), 2)
      >>> vae = conditional_vae(family, condition=labels[0])
      >>> rows = Conditioned(jnp.ones((4, 3)), labels)
      >>> params = family(labels[0]).init(jax.random.key(0), rows.x[0])
      >>> vaejax.embed(vae, params, rows).shape
      (4, 2)
      >>> vaejax.reconstruct(vae, params, jax.random.key(1), rows).shape
      (4, 3)

    Source: Sohn et al. 2015, equation 4.
    """
    check_function("conditional_vae: family", family)

    def init(key: Key, x: Conditioned) -> Params:
        example = _as_conditioned("conditional_vae", x)
        return family(example.condition).init(key, example.x)

    def encode(params: Params, x: Conditioned) -> Distribution:
        example = _as_conditioned("conditional_vae", x)
        posterior = family(example.condition).encode(params, example.x)
        return _Posterior(posterior, example.condition)

    def prior(params: Params) -> Any:  # has no mode
        return _Prior(params, condition, family)

    def decode(params: Params, z: Latents) -> Any:
        if not (isinstance(z, Latents) and isinstance(z.path, Path)):
            raise TypeError(
                f"conditional_vae: the latent z is {described(z)}; give one that this "
                "VAE's encode or prior draws, or decode z by family(condition)."
            )
        return _Likelihood(params, z, family)

    return VAE(init, encode, prior, decode)
