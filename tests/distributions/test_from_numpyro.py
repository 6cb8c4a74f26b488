"""Distributions of NumPyro as prior, likelihood and posterior."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import pytest
import scipy.stats
from support.families import in_numpyro

import vaejax
from vaejax import latent
from vaejax.distributions import (
    Joint,
    MaskedEvent,
    from_numpyro,
    masked_head,
    parameter_free_head,
    support_of,
)

ZEROS = jnp.zeros(3)


def key():
    """A key of its own for each use: the tests refuse one that is used twice."""
    return jax.random.key(0)


def mixture():
    return numpyro.MixtureSameFamily(
        numpyro.Categorical(probs=jnp.array([0.3, 0.7])),
        numpyro.Normal(jnp.array([[-1.0, 0, 2], [3, 1, 1]]), 0.5).to_event(1),
    )


MAKERS = {
    "mixture": mixture,
    "student_t": lambda: numpyro.StudentT(4.0, ZEROS, jnp.array([1.0, 2.0, 0.5])),
    "zero_inflated": lambda: numpyro.ZeroInflatedNegativeBinomial2(
        mean=jnp.array([1.0, 3.0, 8.0]), concentration=2.0, gate=0.3
    ),
    "circular": lambda: numpyro.VonMises(jnp.array([0.0, 1.0, -2.0]), 3.0),
    "truncated": lambda: numpyro.TruncatedNormal(ZEROS, 1.0, low=-0.5, high=2.0),
    "uniform": lambda: numpyro.Uniform(ZEROS - 1, jnp.array([1.0, 2.0, 0.5])),
    "correlated": lambda: numpyro.MultivariateNormal(ZEROS, jnp.eye(3) + 0.5),
}


@pytest.fixture(params=MAKERS)
def theirs(request):
    return in_numpyro(lambda: MAKERS[request.param]())


@pytest.mark.slow
def test_all_members_agree_with_numpyro(theirs):
    ours = from_numpyro(theirs)
    z, log_prob = jax.jit(ours.sample_and_log_prob)(key())
    expected = in_numpyro(lambda: jnp.sum(theirs.log_prob(z)))
    assert z.shape == (3,) and log_prob.shape == ()
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(ours.log_prob(z), expected, rtol=1e-5)
    np.testing.assert_allclose(ours.sample(key()), z, rtol=1e-5)
    np.testing.assert_allclose(
        ours.mean, in_numpyro(lambda: jnp.broadcast_to(theirs.mean, (3,))), rtol=1e-5
    )


def test_it_maps_over_a_batch():
    def log_prob(loc, x):
        student = numpyro.StudentT(4.0, loc, 1.0, validate_args=False)
        return from_numpyro(student).log_prob(x)

    locs = jnp.arange(6.0).reshape(2, 3)
    xs = locs + 1
    mapped = jax.jit(jax.vmap(log_prob))(locs, xs)
    assert mapped.shape == (2,)
    np.testing.assert_allclose(mapped, list(map(log_prob, locs, xs)), rtol=1e-5)
    # Made within one mapped function, scored in another: it is a pytree.
    make = jax.vmap(lambda loc: from_numpyro(numpyro.StudentT(4.0, loc, 1.0)))
    scored = jax.vmap(lambda d, x: d.log_prob(x))(make(locs), xs)
    np.testing.assert_allclose(scored, mapped, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("uniform", [0.0, 0.0, 0.6]),
        ("truncated", [0.0, -0.6, 0.0]),
        ("circular", [0.0, 4.0, 0.0]),
        ("zero_inflated", [0.0, 1.5, 2.0]),
    ],
)
def test_outside_the_support_the_density_is_zero(name, event):
    ours, event = from_numpyro(in_numpyro(MAKERS[name])), jnp.array(event)
    assert ours.log_prob(event) == -jnp.inf
    assert jnp.isnan(ours.log_prob(event.at[0].set(jnp.nan)))
    inside = np.asarray(ours.support.contains(np.asarray(event)))
    assert inside.sum() == 2
    assert support_of(ours).description == ours.support.description


def test_half_precision_gives_single_log_densities():
    ours = from_numpyro(numpyro.Normal(ZEROS.astype(jnp.bfloat16), jnp.bfloat16(2)))
    log_prob = ours.log_prob(jnp.ones(3, jnp.bfloat16))
    assert log_prob.dtype == jnp.float32
    np.testing.assert_allclose(
        log_prob,
        vaejax.Normal(ZEROS, jnp.log(4 + ZEROS)).log_prob(ZEROS + 1),
        rtol=1e-6,
    )


def test_what_numpyro_lacks_is_a_type_error():
    ours = from_numpyro(in_numpyro(MAKERS["zero_inflated"]))
    assert not hasattr(ours, "mode")
    with pytest.raises(TypeError, match="no mode; choose another"):
        latent.mode(None, ours)
    # Also of a distribution that is not adapted.
    with pytest.raises(TypeError, match="ZeroInflatedProbs has no mode; choose"):
        latent.mode(None, ours.distribution)
    with pytest.raises(ValueError, match=r"shape \(2,\) and .*over \(3,\)"):
        ours.log_prob(jnp.zeros(2))
    for wrong in (numpyro.Normal, vaejax.Normal(ZEROS, ZEROS), None):
        with pytest.raises(TypeError, match="give an instance"):
            from_numpyro(wrong)


def test_without_numpyro_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro.distributions", None)
    with pytest.raises(ImportError, match=r"pip install 'vaejax\[numpyro\]'"):
        from_numpyro(None)


def test_closed_form_of_the_kl_is_that_of_numpyro():
    q, p = numpyro.Gamma(2 + ZEROS, 3.0), numpyro.Gamma(1.0 + ZEROS, 0.5)
    expected = in_numpyro(lambda: jnp.sum(numpyro.kl_divergence(q, p)))
    actual = vaejax.kl_divergence(from_numpyro(q), from_numpyro(p))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    with pytest.raises(TypeError, match="kl_monte_carlo"):
        vaejax.kl_divergence(from_numpyro(q), from_numpyro(numpyro.Cauchy(ZEROS)))
    with pytest.raises(ValueError, match="same event"):
        vaejax.kl_divergence(from_numpyro(q), from_numpyro(numpyro.Gamma(1.0, 0.5)))


def student_posterior():
    """Location and scale of a network, and of NumPyro the rest."""
    return parameter_free_head(
        lambda loc, log_scale: from_numpyro(
            numpyro.StudentT(5.0, loc, jnp.exp(log_scale))
        ),
        num_parameters=2,
    )


@pytest.mark.sampled
@pytest.mark.parametrize("prior", ["mixture", "student_t", "correlated"])
def test_posterior_prior_and_likelihood_of_one_model(prior):
    likelihood = parameter_free_head(
        lambda mean, log_concentration: from_numpyro(
            numpyro.NegativeBinomial2(jnp.exp(mean), jnp.exp(log_concentration))
        ),
        num_parameters=2,
    )
    vae = vaejax.gaussian_vae(
        latent_size=3,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (5, 2)),
        likelihood=likelihood,
        posterior=student_posterior(),
    )
    prior = in_numpyro(MAKERS[prior])
    prior = prior.to_event(len(prior.batch_shape))
    vae = vae._replace(prior=lambda params: prior)
    x = jnp.array([0.0, 1.0, 4.0, 2.0, 0.0])

    def loss(params):
        loss_fn = partial(vaejax.negative_elbo, vae, kl_fn=vaejax.kl_monte_carlo)
        return loss_fn(params, key(), x)[0]

    def value_and_gradient():
        return jax.value_and_grad(loss)(vae.init(key(), x))

    value, gradient = in_numpyro(value_and_gradient)
    leaves = jax.tree.leaves(gradient)
    assert np.isfinite(value) and all(np.all(np.isfinite(leaf)) for leaf in leaves)


def test_gradients_flow_through_draws_that_numpyro_reparameterizes():
    def draw(loc, log_scale):
        outputs = jnp.stack([loc, log_scale], axis=-1)
        return jnp.sum(student_posterior().apply((), outputs).sample(key()))

    of_loc, of_scale = jax.jit(jax.grad(draw, (0, 1)))(ZEROS, ZEROS)
    np.testing.assert_allclose(of_loc, 1, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(of_scale), draw(ZEROS, ZEROS), rtol=1e-5)


def test_data_are_checked_by_the_support_of_numpyro():
    counts = parameter_free_head(lambda m: from_numpyro(numpyro.Poisson(jnp.exp(m))))
    assert support_of(counts).contains(np.array([0, 2, 0.5, -1])).tolist() == [
        True, True, False, False,
    ]  # fmt: skip
    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP(()),
        decoder=vaejax.MLP((), (3,)),
        likelihood=counts,
    )
    params = vae.init(key(), ZEROS)
    with pytest.raises(ValueError, match="IntegerNonnegative"):
        vaejax.training.check_data(vae, params, np.full((4, 3), 0.5, np.float32))


@pytest.mark.parametrize(
    "part",
    [
        numpyro.StudentT(3.0, jnp.zeros(2), 1.0),
        numpyro.Gamma(jnp.full(2, 2.0), 1.0),
        numpyro.LogNormal(jnp.zeros(2), 1.0),
        numpyro.NegativeBinomial2(jnp.full(2, 2.0), 1.0),
    ],
    ids=lambda part: type(part).__name__,
)
def test_parts_of_numpyro_may_be_missing(part):
    joint = Joint({"a": from_numpyro(part)})
    event = in_numpyro(lambda: part.sample(key()))

    def log_prob(scale, is_seen):
        moved = jax.tree.map(lambda leaf: scale * leaf, joint)
        return moved.log_prob({"a": MaskedEvent(event, is_seen)})

    seen = log_prob(1.0, jnp.array(True))
    expected = in_numpyro(lambda: jnp.sum(part.log_prob(event)))
    missing, slope = jax.value_and_grad(log_prob)(1.0, jnp.array(False))
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    assert missing == 0 and slope == 0


def test_cells_of_numpyro_may_be_missing():
    head = masked_head(
        parameter_free_head(lambda mean: from_numpyro(numpyro.StudentT(3.0, mean, 1.0)))
    )
    values, mask = jnp.array([0.5, jnp.nan, -1.0]), jnp.array([True, False, True])
    found = head.apply((), ZEROS).log_prob(MaskedEvent(values, mask))
    expected = scipy.stats.t(3).logpdf([0.5, -1.0]).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
