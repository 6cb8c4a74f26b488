"""Probabilistic PCA in closed form, the linear VAE beside it, and its program."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support.programs import execute, status_of

import vaejax
from experiments import linear_vae
from experiments.judges import probabilistic_pca

RANDOM = np.random.default_rng(0)
XS = (
    RANDOM.normal(size=(400, 3)) @ RANDOM.normal(size=(3, 6))
    + 0.3 * RANDOM.normal(size=(400, 6))
    + 1
)
DATA = probabilistic_pca.spectrum(XS)


@pytest.mark.parametrize("variance", [None, 0.5])
def test_mean_log_likelihood_is_that_of_the_normal(variance):
    model = probabilistic_pca.best_model(DATA, 2, variance)
    covariance = model.loadings @ model.loadings.T + model.variance * np.eye(6)
    expected = (
        scipy.stats.multivariate_normal(model.offset, covariance).logpdf(XS).mean()
    )
    np.testing.assert_allclose(
        probabilistic_pca.mean_log_likelihood(model, DATA), expected, rtol=1e-10
    )


def test_the_best_model_has_the_likelihood_of_its_eigenvalues():
    """-1/2 [D log 2 pi + sum of log lambda_i + (D - k) log s^2 + D], Tipping & Bishop
    1999.
    """
    eigenvalues, k = DATA.eigenvalues, 2
    variance = eigenvalues[k:].mean()
    expected = -0.5 * (
        6 * math.log(2 * math.pi)
        + np.log(eigenvalues[:k]).sum()
        + (6 - k) * np.log(variance)
        + 6
    )
    found = probabilistic_pca.mean_log_likelihood(
        probabilistic_pca.best_model(DATA, k), DATA
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("variance", [None, 0.5])
def test_no_model_beside_the_best_is_better(variance):
    best = probabilistic_pca.best_model(DATA, 2, variance)
    value = probabilistic_pca.mean_log_likelihood(best, DATA)
    for scale in (0.01, 0.1, 1.0):
        loadings = best.loadings + scale * RANDOM.normal(size=best.loadings.shape)
        offset = best.offset + scale * RANDOM.normal(size=6)
        assert (
            probabilistic_pca.mean_log_likelihood(
                probabilistic_pca.Model(loadings, offset, best.variance), DATA
            )
            < value
        )
        if variance is None:
            other = best._replace(variance=best.variance * math.exp(scale))
            assert probabilistic_pca.mean_log_likelihood(other, DATA) < value


def vae_at_the_optimum():
    """The VAE with the best loadings, and its exact encoder: they are orthogonal."""
    best = probabilistic_pca.best_model(DATA, 2)
    vae = linear_vae.linear_vae(
        6,
        2,
        vaejax.distributions.shared_variance_normal_head(
            log_variance=math.log(best.variance),
            min_log_variance=-math.inf,
            max_log_variance=math.inf,
        ),
    )
    params = vae.init(jax.random.key(0), jnp.zeros(6))
    precision = np.diagonal(np.eye(2) + best.loadings.T @ best.loadings / best.variance)
    gain = best.loadings / best.variance / precision
    leaves, tree = jax.tree.flatten(params)
    replacements = {(6, 2): gain, (2, 6): best.loadings.T, (6,): best.offset}
    flat = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    new = []
    for path, leaf in flat.items():
        if leaf.shape == (2,):
            new.append(
                -np.log(precision) if "posterior" in path else -best.offset @ gain
            )
        else:
            new.append(replacements.get(leaf.shape, leaf))
    return vae, jax.tree.unflatten(
        tree, [jnp.asarray(leaf, jnp.float32) for leaf in new]
    )


def test_at_the_optimum_the_elbo_is_the_exact_log_likelihood():
    vae, params = vae_at_the_optimum()
    xs = jnp.asarray(XS, jnp.float32)
    elbos = jax.jit(jax.vmap(partial(linear_vae.expected_elbo, vae, params)))(xs)
    exact = probabilistic_pca.mean_log_likelihood(
        probabilistic_pca.best_model(DATA, 2), DATA
    )
    np.testing.assert_allclose(np.mean(np.asarray(elbos, np.float64)), exact, atol=1e-4)
    state = vaejax.TrainState(params, (), jax.random.key(0), jnp.zeros((), jnp.int32))
    kl = jax.jit(partial(linear_vae.kl_to_posterior, vae, xs))(state)["kl_to_posterior"]
    np.testing.assert_allclose(kl, 0, atol=1e-4)


@pytest.mark.slow
def test_the_closed_forms_are_the_expectations_of_samples():
    vae = linear_vae.linear_vae(
        6, 2, vaejax.distributions.fixed_variance_normal_head(variance=0.7)
    )
    params = vae.init(jax.random.key(0), jnp.zeros(6))
    x = jnp.asarray(XS[0], jnp.float32)
    keys = jax.random.split(jax.random.key(1), 20_000)
    losses = np.asarray(
        jax.jit(jax.vmap(lambda key: vaejax.negative_elbo(vae, params, key, x)[0]))(
            keys
        )
    )
    closed = linear_vae.expected_elbo(vae, params, x)
    assert abs(losses.mean() + closed) < 5 * losses.std() / math.sqrt(len(losses))
    model = linear_vae.model_of(vae, params)
    covariance = model.loadings @ model.loadings.T + model.variance * np.eye(6)
    log_p = scipy.stats.multivariate_normal(model.offset, covariance).logpdf(XS[0])
    state = vaejax.TrainState(params, (), jax.random.key(0), jnp.zeros((), jnp.int32))
    found = linear_vae.kl_to_posterior(vae, x[None], state)["kl_to_posterior"]
    np.testing.assert_allclose(found, log_p - closed, rtol=1e-4)


def test_blocks_are_averaged():
    images = np.arange(2 * 8 * 4, dtype=np.float32).reshape(2, 8, 4)
    np.testing.assert_allclose(
        linear_vae.averaged(images), [[[7.5], [23.5]], [[39.5], [55.5]]]
    )


def write_data(path, height=12):
    images = RANDOM.integers(0, 256, (700, height, 12), np.uint8)
    np.savez(path / "data.npz", train_images=images[:600], test_images=images[600:])
    return [
        "--data",
        str(path / "data.npz"),
        "--latent-size",
        "4",
        "--out",
        str(path / "run"),
    ]


def test_mistakes_are_told(tmp_path, capsys):
    options = write_data(tmp_path)
    assert status_of([*options, "--latent-size", "9"], linear_vae) == 2
    assert "give less than" in capsys.readouterr().err
    assert status_of(write_data(tmp_path, height=10), linear_vae) == 2
    assert (
        "sides divide by 4" in capsys.readouterr().err
        and not (tmp_path / "run").exists()
    )


@pytest.mark.slow
def test_the_program_comes_close_to_the_exact_value(tmp_path):
    options = [
        *write_data(tmp_path),
        "--epochs",
        60,
        "--num-seeds",
        2,
        "--batch-size",
        5,
    ]
    done = execute(*options, module="experiments.linear_vae")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    small = summary["models"]["3x3"]
    assert 0 <= small["gap"]["mean"] < 0.1
    assert (
        small["elbo"]["mean"] <= small["log_marginal"]["mean"] <= small["exact"] + 1e-3
    )
    assert (tmp_path / "run" / "figures" / "used_latents.png").exists()
