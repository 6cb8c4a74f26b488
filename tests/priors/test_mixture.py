"""The learned mixture prior: its parameters, its clusters, its start."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from support.cases import mlp_vae
from support.linear_gaussian import make_params, vae as linear_gaussian

import vaejax
from vaejax.priors import mixture_parameters, responsibilities, with_mixture_prior

GAUSSIAN = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((4,)), decoder=vaejax.MLP((4,), (3,))
)
VAE = with_mixture_prior(GAUSSIAN, 3)
X = jnp.array([1.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def params():
    return jax.jit(VAE.init)(jax.random.key(0), X)


def test_the_parameters_of_the_model_are_kept(params):
    given = jax.eval_shape(GAUSSIAN.init, jax.random.key(0), X)
    shapes = jax.eval_shape(lambda: params)
    assert {name: shapes[name] for name in given} == given
    assert {name: leaf.shape for name, leaf in params["prior"].items()} == {
        "means": (3, 2),
        "log_variances": (3, 2),
        "logits": (3,),
    }
    for name in ("encode", "decode"):
        assert getattr(VAE, name) is getattr(GAUSSIAN, name)


def test_the_means_start_with_the_standard_deviation_that_is_given():
    vae = with_mixture_prior(GAUSSIAN, 2000, initial_stddev=0.5)
    means = np.float64(jax.jit(vae.init)(jax.random.key(1), X)["prior"]["means"])
    # The error of a standard deviation of n draws is 1 / sqrt(2 n) of it.
    assert abs(means.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * means.size)


def test_its_bound_is_the_importance_weighted_one_of_scipy(params):
    """One sample: log p(x|z) + log p(z) - log q(z|x), p(z) by SciPy."""
    own = {
        "means": np.array([[2.0, 0.0], [0.0, -1.0], [-1.0, 3.0]], np.float32),
        "log_variances": np.array([[0, 1], [-1, 0.5], [0.3, 0]], np.float32),
        "logits": np.array([0.0, 1.0, -1.0], np.float32),
    }
    params = params | {"prior": own}
    key = jax.random.key(2)

    @jax.jit
    def use(params):
        objective = partial(vaejax.negative_elbo, VAE, kl_fn=vaejax.kl_monte_carlo)
        z, log_posterior = VAE.encode(params, X).sample_and_log_prob(
            jax.random.split(jax.random.clone(key), 1)[0]
        )
        return (
            objective(params, key, X)[1],
            z,
            log_posterior,
            responsibilities(VAE, params, z),
        )

    terms, z, log_posterior, shares = use(params)
    stddevs = np.exp(np.float64(own["log_variances"]) / 2)
    log_joint = scipy.special.log_softmax(np.float64(own["logits"])) + (
        scipy.stats.norm(np.float64(own["means"]), stddevs).logpdf(z).sum(axis=1)
    )
    kl = log_posterior - scipy.special.logsumexp(log_joint)
    np.testing.assert_allclose(terms.kl, kl, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(shares, scipy.special.softmax(log_joint), rtol=1e-4)


def test_a_fitted_mixture_of_scikit_learn_is_the_start(params):
    sklearn = pytest.importorskip("sklearn.mixture")
    zs = np.random.default_rng(0).normal(size=(200, 2)) * [1, 3] + [5, 0]
    zs[:80] -= [9, 4]
    for kind in ("diag", "spherical"):
        fitted = sklearn.GaussianMixture(3, covariance_type=kind, random_state=0)
        fitted.fit(zs)
        start = params | {"prior": mixture_parameters(fitted)}
        assert jax.eval_shape(lambda start=start: start) == jax.eval_shape(
            lambda: params
        )
        prior = VAE.prior(start)
        log_probs = jax.jit(jax.vmap(prior.log_prob))(jnp.float32(zs[::20]))
        shares = jax.jit(jax.vmap(prior.responsibilities))(jnp.float32(zs[::20]))
        np.testing.assert_allclose(log_probs, fitted.score_samples(zs[::20]), rtol=1e-4)
        np.testing.assert_allclose(shares, fitted.predict_proba(zs[::20]), atol=1e-4)


def test_a_mixture_of_full_covariance_is_refused():
    sklearn = pytest.importorskip("sklearn.mixture")
    fitted = sklearn.GaussianMixture(1).fit(np.eye(4, 2))
    with pytest.raises(ValueError, match=r"are 'full'.*'diag'"):
        mixture_parameters(fitted)
    for other in (sklearn.GaussianMixture(1), None):
        with pytest.raises(TypeError, match="give a fitted"):
            mixture_parameters(other)


def test_a_prior_without_components_has_no_responsibilities(params):
    with pytest.raises(TypeError, match="Normal has no responsibilities.*mixture"):
        responsibilities(GAUSSIAN, params, jnp.zeros(2))


@pytest.mark.parametrize(
    ("vae", "message"),
    [
        (VAE, "with .*'prior'"),
        (linear_gaussian._replace(init=lambda key, x: make_params()), "no names"),
    ],
    ids=["a prior already", "no dict"],
)
def test_parameters_must_be_a_dict_without_a_prior(vae, message):
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(with_mixture_prior(vae, 2).init, jax.random.key(0), X)


def test_the_latent_must_be_one_array():
    def encode(params, x):
        return _Pair()

    vae = mlp_vae()._replace(encode=encode)
    with pytest.raises(TypeError, match="of type dict; give a VAE over one array"):
        jax.eval_shape(
            with_mixture_prior(vae, 2).init, jax.random.key(0), jnp.zeros((3, 4))
        )


class _Pair:
    def sample_and_log_prob(self, key):
        return {"a": jnp.zeros(2), "b": jnp.zeros(1)}, jnp.zeros(())
