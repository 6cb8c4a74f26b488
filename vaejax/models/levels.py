"""Distributions over a latent of several levels, z = (z_1, ..., z_L), z_1 nearest to x.

The generative model descends: p(z_L) p(z_(L-1)|z_L) ... p(z_1|z_2). A posterior
descends with it or climbs from x. What one level needs of its neighbor is a function
held as a `jax.tree_util.Partial`, so that the distributions cross `jit` and `vmap`.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_key, described, require
from vaejax._reals import at_least_single
from vaejax._supports import check_densities
from vaejax.base import Array, Key, Latents, draw
from vaejax.distributions import Normal, kl_divergence

#: `z_(l+1) -> p(z_l|z_(l+1))` and its likes, which hold their parameters.
Conditional = jax.tree_util.Partial
#: `(level, its distribution) -> (z_l, log-density)`: how a posterior passes a level.
ChooseLevel = Callable[[int, Any], tuple[Any, Array]]


class DrawnLevel(NamedTuple):
    """The distribution that one level was drawn from, and the log-density of the draw.

    Attributes:
      distribution: q(z_l|x, the levels drawn before).
      log_prob: scalar, in nats.
    """

    distribution: Any
    log_prob: Array


class LevelStates(NamedTuple):
    """The path of a latent of several levels.

    Attributes:
      prior: p(z_l|z_(l+1)) of every level but the top one, from the bottom.
      posterior: the `DrawnLevel` of every level, from the bottom, where a posterior
        drew the latent; None where it comes of the prior or was edited.
    """

    prior: tuple[Any, ...]
    posterior: tuple[DrawnLevel, ...] | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopDownPrior:
    """p(z) = p(z_L) p(z_(L-1)|z_L) ... p(z_1|z_2).

    Attributes:
      top: p(z_L).
      conditionals: `z_(l+1) -> p(z_l|z_(l+1))` of every level but the top one, from the
        bottom.
    """

    top: Any
    conditionals: tuple[Conditional, ...]

    def log_prob(self, event: Latents) -> Array:
        event = _as_latents(self, event)
        return _total(
            level.log_prob(z)
            for level, z in zip(self.levels(event), event.values, strict=True)
        )

    def sample(self, key: Key) -> Latents:
        check_key(key)
        keys = tuple(jax.random.split(key, len(self.conditionals) + 1))
        zs, states = [draw(keys[-1], self.top)], []
        for conditional, key in zip(self.conditionals[::-1], keys[-2::-1], strict=True):
            states.insert(0, conditional(zs[0]))
            zs.insert(0, draw(key, states[0]))
        return Latents(tuple(zs), LevelStates(tuple(states), None))

    def complete(self, values: Sequence[Any]) -> Latents:
        """Return the latent of these levels, from the bottom, with its path."""
        num = len(self.conditionals) + 1
        if len(values) != num:
            raise ValueError(
                f"complete: there are {len(values)} values of levels; give {num}, from "
                "the bottom."
            )
        states = _states(self.conditionals, values)
        return Latents(tuple(values), LevelStates(states, None))

    def descend(self, values: Sequence[Any]) -> Latents:
        """Return the latent of these highest levels, with the others at their means.

        The mean of z_l is that of p(z_l|z_(l+1)). It shows what a level does by itself,
        where x depends on z_1 alone.
        """
        num = len(self.conditionals) + 1
        if not 1 <= len(values) <= num:
            raise ValueError(
                f"descend: there are {len(values)} values of levels; give those of the "
                f"highest, from 1 to {num} of them."
            )
        num_below = num - len(values)
        zs, states = list(values), [*_states(self.conditionals[num_below:], values)]
        for conditional in self.conditionals[:num_below][::-1]:
            states.insert(0, conditional(zs[0]))
            zs.insert(0, states[0].mean)
        return Latents(tuple(zs), LevelStates(tuple(states), None))

    def levels(self, z: Latents) -> tuple[Any, ...]:
        """Return p(z_l|z_(l+1)) of every level, from the bottom; the last is p(z_L)."""
        return (*z.path.prior, self.top)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopDownPosterior:
    """q(z|x) = q(z_L|x) q(z_(L-1)|z_L, x) ... q(z_1|z_2, x).

    Attributes:
      top: q(z_L|x).
      conditionals: `(z_(l+1), p(z_l|z_(l+1))) -> q(z_l|z_(l+1), x)` of every level but
        the top one, from the bottom.
      prior_conditionals: those of the prior, which make the path.
    """

    top: Any
    conditionals: tuple[Conditional, ...]
    prior_conditionals: tuple[Conditional, ...]

    def log_prob(self, event: Latents) -> Array:
        event = _as_latents(self, event)
        zs = event.values
        parts = zip(self.conditionals, zs[1:], event.path.prior, zs[:-1], strict=True)
        below = (
            conditional(above, state).log_prob(z)
            for conditional, above, state, z in parts
        )
        return _total([self.top.log_prob(zs[-1]), *below])

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        return _draw_levels(key, len(self.conditionals) + 1, self._descend)

    @property
    def mean(self) -> Latents:
        """The mean of each level, given the means of the levels above."""
        return self._descend(_mean_of_level)

    def kl_per_level(self, prior: TopDownPrior, z: Latents) -> Array:
        """Return KL(q(z_l|z_(l+1), x) || p(z_l|z_(l+1))) at a draw of the levels above.

        It is `[levels]`, from the bottom; an estimate from the draw of the level itself
        where no closed form is known.
        """
        parts = zip(_drawn(self, z), _levels_of(prior, z), z.values, strict=True)
        return jnp.stack([_kl_of_level(*part) for part in parts])

    def _descend(self, choose: ChooseLevel) -> Latents:
        """Return the latent whose levels are chosen from the top."""
        num = len(self.conditionals)
        z, log_prob = choose(num, self.top)
        zs, states, drawn = [z], [], [DrawnLevel(self.top, log_prob)]
        for level in reversed(range(num)):
            states.insert(0, self.prior_conditionals[level](zs[0]))
            distribution = self.conditionals[level](zs[0], states[0])
            z, log_prob = choose(level, distribution)
            zs.insert(0, z)
            drawn.insert(0, DrawnLevel(distribution, log_prob))
        return Latents(tuple(zs), LevelStates(tuple(states), tuple(drawn)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BottomUpPosterior:
    """q(z|x) = q(z_1|x) q(z_2|z_1) ... q(z_L|z_(L-1)).

    Attributes:
      bottom: q(z_1|x).
      conditionals: `z_(l-1) -> q(z_l|z_(l-1))` of every level but the lowest, from the
        bottom.
      prior_conditionals: those of the prior, which make the path.
    """

    bottom: Any
    conditionals: tuple[Conditional, ...]
    prior_conditionals: tuple[Conditional, ...]

    def log_prob(self, event: Latents) -> Array:
        zs = _as_latents(self, event).values
        parts = zip(self.conditionals, zs[:-1], zs[1:], strict=True)
        above = (conditional(below).log_prob(z) for conditional, below, z in parts)
        return _total([self.bottom.log_prob(zs[0]), *above])

    def sample_and_log_prob(self, key: Key) -> tuple[Latents, Array]:
        return _draw_levels(key, len(self.conditionals) + 1, self._climb)

    @property
    def mean(self) -> Latents:
        """The mean of each level, given the means of the levels below."""
        return self._climb(_mean_of_level)

    def kl_per_level(self, prior: TopDownPrior, z: Latents) -> Array:
        """Return log q(z_l|z_(l-1)) - log p(z_l|z_(l+1)) at the draw, and a KL on top.

        It is `[levels]`, from the bottom. Only the level above which there is none has
        a closed form, KL(q(z_L|z_(L-1)) || p(z_L)), where both are of a known pair.
        """
        drawn, priors = _drawn(self, z), _levels_of(prior, z)
        below = zip(drawn[:-1], priors[:-1], z.values[:-1], strict=True)
        terms = [level.log_prob - p.log_prob(value) for level, p, value in below]
        top = _kl_of_level(drawn[-1], priors[-1], z.values[-1])
        return jnp.stack([*terms, top])

    def _climb(self, choose: ChooseLevel) -> Latents:
        """Return the latent whose levels are chosen from the bottom."""
        zs, drawn, distribution = [], [], self.bottom
        for level in range(len(self.conditionals) + 1):
            if level > 0:
                distribution = self.conditionals[level - 1](zs[-1])
            z, log_prob = choose(level, distribution)
            zs.append(z)
            drawn.append(DrawnLevel(distribution, log_prob))
        states = _states(self.prior_conditionals, zs)
        return Latents(tuple(zs), LevelStates(states, tuple(drawn)))


def product_with_prior(bottom_up: Normal, above: Array, prior: Normal) -> Normal:
    """Return the normalized product of N_l and p(z_l|z_(l+1)), two Normals."""
    del above
    for level in (bottom_up, prior):
        if not isinstance(level, Normal):
            raise TypeError(
                f"ladder_vae: a head makes a {type(level).__name__}; give heads of "
                "Normals, whose product is known."
            )
    # `product_of_normals` of two, without an axis of experts: a ladder takes this path
    # at every level, and stacking costs more than the product.
    (mean, log_variance), (prior_mean, prior_log_variance) = (
        (at_least_single(level.mean), at_least_single(level.log_variance))
        for level in (bottom_up, prior)
    )
    least = jax.lax.stop_gradient(jnp.minimum(log_variance, prior_log_variance))
    precision = jnp.exp(least - log_variance)
    total = precision + jnp.exp(least - prior_log_variance)
    product = prior_mean + precision / total * (mean - prior_mean)
    dtype = jnp.result_type(bottom_up.mean, prior.mean)
    log_variance = jnp.broadcast_to(least - jnp.log(total), product.shape)
    return Normal(product.astype(dtype), log_variance.astype(dtype))


def _kl_of_level(level: DrawnLevel, prior: Any, z: Any) -> Array:
    try:
        return kl_divergence(level.distribution, prior)
    except TypeError:  # no closed form is known
        return level.log_prob - prior.log_prob(z)


def _draw_levels(
    key: Key, num_levels: int, pass_through: Callable[[ChooseLevel], Latents]
) -> tuple[Latents, Array]:
    """Draw each level by a key of its own, in whichever order a posterior passes."""
    check_key(key)
    keys = tuple(jax.random.split(key, num_levels))

    def choose(level: int, distribution: Any) -> tuple[Any, Array]:
        return distribution.sample_and_log_prob(keys[level])

    z = pass_through(choose)
    # Every p(z_L) is of this kind.
    top = Normal(jnp.zeros(()), jnp.zeros(()))
    for level, prior, value in zip(
        z.path.posterior, (*z.path.prior, top), z.values, strict=True
    ):
        check_densities("a level of z", level.distribution, prior, value)
    return z, _total(level.log_prob for level in z.path.posterior)


def _mean_of_level(level: int, distribution: Any) -> tuple[Any, Array]:
    # The log-density of a mean is asked for by nobody.
    return require(distribution, "mean"), jnp.zeros(())


def _total(log_probs: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, log_probs)


def _states(conditionals: Sequence[Conditional], zs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        conditional(above)
        for conditional, above in zip(conditionals, zs[1:], strict=True)
    )


def _levels_of(prior: Any, z: Latents) -> tuple[Any, ...]:
    remedy = "give the prior of the VAE that has this posterior"
    return require(prior, "levels", remedy)(z)


def _drawn(posterior: Any, z: Latents) -> tuple[DrawnLevel, ...]:
    z = _as_latents(posterior, z)
    if z.path.posterior is None:
        raise TypeError(
            "kl_per_level: z was not drawn from the posterior; give the z of "
            "posterior.sample_and_log_prob(key), or take kl_monte_carlo."
        )
    return z.path.posterior


def _as_latents(distribution: Any, z: Any) -> Latents:
    if not (isinstance(z, Latents) and isinstance(z.path, LevelStates)):
        raise TypeError(
            f"{type(distribution).__name__}: the latent z is {described(z)}; give "
            "Latents with their path, vae.prior(params).complete(values)."
        )
    return z
