"""Mixtures: parity with NumPyro and SciPy, mass one, draws, and what has no mass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import vaejax
from vaejax.distributions import LogNormal, Mixture, mixture

LOGITS = np.float32([0.3, -1.0, 2.0])
MEANS = np.float32([[-2.0, 0.5], [0.0, 0.0], [3.0, -1.0]])
LOG_VARIANCES = np.float32([[0.2, -0.4], [-2.0, 1.0], [0.0, 0.5]])
WEIGHTS = scipy.special.softmax(np.float64(LOGITS))


def normals():
    return Mixture(vaejax.Normal(MEANS, LOG_VARIANCES), LOGITS)


def joint(z):
    """`[components]`, w_k p_k(z) in float64 by SciPy."""
    stddevs = np.exp(np.float64(LOG_VARIANCES) / 2)
    densities = scipy.stats.norm(np.float64(MEANS), stddevs).pdf(z)
    return WEIGHTS * densities.prod(axis=1)


@jax.jit
def scored(mixture, event):
    return mixture.log_prob(event), mixture.responsibilities(event)


@pytest.mark.parametrize("z", [[0.0, 0.0], [2.5, -0.8], [-40.0, 10.0]])
def test_log_prob_and_responsibilities_are_those_of_scipy(z):
    each = joint(np.array(z))
    log_prob, shares = scored(normals(), jnp.array(z))
    np.testing.assert_allclose(log_prob, np.log(each.sum()), rtol=2e-6)
    np.testing.assert_allclose(shares, each / each.sum(), rtol=1e-4, atol=1e-7)


def test_log_prob_is_that_of_numpyro():
    numpyro = pytest.importorskip("numpyro.distributions")
    z = np.float32([0.7, -0.1])
    # NumPyro is not written for the strict promotion that the tests turn on.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        theirs = numpyro.MixtureSameFamily(
            numpyro.Categorical(logits=LOGITS),
            numpyro.Normal(MEANS, np.exp(LOG_VARIANCES / 2)).to_event(1),
        )
        expected = theirs.log_prob(z)
        mean = theirs.mean
    np.testing.assert_allclose(scored(normals(), z)[0], expected, rtol=2e-6)
    np.testing.assert_allclose(normals().mean, mean, rtol=1e-5)


def test_it_integrates_to_one():
    zs = np.linspace(-20, 20, 401, dtype=np.float32)
    grid = jnp.stack(jnp.meshgrid(zs, zs), axis=-1).reshape(-1, 2)
    density = np.exp(np.float64(jax.jit(jax.vmap(normals().log_prob))(grid)))
    np.testing.assert_allclose(density.sum() * (zs[1] - zs[0]) ** 2, 1, atol=1e-4)


def test_moments_of_draws_within_five_standard_errors():
    num, mixture = 100_000, normals()
    keys = jax.random.split(jax.random.key(3), num)
    draws, log_probs = jax.jit(jax.vmap(mixture.sample_and_log_prob))(keys)
    draws = np.float64(draws)
    means, variances = np.float64(MEANS), np.exp(np.float64(LOG_VARIANCES))
    mean = WEIGHTS @ means
    variance = WEIGHTS @ (variances + np.square(means)) - np.square(mean)
    np.testing.assert_allclose(mixture.mean, mean, rtol=1e-5)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * np.sqrt(variance / num))
    squares = np.square(draws - mean)
    errors = squares.std(axis=0) / np.sqrt(num)
    assert np.all(np.abs(squares.mean(axis=0) - variance) < 5 * errors)
    np.testing.assert_allclose(
        log_probs[:50], [np.log(joint(z).sum()) for z in draws[:50]], rtol=1e-5
    )
    # How often each component drew, by the responsibilities of its draws.
    shares = np.float64(jax.jit(jax.vmap(mixture.responsibilities))(draws))
    errors = shares.std(axis=0) / np.sqrt(num)
    assert np.all(np.abs(shares.mean(axis=0) - WEIGHTS) < 5 * errors + 1e-6)


@pytest.mark.parametrize(
    ("components", "event"),
    [
        (vaejax.Bernoulli(jnp.array([[-1.0, 2.0], [0.5, 0.0]])), jnp.array([1.0, 0.0])),
        (vaejax.Categorical(jnp.zeros((2, 3, 4))), jnp.array([0, 3, 1])),
        (
            Mixture(vaejax.Normal(jnp.zeros((2, 3, 1)), jnp.zeros((2, 3, 1))),
                    jnp.zeros((2, 3))),
            jnp.zeros(1),
        ),
    ],
    ids=["Bernoulli", "Categorical", "Mixture"],
)  # fmt: skip
def test_components_are_of_any_family(components, event):
    mixture = Mixture(components, jnp.array([0.0, 1.0]))

    @jax.jit
    def use(components, key):
        parts = [jax.tree.map(lambda leaf, k=k: leaf[k], components) for k in range(2)]
        log_probs = jnp.stack([part.log_prob(event) for part in parts])
        return log_probs, mixture.log_prob(event), mixture.sample(key)

    log_probs, log_prob, drawn = use(components, jax.random.key(0))
    expected = scipy.special.logsumexp(log_probs, b=[0.26894142, 0.73105858])
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    assert drawn.shape == event.shape and drawn.dtype == event.dtype


def test_classes_have_no_mean():
    mixture = Mixture(vaejax.Categorical(jnp.zeros((2, 3, 4))), jnp.zeros(2))
    assert not hasattr(mixture, "mean")


def test_an_event_without_mass_has_a_finite_gradient():
    zeros = jnp.zeros((2, 3))
    mixture = Mixture(LogNormal(zeros, zeros), jnp.zeros(2))
    event = jnp.array([1.0, -1.0, 2.0])
    value, gradient = jax.jit(
        jax.value_and_grad(lambda mixture, event: mixture.log_prob(event))
    )(mixture, event)
    assert value == -jnp.inf
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert np.isnan(scored(mixture, jnp.array([1.0, np.nan, 2.0]))[0])


def test_half_precision_has_log_densities_in_single():
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), normals())
    z, log_prob = jax.jit(mixture.sample_and_log_prob)(jax.random.key(0))
    assert log_prob.dtype == jnp.float32
    log_prob, _ = scored(mixture, z)
    assert z.dtype == jax.eval_shape(lambda: mixture.mean).dtype == jnp.bfloat16
    assert log_prob.dtype == jnp.float32
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mixture)
    np.testing.assert_allclose(log_prob, scored(single, z)[0], rtol=1e-5)


def test_components_and_logits_must_have_one_axis():
    mixture = Mixture(vaejax.Normal(jnp.zeros((3, 2)), jnp.zeros(())), jnp.zeros(3))
    for use in (mixture.log_prob, lambda z: mixture.sample(jax.random.key(0))):
        with pytest.raises(ValueError, match=r"\(3, 2\), \(\).*one leading axis"):
            use(jnp.zeros(2))


def test_its_support_is_that_of_the_components():
    assert normals().support is vaejax.Normal.support


def test_there_is_no_closed_form_of_its_divergence():
    normal = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
    with pytest.raises(TypeError, match="kl_monte_carlo"):
        vaejax.kl_divergence(normal, normals())


@pytest.mark.parametrize(("shape", "shared"), [((3,), False), ((2, 3), True)])
def test_many_normals_are_scored_as_few_are(shape, shared):
    """Their density, and its gradient, are those of the sum over components."""
    num, keys = 150, jax.random.split(jax.random.key(0), 3)
    normals = vaejax.Normal(
        jax.random.normal(keys[0], (num, *shape)),
        jax.random.normal(keys[1], (num,) if shared else (num, *shape)),
    )
    event = jax.random.normal(keys[2], shape)

    def together(normals, event):
        return Mixture(normals, jnp.zeros(num)).log_prob(event)

    def apart(normals, event):
        log_probs = jax.vmap(lambda normal: normal.log_prob(event))(normals)
        return jax.nn.logsumexp(log_probs) - jnp.log(num)

    @jax.jit
    def gradients(normals, event):
        return [
            jax.value_and_grad(score, argnums=(0, 1))(normals, event)
            for score in (together, apart)
        ]

    expected = float(apart(normals, event))
    assert together(normals, event) == pytest.approx(expected, rel=1e-5)
    for one, other in zip(
        *map(jax.tree.leaves, gradients(normals, event)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="Normal"):
        together(normals, event[:1])


def test_many_normals_are_scored_alike_on_every_platform():
    keys = jax.random.split(jax.random.key(0), 3)
    columns = vaejax.Normal(*jax.random.normal(keys[0], (2, 3, 150)))
    event = jax.random.normal(keys[1], (3,))
    np.testing.assert_allclose(
        *(score(columns, event) for score in (mixture._in_turn, mixture._at_once)),
        rtol=1e-5,
    )
