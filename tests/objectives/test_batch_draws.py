"""Every loss of the aggregate posterior: at neutral strengths it is the negative ELBO,
draw for draw.
"""

from functools import cache, partial

import jax
import numpy as np
import pytest
from support.cases import binary, mlp_vae, real

import vaejax
from vaejax.objectives import beta_tcvae_loss, minibatch_stratified

MODELS = {
    "bernoulli": (mlp_vae(), binary),
    "normal": (mlp_vae(vaejax.Normal, num_parameters=2), real),
}
DISCRIMINATOR = vaejax.MLP((8,), (1,))
LOSSES = {
    "beta-TCVAE, weighted": (
        partial(beta_tcvae_loss, dataset_size=50),
        {"alpha": 1.0, "beta": 1.0, "gamma": 1.0},
        {"alpha": 0.5, "beta": 4.0, "gamma": 2.0},
    ),
    "beta-TCVAE, stratified": (
        partial(
            beta_tcvae_loss, dataset_size=50, minibatch_weights=minibatch_stratified
        ),
        {"alpha": 1.0, "beta": 1.0, "gamma": 1.0},
        {"alpha": 0.5, "beta": 4.0, "gamma": 2.0},
    ),
    "DIP-VAE-I": (
        vaejax.objectives.dip_vae_loss,
        {"lambda_off_diagonal": 0.0, "lambda_diagonal": 0.0, "beta": 1.0},
        {"lambda_off_diagonal": 5.0, "lambda_diagonal": 50.0, "beta": 0.5},
    ),
    "DIP-VAE-II": (
        partial(
            vaejax.objectives.dip_vae_loss,
            covariance=vaejax.objectives.covariance_of_aggregate,
        ),
        {"lambda_off_diagonal": 0.0, "lambda_diagonal": 0.0, "beta": 1.0},
        {"lambda_off_diagonal": 5.0, "lambda_diagonal": 5.0, "beta": 0.5},
    ),
    "InfoVAE": (
        vaejax.objectives.info_vae_loss,
        {"alpha": 0.0, "lambda_marginal": 1.0},
        {"alpha": 0.5, "lambda_marginal": 100.0},
    ),
    "FactorVAE": (
        partial(vaejax.objectives.factor_vae_loss, discriminator=DISCRIMINATOR),
        {"gamma": 0.0},
        {"gamma": 5.0},
    ),
}


@cache
def model_for(loss_name, name):
    """A VAE, parameters of some size, and a batch."""
    vae, batch = MODELS[name]
    xs = batch(jax.random.key(1), 6)
    if loss_name == "FactorVAE":
        vae = vaejax.objectives.with_discriminator(vae, DISCRIMINATOR)
    return vae, vae.init(jax.random.key(0), xs[0]), xs


@cache
def negative_elbo(vae, kl_fn):
    return jax.jit(
        vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae, kl_fn=kl_fn))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss_name", LOSSES)
def test_every_loss_compiles_trains_and_at_neutral_strengths_is_the_negative_elbo(
    loss_name, name
):
    make_loss, neutral, strengths = LOSSES[loss_name]
    vae, params, xs = model_for(loss_name, name)
    loss_fn = make_loss(vae)
    value_and_grad = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, terms), gradient = value_and_grad(params, jax.random.key(3), xs, **strengths)
    assert all(
        np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, terms, gradient))
    )
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    eager_loss, eager_terms = loss_fn(params, jax.random.key(3), xs, **strengths)
    np.testing.assert_allclose(
        [loss, *terms], [eager_loss, *eager_terms], rtol=1e-4, atol=1e-5
    )

    (loss, terms), _ = value_and_grad(params, jax.random.key(3), xs, **neutral)
    kl_fn = vaejax.kl_monte_carlo if "TCVAE" in loss_name else vaejax.kl_closed_form
    elbo, elbo_terms = negative_elbo(MODELS[name][0], kl_fn)(
        params.get("vae", params), jax.random.key(3), xs
    )
    np.testing.assert_allclose(
        [loss, terms.log_likelihood, terms.kl], [elbo, *elbo_terms[:2]], rtol=1e-5
    )
