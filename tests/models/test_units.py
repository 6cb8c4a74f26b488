"""Data in their own units: log-likelihoods by SciPy, and parameters as without."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import vaejax
from vaejax import distributions as vd
from vaejax.models import with_units

SHIFT, SCALE = np.array([2000.0, -3.0, 0.5]), np.array([10.0, 0.01, 300.0])
MEAN, LOG_VARIANCE = np.float32([0.3, -1, 0.2]), np.float32([0.1, -0.5, 1])
EVENT = np.float32([1993, -3.004, 211])
UNITS = {
    "affine": vd.AffineUnits(SHIFT, SCALE),
    "one number": vd.AffineUnits(3.0, 2.0),
    "log1p": vd.Log1pUnits(1.5, 0.7),
    "levels": vd.LevelUnits(65535),
}


def check(distribution, expected):
    np.testing.assert_allclose(distribution.log_prob(EVENT), expected.sum(), rtol=1e-5)
    event, log_prob = distribution.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, distribution.sample(jax.random.key(0)))
    np.testing.assert_allclose(log_prob, distribution.log_prob(event), rtol=1e-4)


def test_a_normal_stays_a_normal():
    found = UNITS["affine"].to_units(vaejax.Normal(MEAN, LOG_VARIANCE))
    assert isinstance(found, vaejax.Normal)
    mean, stddev = SHIFT + SCALE * MEAN, SCALE * np.exp(LOG_VARIANCE / 2)
    check(found, scipy.stats.norm(mean, stddev).logpdf(EVENT))
    shared = UNITS["affine"].to_units(vaejax.Normal(MEAN, jnp.zeros(())))
    check(shared, scipy.stats.norm(mean, SCALE).logpdf(EVENT))


def test_other_densities_have_their_jacobian():
    found = UNITS["affine"].to_units(vd.Laplace(MEAN, LOG_VARIANCE))
    mean, scale = SHIFT + SCALE * MEAN, SCALE * np.exp(LOG_VARIANCE)
    check(found, scipy.stats.laplace(mean, scale).logpdf(EVENT))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.mode, mean, rtol=1e-6)
    assert np.all(found.support.contains(EVENT))
    single = vd.AffineUnits(700.0, 900.0).to_units(vd.Laplace(MEAN, LOG_VARIANCE))
    expected = scipy.stats.laplace(700 + 900 * MEAN, 900 * np.exp(LOG_VARIANCE))
    check(single, expected.logpdf(EVENT))
    for x in (EVENT.astype(np.int32), EVENT[:2], EVENT[None]):
        if x.shape == (3,):
            whole = expected.logpdf(x).sum()
            np.testing.assert_allclose(single.log_prob(x), whole, rtol=1e-5)
        else:
            with pytest.raises(ValueError, match="shape"):
                single.log_prob(x)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_levels_have_the_same_mass_in_any_units(dtype):
    levels = np.array([0, 100, 255], dtype)
    intensities = levels.astype(np.float32) / 255
    inner = vd.DiscretizedNormal(jnp.full(3, 0.4), jnp.full(3, -2.0))
    found = vd.LevelUnits(255).to_units(inner)
    expected = inner.log_prob(intensities)
    np.testing.assert_allclose(found.log_prob(levels), expected, rtol=1e-6)
    draws = jax.vmap(found.sample)(jax.random.split(jax.random.key(0), 50))
    np.testing.assert_allclose(draws, np.round(draws), atol=1e-4)
    assert np.all(found.support.contains(levels)) and draws.max() > 1
    assert not found.support.contains(np.float32(100.5))
    # A density per level, of which the mass is about the value.
    normal = vd.LevelUnits(255).to_units(vaejax.Normal(jnp.full(3, 0.4), jnp.zeros(())))
    per_level = scipy.stats.norm(0.4 * 255, 255).logpdf(levels).sum()
    np.testing.assert_allclose(normal.log_prob(levels), per_level, rtol=1e-5)


def test_counts_stay_what_they_are():
    inner = vd.NegativeBinomial(MEAN, LOG_VARIANCE)
    assert UNITS["log1p"].to_units(inner) is inner
    found = UNITS["log1p"].to_model(np.array([0, 9, 100]))
    expected = (np.log1p([0, 9, 100]) - 1.5) / 0.7
    np.testing.assert_allclose(found, expected, rtol=1e-6)


REFUSED = [
    ("affine", vd.Poisson(MEAN)),
    ("affine", vaejax.Bernoulli(MEAN)),
    ("affine", vd.DiscretizedNormal(MEAN, MEAN)),
    ("affine", vaejax.Categorical(np.zeros((3, 2), np.float32))),
    ("log1p", vaejax.Normal(MEAN, MEAN)),
    ("levels", vd.DiscretizedNormal(MEAN, MEAN)),
    ("levels", vd.Poisson(MEAN)),
]


@pytest.mark.parametrize(("name", "likelihood"), REFUSED)
def test_a_density_never_sits_on_atoms(name, likelihood):
    with pytest.raises(TypeError, match=rf"{type(likelihood).__name__}.*; give"):
        UNITS[name].to_units(likelihood)


@pytest.mark.parametrize("name", UNITS)
def test_units_go_through_json(name):
    record = json.loads(json.dumps(UNITS[name].as_dict()))
    found = vd.units_from_dict(record)
    assert found == UNITS[name] and hash(found) == hash(UNITS[name])


def test_wrong_units_are_refused():
    with pytest.raises(ValueError, match="scale holds a number that is not above 0"):
        vd.AffineUnits(0.0, [1.0, 0.0])
    with pytest.raises(ValueError, match="shift holds a number that is not finite"):
        vd.Log1pUnits(math.nan)
    with pytest.raises(ValueError, match="maximum"):
        vd.LevelUnits(0)
    with pytest.raises(ValueError, match="kind is one of affine, log1p, levels"):
        vd.units_from_dict({"kind": "other"})
    with pytest.raises(TypeError, match="units is 255; give AffineUnits"):
        with_units(vaejax.VAE(*[lambda *_: ()] * 4), 255)


def inner_vae():
    return vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (3, 2)),
        likelihood=vaejax.Normal,
    )


def test_the_bound_is_that_of_the_model_less_the_jacobian():
    inner = inner_vae()
    vae = with_units(inner, UNITS["affine"])
    x = SHIFT + SCALE * np.array([0.5, -1, 2])
    params = vae.init(jax.random.key(0), np.float32(x))
    standard = UNITS["affine"].to_model(np.float32(x))
    np.testing.assert_allclose(standard, [0.5, -1, 2], rtol=2e-3)
    same = inner.init(jax.random.key(0), standard)
    jax.tree.map(np.testing.assert_array_equal, params, same)

    @jax.jit
    def loss(params, key):
        again = jax.random.clone(key)
        return (
            vaejax.negative_elbo(vae, params, key, jnp.float32(x))[0],
            vaejax.negative_elbo(inner, params, again, standard)[0],
        )

    found, expected = loss(params, jax.random.key(1))
    np.testing.assert_allclose(found, expected + np.log(SCALE).sum(), rtol=1e-4)
    draws = np.asarray(vaejax.sample(vae, params, jax.random.key(2), 4))
    assert draws.shape == (4, 3) and np.all(np.abs(draws - SHIFT) < 6 * SCALE)
