"""Priors fitted to a trained model: what is fitted, and what it is worth."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import vaejax
from vaejax.networks import coupling_layers
from vaejax.priors import fit_flow_prior, fit_mixture_prior

pytest.importorskip("sklearn", reason="the fits are those of scikit-learn")

CENTERS = np.array([[4.0, 0.0], [-3.0, 3.0], [-2.0, -4.0]])
NOISE = 0.3


def _normal(params, at):
    return vaejax.Normal(at + params["offset"], jnp.full(2, 2 * np.log(NOISE)))


# Three clusters, an encoder and a decoder that are right, and a prior that knows of no
# clusters: what a model is like whose prior is to be fitted.
VAE = vaejax.VAE(
    init=lambda key, x: {"offset": jnp.zeros(2)},
    encode=_normal,
    prior=lambda params: vaejax.Normal(jnp.zeros(2), jnp.full(2, 2 * np.log(3.0))),
    decode=_normal,
)
PARAMS = {"offset": jnp.zeros(2)}


def examples(num, seed=0):
    random = np.random.default_rng(seed)
    centers = CENTERS[random.integers(3, size=num)]
    return np.float32(centers + 0.5 * random.normal(size=(num, 2)))


@pytest.fixture(scope="module")
def fitted():
    return fit_mixture_prior(
        VAE, PARAMS, jax.random.key(0), examples(600), num_components=3
    )


def test_the_clusters_are_found(fitted):
    vae, params = fitted
    order = np.argsort(params["prior"]["means"][:, 0])[::-1]
    own = {name: np.float64(leaf)[order] for name, leaf in params["prior"].items()}
    # Draws of q(z): the spread of the examples, and the noise of the posterior.
    variance = 0.5**2 + NOISE**2
    weights = scipy.special.softmax(own["logits"])
    error = np.sqrt(variance / (600 * weights))[:, None]
    assert np.all(np.abs(own["means"] - CENTERS[[0, 2, 1]]) < 5 * error)
    variances = np.exp(own["log_variances"])
    error = np.sqrt(2 / (600 * weights))[:, None]
    assert np.all(np.abs(variances / variance - 1) < 5 * error)
    assert np.all(np.abs(weights - 1 / 3) < 5 * np.sqrt(2 / 9 / 600))
    assert vae.encode is VAE.encode and params["offset"] is PARAMS["offset"]
    like = jax.eval_shape(vae.init, jax.random.key(0), examples(1)[0])
    assert jax.eval_shape(lambda: params) == like


def fit_flow(vae=VAE, params=PARAMS, layers=None, xs=None, **options):
    layers = coupling_layers(2, num_layers=4) if layers is None else layers
    xs = examples(600) if xs is None else xs
    # Optax is not written for the strict promotion that the tests turn on.
    with jax.numpy_dtype_promotion("standard"):
        return fit_flow_prior(vae, params, jax.random.key(5), xs, layers, **options)


@pytest.mark.parametrize(
    "kind", ["mixture", pytest.param("flow", marks=pytest.mark.slow)]
)
def test_nll_and_coverage_are_better_than_before(kind, request):
    """NLL of held-out examples, and the share of them that draws come close to."""
    fit = request.getfixturevalue("fitted") if kind == "mixture" else fit_flow()
    test = examples(300, seed=1)

    def measure(vae, params):
        @jax.jit
        def bounds(key, xs):
            def one(key, x):
                return vaejax.log_marginal(
                    vae, params, key, x, num_samples=100
                ).log_marginal

            return jax.vmap(one)(jax.random.split(key, len(xs)), xs)

        sample = jax.jit(lambda key: vaejax.sample(vae, params, key, 300))
        found = vaejax.metrics.density_coverage(
            test, np.asarray(sample(jax.random.key(3)))
        )
        return -np.float64(bounds(jax.random.key(2), test)), found.coverage

    nll, coverage = measure(VAE, PARAMS)
    fitted_nll, fitted_coverage = measure(*fit)
    gain = nll - fitted_nll
    # p(x) before is a Normal, after the fit the mixture: both are known.
    before = 0.5 * np.sum(
        np.log(2 * np.pi * (9 + NOISE**2)) + np.square(test) / (9 + NOISE**2), axis=1
    )
    assert abs(nll.mean() - before.mean()) < 0.05
    assert gain.mean() > 0.5 + 5 * gain.std() / np.sqrt(len(gain))
    assert fitted_coverage > coverage + 0.1


def test_batches_do_not_change_the_fit(fitted):
    again = fit_mixture_prior(
        VAE, PARAMS, jax.random.key(0), examples(600), num_components=3, batch_size=70
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        again[1]["prior"],
        fitted[1]["prior"],
    )


def test_what_cannot_be_fitted_is_refused(fitted):
    def fit(vae=VAE, params=PARAMS, key=None, xs=None, **options):
        key = jax.random.key(0) if key is None else key
        options = {"num_components": 2} | options
        xs = examples(5) if xs is None else xs
        fit_mixture_prior(vae, params, key, xs, **options)

    with pytest.raises(TypeError, match="key is 0; give a typed key"):
        fit(key=0)
    with pytest.raises(TypeError, match="the batch is a list"):
        fit(xs=examples(5).tolist())
    with pytest.raises(TypeError, match="vae is None"):
        fit(vae=None)
    with pytest.raises(TypeError, match="without 'prior'"):
        fit(*fitted)
    with pytest.raises(ValueError, match="5 draws for 6 components"):
        fit(num_components=6)
    with pytest.raises(ValueError, match="not finite"):
        fit(xs=np.full((5, 2), np.nan, np.float32))


@pytest.mark.slow
def test_what_no_flow_can_be_fitted_to_is_refused(fitted):
    with pytest.raises(TypeError, match="without 'prior'"):
        fit_flow(*fitted)
    with pytest.raises(TypeError, match="FlowLayers"):
        fit_flow(layers=(1, 2))
    with pytest.raises(ValueError, match="layers of the size of z"):
        fit_flow(layers=coupling_layers(3))
    with pytest.raises(ValueError, match="not finite"):
        fit_flow(xs=np.full((5, 2), np.nan, np.float32), num_steps=1)


def test_without_scikit_learn_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ImportError, match=r"pip install 'vaejax\[analysis\]'"):
        fit_mixture_prior(VAE, PARAMS, jax.random.key(0), examples(5), num_components=2)
