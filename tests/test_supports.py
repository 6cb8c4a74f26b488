"""Latents that may not be moved at will: on a sphere, classes, within bounds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import pytest
from support.families import in_numpyro

import vaejax
from vaejax import VAE, Normal, distributions, estimators, latent, models
from vaejax._supports import is_all_reals, is_convex, read_support

ZEROS, X = jnp.zeros(2), jnp.array([0.6, 0.8])
ONE_HOT = numpyro.MultinomialProbs(jnp.full(2, 0.5), total_count=1)
UNIFORM = distributions.UniformSphere(2)


def model(prior, posterior):
    return VAE(
        init=lambda key, x: (),
        encode=lambda params, x: posterior(x),
        prior=lambda params: prior,
        decode=lambda params, z: Normal(jnp.asarray(z, jnp.float32), ZEROS),
    )


def von_mises_fisher(x):
    return distributions.VonMisesFisher(x, jnp.float32(5))


MODELS = {
    "real": model(Normal(ZEROS, ZEROS), lambda x: Normal(x, ZEROS)),
    "sphere": model(UNIFORM, von_mises_fisher),
    "sphere of NumPyro": model(numpyro.ProjectedNormal(X), von_mises_fisher),
    "binary": model(vaejax.Bernoulli(ZEROS), vaejax.Bernoulli),
    "classes": model(
        distributions.Categorical(jnp.zeros((2, 3))),
        lambda x: distributions.Categorical(jnp.stack([x, -x])),
    ),
    "one-hot": model(ONE_HOT, lambda x: Normal(x, ZEROS)),
    "positive": model(
        distributions.LogNormal(ZEROS, ZEROS),
        lambda x: distributions.LogNormal(x, ZEROS),
    ),
    "interval of NumPyro": model(
        numpyro.Uniform(ZEROS, 1.0).to_event(1), lambda x: vaejax.Bernoulli(x)
    ),
}
NOT_CONVEX = ("sphere", "sphere of NumPyro", "binary", "classes", "one-hot")
PATH = estimators.AnnealingPath(
    num_temperatures=2, num_leapfrog=1, step_sizes=jnp.ones(2)
)


def interpolated(vae, key, **options):
    return vaejax.interpolate(
        vae, (), X, X[::-1], 3, latent_point=latent.mode, **options
    )


def annealed(vae, key, path=PATH):
    return estimators.annealed_importance_sampling(
        vae, (), key, X, path=path, num_chains=2
    ).log_marginal


TOOLS = {
    "temperature": lambda vae, key: vaejax.sample(vae, (), key, 2, temperature=0.5),
    "interpolate": interpolated,
    "shift": lambda vae, key: latent.shift_latents(
        vae, (), X, X, jnp.array([0.0, 1.0]), latent_point=latent.mode
    ),
    "traverse": lambda vae, key: vaejax.traverse(vae, (), X, latent_point=latent.mode),
    "manifold": lambda vae, key: vaejax.manifold(vae, (), 2, key=key),
    "annealing": annealed,
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", NOT_CONVEX)
def test_moves_off_a_sphere_or_between_classes_are_refused(name, tool):
    refused = (
        "z (is over|would leave) .*; ",
        "annealing .* z, which has leaves of .*int",
    )
    with pytest.raises((TypeError, ValueError), match="|".join(refused)):
        in_numpyro_eagerly(partial(TOOLS[tool], MODELS[name], jax.random.key(0)))


@pytest.mark.parametrize("tool", ["temperature", "interpolate", "shift", "annealing"])
def test_they_are_refused_while_tracing_too(tool):
    with pytest.raises(TypeError, match="which a straight line leaves"):
        jax.eval_shape(partial(TOOLS[tool], MODELS["sphere"]), jax.random.key(0))


def in_numpyro_eagerly(function):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return function()


@pytest.mark.parametrize("tool", ["temperature", "interpolate", "manifold"])
def test_what_stays_within_bounds_is_allowed(tool):
    xs = TOOLS[tool](MODELS["positive"], jax.random.key(0))
    assert np.all(np.asarray(xs) > 0)


def test_what_leaves_bounds_is_refused():
    positive = MODELS["positive"]
    with pytest.raises(ValueError, match="temperature is 1.5, .*above 0; give one of"):
        vaejax.sample(positive, (), jax.random.key(0), 2, temperature=1.5)
    with pytest.raises(ValueError, match="traverse: z would leave .*give `steps`"):
        vaejax.traverse(positive, (), X)
    xs = vaejax.traverse(positive, (), X, steps=jnp.array([0.5, 2.0]))
    assert xs.shape == (2, 2, 2)
    with pytest.raises(ValueError, match="shift_latents: z would leave"):
        latent.shift_latents(positive, (), X, -X, jnp.array([0.0, 99.0]))
    binary = vaejax.traverse(MODELS["binary"], (), X, steps=jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(binary[0, :, 0], [0, 1])


@pytest.mark.parametrize("objective", ["elbo", "dreg", "log_weight"])
@pytest.mark.parametrize(
    ("posterior", "prior"),
    [("sphere", "real"), ("classes", "positive"), ("real", "binary")],
)
def test_densities_of_two_kinds_are_not_compared(posterior, prior, objective):
    vae = MODELS[posterior]._replace(prior=MODELS[prior].prior)
    compute = {
        "elbo": partial(vaejax.negative_elbo, kl_fn=vaejax.kl_monte_carlo),
        "dreg": partial(vaejax.objectives.negative_dreg, num_samples=2),
        "log_weight": vaejax.log_weight,
    }[objective]
    with pytest.raises(TypeError, match="is over .*, the prior over .*; give"):
        jax.eval_shape(partial(compute, vae, (), x=X), jax.random.key(0))


@pytest.mark.parametrize("name", ["real", "sphere", "binary", "classes", "positive"])
def test_densities_of_one_kind_are_compared(name):
    log_w = partial(vaejax.log_weight, MODELS[name], (), x=X)
    assert jax.eval_shape(log_w, jax.random.key(0)).shape == ()


def test_a_sphere_is_crossed_along_a_great_circle():
    xs = interpolated(MODELS["sphere"], None, path=latent.spherical_path)
    np.testing.assert_allclose(np.linalg.norm(xs, axis=1), 1, rtol=1e-6)
    # The expected direction is no direction.
    with pytest.raises(ValueError, match="interpolate: z would leave .*latent.mode"):
        vaejax.interpolate(
            MODELS["sphere"], (), X, X[::-1], 3, path=latent.spherical_path
        )


def test_chains_stay_within_the_bounds_of_numpyro():
    # Its density is as high outside: x ~ N(z, I) with z uniform on the unit square.
    path = PATH._replace(num_temperatures=20, num_leapfrog=3, step_sizes=jnp.ones(20))
    run = partial(annealed, MODELS["interval of NumPyro"], path=path)
    keys = jax.random.split(jax.random.key(0), 100)
    weights = np.exp(np.float64(in_numpyro(lambda: jax.vmap(run)(keys))))
    cdf = jax.scipy.stats.norm.cdf
    expected = float(jnp.prod(cdf(1 - X) - cdf(-X)))
    assert abs(weights.mean() - expected) < 5 * weights.std() / 10


def test_a_transition_of_its_own_is_allowed_on_a_sphere():
    def stay(log_density, key, z, step_size):
        return z, jnp.ones(())

    estimate = annealed(
        MODELS["sphere"], jax.random.key(0), PATH._replace(transition=stay)
    )
    assert np.isfinite(estimate)


SUPPORTS = {
    # all real numbers, and whether lines stay within.
    "normal": (lambda: numpyro.Normal(ZEROS, 1.0), True, True),
    "mixture": (
        lambda: numpyro.MixtureSameFamily(
            numpyro.Categorical(probs=jnp.full(2, 0.5)),
            numpyro.Normal(jnp.zeros((2, 2)), 1.0).to_event(1),
        ),
        True,
        True,
    ),
    "simplex": (lambda: numpyro.Dirichlet(ZEROS + 1), False, True),
    "circle": (lambda: numpyro.VonMises(ZEROS, 1.0), False, True),
    "truncated": (lambda: numpyro.TruncatedNormal(ZEROS, low=0.0), False, True),
    "counts": (lambda: numpyro.Poisson(ZEROS + 1), False, False),
    "integers": (
        lambda: numpyro.DiscreteUniform(5, 9 + jnp.zeros(2, int)),
        False,
        False,
    ),
    "sphere": (lambda: UNIFORM, False, False),
    "levels": (lambda: distributions.DiscretizedNormal(ZEROS, ZEROS), False, False),
    "affine": (lambda: distributions.Affine(Normal(ZEROS, ZEROS), X, X), True, True),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_supports_are_read_alike(name):
    make, is_real, is_straight = SUPPORTS[name]
    distribution = in_numpyro_eagerly(make)
    support = read_support(distribution)
    assert is_all_reals(support, (2,)) is is_real
    assert is_convex(support, (2,)) is is_straight
    z = np.asarray(in_numpyro_eagerly(lambda: distribution.sample(jax.random.key(0))))
    assert np.all(support.contains(z))
    assert not np.any(support.contains(np.full(2, np.nan)))
    assert distributions.support_of(distribution).description == support.description


def test_bounds_that_are_traced_are_not_judged():
    def judged(low):
        support = read_support(numpyro.Uniform(low, 1.0))
        assert support is None
        return low

    jax.eval_shape(judged, jnp.float32(0))
    with pytest.raises(TypeError, match="not known before"):
        jax.eval_shape(
            lambda low: distributions.support_of(numpyro.Uniform(low, 1.0)), 0.0
        )
    assert read_support(numpyro.ImproperUniform) is None
    assert read_support(object()) is None


# Models whose latent holds a condition or a class beside z, or codes.


def of_label(label):
    """A posterior on the sphere, with the prior N(0, I), which does not fit it."""
    return vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.networks.with_condition(vaejax.MLP(()), label),
        decoder=vaejax.networks.with_condition(vaejax.MLP((), (2,)), label),
        posterior=distributions.von_mises_fisher_head(),
    )


def on_sphere(label):
    return vaejax.priors.with_spherical_prior(of_label(label), latent_size=3)


LABEL = jnp.array([1.0, 0.0])
PAIR = models.Conditioned(X, LABEL)
CODES = models.vq_vae(
    num_codes=4,
    latent_shape=(2, 2),
    encoder=vaejax.MLP((), (2, 2)),
    decoder=vaejax.MLP((), (2,)),
)
CLASSES = models.categorical_vae(
    2,
    3,
    encoder=vaejax.MLP(()),
    decoder=vaejax.MLP((), (2,)),
    straight_through=True,
)
COMPOSED = {
    "conditional": (models.conditional_vae(on_sphere, condition=LABEL), PAIR),
    "semi-supervised": (
        models.semi_supervised_vae(
            on_sphere, classifier=vaejax.MLP((), (2,)), num_classes=2
        ),
        X,
    ),
    "codes": (CODES, X),
    "straight-through": (CLASSES, X),
}
MOVES = {
    "temperature": lambda vae, params, x, key: vaejax.sample(
        vae, params, key, 2, temperature=0.5
    ),
    "interpolate": lambda vae, params, x, key: vaejax.interpolate(
        vae, params, x, x, 3, key=key, latent_point=latent.draw
    ),
    "traverse": lambda vae, params, x, key: vaejax.traverse(
        vae, params, x, key=key, latent_point=latent.draw
    ),
    "manifold": lambda vae, params, x, key: vaejax.manifold(
        vae, params, 2, key=key, dimensions=(0, 1)
    ),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", COMPOSED)
def test_moves_are_refused_within_composed_models(name, move):
    vae, x = COMPOSED[name]
    params = vae.init(jax.random.key(0), x)
    with pytest.raises((TypeError, ValueError), match=r"z (is over|would leave) .*; "):
        MOVES[move](vae, params, x, jax.random.key(1))


@pytest.mark.parametrize("name", ["codes", "levels", "conditional"])
def test_densities_of_two_kinds_are_not_compared_within_composed_models(name):
    x, kl_fn = X, vaejax.kl_monte_carlo
    if name == "codes":
        vae = vaejax.priors.with_mixture_prior(CODES, 2)
    elif name == "levels":
        vae = models.hierarchical_vae(
            latent_sizes=(3, 2),
            encoders=[vaejax.MLP((4,))] * 2,
            decoders=[vaejax.MLP((), (2,)), vaejax.MLP((4,))],
            posterior=distributions.von_mises_fisher_head(),
        )
        kl_fn = vaejax.objectives.kl_per_level
    else:
        vae, x = models.conditional_vae(of_label, condition=LABEL), PAIR
    params = vae.init(jax.random.key(0), x)
    with pytest.raises(TypeError, match="is over .*, the prior over .*; give"):
        vaejax.negative_elbo(vae, params, jax.random.key(1), x, kl_fn=kl_fn)


def test_vectors_are_inside_as_a_whole():
    one_hot = distributions.OneHotCategorical.support
    rows = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0], [0.5, 0.5, 0]])
    assert one_hot.contains(rows).tolist() == [[True] * 3] + [[False] * 3] * 3
    simplex = distributions.RelaxedCategorical(jnp.zeros(3), 1.0).support
    inside = [[True] * 3, [False] * 3, [False] * 3, [True] * 3]
    assert simplex.contains(rows).tolist() == inside
    with np.errstate(divide="ignore"):
        logs = np.log(rows)
    log_simplex = distributions.ExpRelaxedCategorical.support
    assert log_simplex.contains(logs).tolist() == inside
