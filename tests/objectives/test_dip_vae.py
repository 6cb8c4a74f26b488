"""DIP-VAE: its covariances and penalties against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cases import binary, mlp_vae
from support.prototypes import with_flow_posterior

import vaejax
from vaejax import Normal
from vaejax.objectives import dip_vae_loss

VAE = mlp_vae()
XS = binary(jax.random.key(1), 6)
PARAMS = jax.jit(VAE.init)(jax.random.key(0), XS[0])


@pytest.mark.parametrize("of_aggregate", [False, True])
def test_dip_penalties_against_numpy(of_aggregate):
    posteriors = jax.jit(jax.vmap(partial(VAE.encode, PARAMS)))(XS)
    covariance = np.cov(np.asarray(posteriors.mean).T, ddof=0)
    if of_aggregate:
        covariance += np.diag(np.exp(posteriors.log_variance).mean(axis=0))
    off_diagonal = np.square(covariance[~np.eye(3, dtype=bool)]).sum()
    diagonal = np.square(np.diagonal(covariance) - 1).sum()
    choice = (
        {"covariance": vaejax.objectives.covariance_of_aggregate}
        if of_aggregate
        else {}
    )
    loss_fn = jax.jit(dip_vae_loss(VAE, **choice))
    loss, terms = loss_fn(
        PARAMS,
        jax.random.key(2),
        XS,
        lambda_off_diagonal=3.0,
        lambda_diagonal=2.0,
        beta=0.5,
    )
    assert off_diagonal > 1e-3
    np.testing.assert_allclose(terms[2:], [off_diagonal, diagonal], rtol=1e-4)
    expected = 0.5 * terms.kl - terms.log_likelihood + 3 * off_diagonal + 2 * diagonal
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_variance_shared_by_the_dimensions_is_of_each():
    posteriors = Normal(
        jnp.array([[1.0, 2.0], [3.0, 2.0]]), jnp.log(jnp.array([0.5, 1.5]))
    )
    np.testing.assert_allclose(
        vaejax.objectives.covariance_of_aggregate(posteriors),
        [[2, 0], [0, 1]],
        rtol=1e-6,
    )


def test_covariances_are_of_normals_and_of_vectors():
    flow = with_flow_posterior(mlp_vae())
    params = flow.init(jax.random.key(0), XS[0])
    arguments = params, jax.random.key(1), XS
    for covariance in (
        vaejax.objectives.covariance_of_means,
        vaejax.objectives.covariance_of_aggregate,
    ):
        loss_fn = dip_vae_loss(flow, covariance=covariance, kl_fn=vaejax.kl_monte_carlo)
        with pytest.raises(TypeError, match="posterior is |has no mean"):
            jax.eval_shape(loss_fn, *arguments)
    with pytest.raises(TypeError, match=r"a mean has shape \(2, 2\)"):
        vaejax.objectives.covariance_of_means(
            Normal(jnp.zeros((3, 2, 2)), jnp.zeros(3))
        )
