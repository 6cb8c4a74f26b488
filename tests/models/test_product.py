"""Any prior, posterior and likelihood train together, by any objective for them."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import twenty_lines
from support.cases import standard_promotion

import vaejax
from vaejax import distributions, networks, objectives, posteriors, priors

SIZE, FEATURES, BATCH, STEPS = 3, 4, 6, 10


class Likelihood(NamedTuple):
    """A head, and what draws examples `[BATCH, FEATURES]` that it may have made."""

    head: vaejax.HeadLike
    examples: np.ndarray


RNG = np.random.default_rng(0)
SHAPE = (BATCH, FEATURES)
LIKELIHOODS = {
    "Bernoulli": Likelihood(vaejax.Bernoulli, RNG.integers(0, 2, SHAPE)),
    "Normal": Likelihood(vaejax.Normal, RNG.normal(size=SHAPE)),
    "NegativeBinomial": Likelihood(
        distributions.NegativeBinomial, RNG.poisson(3, SHAPE)
    ),
    "DiscretizedLogistic": Likelihood(
        distributions.DiscretizedLogistic, RNG.integers(0, 256, SHAPE) / 255
    ),
}
POSTERIORS = {
    "diagonal": vaejax.normal_head(),
    "full covariance": distributions.full_covariance_normal_head(SIZE),
    "IAF": posteriors.flow_head(
        networks.inverse_autoregressive_layers(SIZE, num_context=1, num_layers=1)
    ),
    "RealNVP": posteriors.flow_head(
        networks.coupling_layers(SIZE, num_context=1, num_layers=2)
    ),
    "Sylvester": posteriors.flow_head(networks.sylvester_layers(SIZE, num_layers=1)),
}
PRIORS = {
    "Normal": lambda vae: vae,
    "mixture": partial(priors.with_mixture_prior, num_components=4),
    "VampPrior": partial(
        priors.with_vamp_prior, num_components=4, to_support=lambda inputs: inputs
    ),
    "flow": partial(
        priors.with_flow_prior, layers=networks.coupling_layers(SIZE, num_layers=2)
    ),
    "a user's": partial(twenty_lines.with_logistic_prior, size=SIZE),
}
# What has no log_prob of any z serves neither as components nor in DReG.
WITHOUT_DENSITY = {"Sylvester"}
OBJECTIVES = {
    "ELBO": partial(vaejax.negative_elbo, kl_fn=vaejax.kl_monte_carlo),
    "IWAE": partial(vaejax.negative_iwae, num_samples=3),
    "DReG": partial(objectives.negative_dreg, num_samples=3),
}
PARTS = (PRIORS, POSTERIORS, LIKELIHOODS, OBJECTIVES)
# A few are tested at every change: each part is among them.
EVERY = [
    pytest.param(*names, marks=[] if number % 70 == 9 else [pytest.mark.slow])
    for number, names in enumerate(itertools.product(*PARTS))
]


def make_vae(prior: str, posterior: str, likelihood: str) -> vaejax.VAE:
    head = distributions.as_head(LIKELIHOODS[likelihood].head)
    extra = () if head.num_parameters == 1 else (head.num_parameters,)
    vae = vaejax.gaussian_vae(
        latent_size=SIZE,
        encoder=vaejax.MLP((8,)),
        decoder=vaejax.MLP((8,), (FEATURES, *extra)),
        likelihood=head,
        posterior=POSTERIORS[posterior],
    )
    return PRIORS[prior](vae)


@pytest.mark.parametrize(("prior", "posterior", "likelihood", "objective"), EVERY)
def test_ten_steps_have_finite_gradients(prior, posterior, likelihood, objective):
    vae = make_vae(prior, posterior, likelihood)
    batch = jnp.asarray(LIKELIHOODS[likelihood].examples, jnp.float32)
    loss_fn = vaejax.mean_over_batch(partial(OBJECTIVES[objective], vae))
    if posterior in WITHOUT_DENSITY and prior == "VampPrior":
        with pytest.raises(TypeError, match="log_prob"):
            vae.init(jax.random.key(0), batch[0])
        return
    start = jax.jit(vae.init)(jax.random.key(0), batch[0])
    if posterior in WITHOUT_DENSITY and objective == "DReG":
        with pytest.raises(TypeError, match="log_prob"):
            loss_fn(start, jax.random.key(1), batch)
        return
    optimizer = standard_promotion(optax.adam(1e-2))

    @jax.jit
    def train(key):
        def step(carry, key):
            params, opt_state = carry
            (loss, _), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
                params, key, batch
            )
            updates, opt_state = optimizer.update(gradient, opt_state)
            params = optax.apply_updates(params, updates)
            return (params, opt_state), (loss, gradient)

        carry = (start, optimizer.init(start))
        return jax.lax.scan(step, carry, jax.random.split(key, STEPS))

    (params, _), (losses, gradients) = train(jax.random.key(1))
    assert np.all(np.isfinite(losses))
    for path, leaf in jax.tree.leaves_with_path(gradients):
        place = jax.tree_util.keystr(path)
        assert np.all(np.isfinite(leaf)), place
        assert np.any(leaf != 0), place
    moved = jax.tree.map(lambda a, b: np.any(a != b), params, start)
    assert all(jax.tree.leaves(moved))


def test_every_part_is_among_those_of_every_change():
    quick = [param.values for param in EVERY if not param.marks]
    assert len(EVERY) == 300 and len(quick) == 5
    for place, names in enumerate(PARTS):
        assert {values[place] for values in quick} == names.keys()
