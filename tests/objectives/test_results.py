"""Densities of other libraries are judged by their results: one number of one event."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as numpyro
import pytest
from support.families import in_numpyro

import vaejax
from vaejax import VAE, Normal, estimators, objectives

X, KEY = jnp.ones(3), jax.random.key(0)
PATH = estimators.AnnealingPath(
    num_temperatures=2,
    num_leapfrog=1,
    step_sizes=jnp.ones(2),
    initial=estimators.start_at_posterior,
)
MONTE_CARLO = {"kl_fn": vaejax.kl_monte_carlo}
LANDING = {"kl_fn": objectives.kl_sticking_the_landing}
FUNCTIONS = {
    "negative_elbo": partial(objectives.negative_elbo, **MONTE_CARLO),
    "negative_elbo, landing": partial(objectives.negative_elbo, **LANDING),
    "negative_iwae": partial(objectives.negative_iwae, num_samples=2),
    "negative_piwae": partial(objectives.negative_piwae, num_groups=1, num_samples=2),
    "negative_dreg": partial(objectives.negative_dreg, num_samples=2),
    "log_weight": objectives.log_weight,
    "log_marginal": partial(estimators.log_marginal, num_samples=2),
    "annealed_importance_sampling": partial(
        estimators.annealed_importance_sampling, path=PATH, num_chains=2
    ),
    "optimal_posterior": partial(estimators.optimal_posterior, **MONTE_CARLO),
    "dip_vae_loss": lambda vae, params, key, x: objectives.dip_vae_loss(
        vae, **MONTE_CARLO
    )(params, key, jnp.stack([x, x])),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByDimension:
    """A density that keeps the axis of its dimensions."""

    normal: Any

    @property
    def mean(self):
        return self.normal.mean

    def sample(self, key):
        return self.normal.sample(key)

    def log_prob(self, event):
        return -jnp.square(event - self.normal.mean)

    def sample_and_log_prob(self, key):
        event = self.sample(key)
        return event, self.log_prob(event)


def model(part: str) -> VAE:
    """A model of which one part keeps an axis."""

    def made(name, size):
        normal = Normal(jnp.zeros(size), jnp.zeros(size))
        return ByDimension(normal) if name == part else normal

    return VAE(
        init=lambda key, x: (),
        encode=lambda params, x: made("posterior", 2),
        prior=lambda params: made("prior", 2),
        decode=lambda params, z: made("likelihood", 3),
    )


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (name, part)
        for name in FUNCTIONS
        for part in ("posterior", "prior", "likelihood")
        # The DIP-VAE takes no posterior but a Normal.
        if (name, part) != ("dip_vae_loss", "posterior")
    ],
)
def test_a_log_density_that_is_no_scalar_is_refused_while_tracing(name, part):
    size = 3 if part == "likelihood" else 2
    with pytest.raises(ValueError, match=rf"shape \({size},\); .*one number"):
        jax.eval_shape(partial(FUNCTIONS[name], model(part)), (), KEY, X)


def test_numpyro_is_judged_under_vmap_too():
    def loss(make):
        vae = model("none")._replace(prior=lambda params: make())
        loss_fn = vaejax.mean_over_batch(
            partial(vaejax.negative_elbo, vae, kl_fn=vaejax.kl_monte_carlo)
        )
        return lambda: loss_fn((), KEY, jnp.ones((4, 3)))[0]

    whole = in_numpyro(loss(lambda: numpyro.Normal(jnp.zeros(2), 1.0).to_event(1)))
    assert whole.shape == ()
    with pytest.raises(
        ValueError, match=r"Normal.log_prob: .*shape \(2,\); .*to_event"
    ):
        in_numpyro(loss(lambda: numpyro.Normal(jnp.zeros(2), 1.0)))
