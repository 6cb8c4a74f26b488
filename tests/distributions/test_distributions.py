"""Distributions, heads and closed-form divergences against SciPy, NumPyro and their own
definitions.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro
import pytest
import scipy.special
import scipy.stats

from vaejax import (
    Bernoulli,
    Categorical,
    Normal,
    kl_divergence,
    normal_head,
    reparameterize,
)
from vaejax.distributions import (
    as_head,
    categorical_head,
    fixed_variance_normal_head,
    parameter_free_head,
    shared_variance_normal_head,
    soft_clip,
)

MEAN = np.array([[0.3, -1.0, 5.0], [0.0, 2.0, -0.5]], np.float32)
LOG_VARIANCE = np.array([[0.0, -3.0, 1.5], [-0.7, 0.4, 2.0]], np.float32)
LOGITS = np.array([[0.3, -1.0, 2.0], [0.0, -2.0, 1.2]], np.float32)
ZEROS = np.zeros(2, np.float32)

# A pair of each family, and how to make the same in NumPyro.
FAMILIES = {
    "normal": (
        (Normal(MEAN, LOG_VARIANCE), Normal(MEAN[::-1], 0.5 * LOG_VARIANCE)),
        lambda d: numpyro.Normal(d.mean, jnp.exp(d.log_variance / 2)),
    ),
    "bernoulli": (
        (Bernoulli(LOGITS), Bernoulli(-0.5 * LOGITS)),
        lambda d: numpyro.Bernoulli(logits=d.logits),
    ),
    "categorical": (
        (Categorical(LOGITS), Categorical(-0.5 * LOGITS)),
        lambda d: numpyro.Categorical(logits=d.logits),
    ),
}


@pytest.fixture(params=FAMILIES)
def pair(request):
    return FAMILIES[request.param][0]


@pytest.fixture
def debug_nans():
    with jax.debug_nans(True):
        yield


def in_numpyro(function):
    """NumPyro is not written for the strict promotion that the tests turn on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.jit(function)()


def draws(distribution, num):
    return np.asarray(
        jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(0), num))
    )


# log_prob and sample


@pytest.mark.parametrize("name", FAMILIES)
def test_log_prob_matches_numpyro(name):
    (ours, _), convert = FAMILIES[name]
    event = draws(ours, 1)[0]
    theirs = in_numpyro(lambda: convert(ours).log_prob(event).sum())
    np.testing.assert_allclose(ours.log_prob(event), theirs, rtol=1e-5)


def test_log_prob_matches_scipy():
    x = np.array([[0.1, -0.9, 6.0], [1.0, 0.0, -3.0]], np.float32)
    normal = scipy.stats.norm(MEAN, np.exp(LOG_VARIANCE / 2)).logpdf(x).sum()
    np.testing.assert_allclose(
        Normal(MEAN, LOG_VARIANCE).log_prob(x), normal, rtol=1e-5
    )
    binary = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    bernoulli = scipy.stats.bernoulli(scipy.special.expit(LOGITS)).logpmf(binary).sum()
    np.testing.assert_allclose(Bernoulli(LOGITS).log_prob(binary), bernoulli, rtol=1e-5)
    categorical = scipy.special.log_softmax(LOGITS, axis=-1)[[0, 1], [2, 0]].sum()
    np.testing.assert_allclose(
        Categorical(LOGITS).log_prob(jnp.array([2, 0])), categorical, rtol=1e-5
    )


def test_density_of_normal_integrates_to_one():
    normal = Normal(np.float32([0.4, -1.0]), np.float32([-1.0, 1.0]))
    axis = np.linspace(-12, 12, 801, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(jax.jit(jax.vmap(normal.log_prob))(grid))
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1, rtol=1e-4)


def test_probabilities_of_discrete_events_sum_to_one():
    binary = np.indices((2,) * 6).reshape(6, -1).T.reshape(-1, 2, 3).astype(np.float32)
    np.testing.assert_allclose(
        np.exp(jax.vmap(Bernoulli(LOGITS).log_prob)(binary)).sum(), 1, rtol=1e-5
    )
    classes = jnp.asarray(np.indices((3, 3)).reshape(2, -1).T)
    np.testing.assert_allclose(
        np.exp(jax.vmap(Categorical(LOGITS).log_prob)(classes)).sum(), 1, rtol=1e-5
    )


def test_sample_moments_within_five_standard_errors():
    num = 100_000
    variance, p, classes = (
        np.exp(LOG_VARIANCE),
        scipy.special.expit(LOGITS),
        scipy.special.softmax(LOGITS, axis=-1),
    )
    normal = draws(Normal(MEAN, LOG_VARIANCE), num)
    for values, mean, spread in [
        (normal, MEAN, variance),
        (np.square(normal - MEAN), variance, 2 * variance**2),
        (draws(Bernoulli(LOGITS), num), p, p * (1 - p)),
        (np.eye(3)[draws(Categorical(LOGITS), num)], classes, classes * (1 - classes)),
    ]:
        assert np.all(
            np.abs(np.mean(values, axis=0) - mean) < 5 * np.sqrt(spread / num)
        )


def test_sample_and_log_prob_is_both(pair):
    event, log_prob = pair[0].sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, pair[0].sample(jax.random.key(0)))
    np.testing.assert_allclose(log_prob, pair[0].log_prob(event), rtol=1e-5)
    assert log_prob.shape == ()
    assert len(np.unique(draws(pair[0], 10), axis=0)) > 1


def test_mean_and_mode():
    np.testing.assert_array_equal(Normal(MEAN, LOG_VARIANCE).mode, MEAN)
    np.testing.assert_allclose(
        Bernoulli(LOGITS).mean, scipy.special.expit(LOGITS), rtol=1e-6
    )
    np.testing.assert_array_equal(Bernoulli(LOGITS).mode, [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(Categorical(LOGITS).mode, [2, 2])
    assert not hasattr(Categorical(LOGITS), "mean")


def test_normal_takes_a_scalar_log_variance():
    scalar, full = (
        Normal(MEAN, np.float32(0.7)),
        Normal(MEAN, np.full(MEAN.shape, 0.7, np.float32)),
    )
    event, log_prob = scalar.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, full.sample(jax.random.key(0)))
    np.testing.assert_allclose(
        [log_prob, scalar.log_prob(event)], full.log_prob(event), rtol=1e-6
    )
    prior = Normal(0 * MEAN, np.float32(0))
    np.testing.assert_allclose(
        kl_divergence(scalar, prior), kl_divergence(full, prior), rtol=1e-6
    )


# reparameterize


def test_reparameterize_is_mean_plus_stddev_times_noise():
    z = reparameterize(jax.random.key(0), MEAN, LOG_VARIANCE)
    noise = np.asarray(jax.random.normal(jax.random.key(0), MEAN.shape))
    np.testing.assert_allclose(z, MEAN + np.exp(LOG_VARIANCE / 2) * noise, rtol=1e-6)
    np.testing.assert_array_equal(
        z, reparameterize(jax.random.key(0), MEAN, LOG_VARIANCE)
    )
    assert not np.any(z == reparameterize(jax.random.key(1), MEAN, LOG_VARIANCE))


def test_reparameterize_gradients():
    def total(mean, log_variance):
        return jnp.sum(reparameterize(jax.random.key(0), mean, log_variance))

    by_mean, by_log_variance = jax.grad(total, argnums=(0, 1))(MEAN, LOG_VARIANCE)
    noise = np.asarray(jax.random.normal(jax.random.key(0), MEAN.shape))
    np.testing.assert_array_equal(by_mean, np.ones(MEAN.shape))
    np.testing.assert_allclose(
        by_log_variance, noise * np.exp(LOG_VARIANCE / 2) / 2, rtol=1e-5
    )


def test_reparameterize_refuses_shapes_that_would_share_noise():
    assert reparameterize(jax.random.key(0), MEAN, np.float32(0)).shape == MEAN.shape
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        reparameterize(jax.random.key(0), MEAN, LOG_VARIANCE[0])
    with pytest.raises(ValueError, match="log_variance"):
        reparameterize(jax.random.key(0), np.float32(0), LOG_VARIANCE)


# kl_divergence


def test_kl_of_normals_matches_numpyro():
    (q, p), convert = FAMILIES["normal"]
    theirs = in_numpyro(lambda: numpyro.kl_divergence(convert(q), convert(p)).sum())
    np.testing.assert_allclose(kl_divergence(q, p), theirs, rtol=1e-5)


def test_kl_of_discrete_distributions_matches_scipy():
    classes = scipy.special.rel_entr(
        scipy.special.softmax(LOGITS, -1), scipy.special.softmax(-0.5 * LOGITS, -1)
    )
    np.testing.assert_allclose(
        kl_divergence(*FAMILIES["categorical"][0]), classes.sum(), rtol=1e-5
    )
    q, p = scipy.special.expit(LOGITS), scipy.special.expit(-0.5 * LOGITS)
    binary = scipy.special.rel_entr(q, p) + scipy.special.rel_entr(1 - q, 1 - p)
    np.testing.assert_allclose(
        kl_divergence(*FAMILIES["bernoulli"][0]), binary.sum(), rtol=1e-5
    )


def test_kl_is_the_mean_log_ratio_within_five_standard_errors(pair):
    q, p = pair

    def log_ratio(key):
        sample, log_q = q.sample_and_log_prob(key)
        return log_q - p.log_prob(sample)

    log_ratios = np.asarray(
        jax.jit(jax.vmap(log_ratio))(jax.random.split(jax.random.key(0), 20_000))
    )
    assert abs(
        log_ratios.mean() - kl_divergence(q, p)
    ) < 5 * log_ratios.std() / math.sqrt(len(log_ratios))


def test_kl_of_equals_is_zero(pair):
    q, p = pair
    assert kl_divergence(q, q) == 0
    assert kl_divergence(q, p) > 0


def test_kl_from_the_standard_normal():
    expected = 0.5 * np.sum(MEAN**2 + np.exp(LOG_VARIANCE) - LOG_VARIANCE - 1)
    standard = Normal(0 * MEAN, 0 * MEAN)
    np.testing.assert_allclose(
        kl_divergence(Normal(MEAN, LOG_VARIANCE), standard), expected, rtol=1e-6
    )


def test_kl_of_nearly_equal_normals_keeps_its_digits():
    # d^2 / 4 for a small log-ratio d, where v - 1 - log v is all rounding in single
    # precision.
    nearly = Normal(ZEROS, np.full(2, 1e-3, np.float32))
    np.testing.assert_allclose(
        kl_divergence(nearly, Normal(ZEROS, ZEROS)), 2 * 1e-6 / 4, rtol=0.01
    )


def test_kl_errors_tell_the_way_out():
    with pytest.raises(TypeError, match=r"Normal \|\| Bernoulli.*kl_monte_carlo"):
        kl_divergence(Normal(MEAN, LOG_VARIANCE), Bernoulli(LOGITS))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        kl_divergence(Normal(MEAN, LOG_VARIANCE), Normal(MEAN[0], LOG_VARIANCE[0]))


# soft_bounds


@pytest.mark.parametrize("bounds", [(-20.0, 20.0), (-1.0, 0.5)])
def test_soft_bounds_stay_inside_and_increase(bounds):
    y = np.asarray(soft_clip(np.linspace(-100, 100, 4001, dtype=np.float32), *bounds))
    assert np.all((y >= bounds[0] - 1e-6) & (y <= bounds[1] + 1e-6))
    assert np.all(np.diff(y) >= 0)
    np.testing.assert_allclose(
        soft_clip(np.float32([-1e30, 1e30]), *bounds), bounds, rtol=1e-6
    )


def test_soft_bounds_are_the_identity_inside():
    x = np.linspace(-10, 10, 101, dtype=np.float32)
    np.testing.assert_allclose(soft_clip(x, -20.0, 20.0), x, atol=1.1 * math.exp(-10))


def test_soft_bounds_let_a_network_return():
    gradient = jax.vmap(jax.grad(lambda x: soft_clip(x, -20.0, 20.0)))(
        np.float32([-30, 30])
    )
    assert np.all(np.asarray(gradient) > 1e-5)


@pytest.mark.parametrize(
    "d",
    [Normal(ZEROS, ZEROS), Bernoulli(ZEROS), Categorical(np.zeros((2, 3), np.float32))],
)
def test_log_prob_of_a_batch_is_refused(d):
    batch = jnp.zeros((5, 2), jnp.int32 if isinstance(d, Categorical) else jnp.float32)
    with pytest.raises(ValueError, match=r"shape \(5, 2\).*\(2,\).*jax.vmap"):
        d.log_prob(batch)
    assert jax.vmap(d.log_prob)(batch).shape == (5,)


def test_kl_of_categoricals_where_classes_are_ruled_out():
    q, p = (
        Categorical(jnp.array([[0.0, 0.0, -jnp.inf]])),
        Categorical(jnp.array([[0.0, 1.0, -jnp.inf]])),
    )
    expected = scipy.stats.entropy([0.5, 0.5], scipy.special.softmax([0, 1]))
    np.testing.assert_allclose(kl_divergence(q, p), expected, rtol=1e-6)
    assert np.all(
        np.isfinite(
            jax.grad(lambda logits: kl_divergence(Categorical(logits), p))(q.logits)
        )
    )
    assert kl_divergence(Categorical(jnp.zeros((1, 3))), p) == np.inf


def test_soft_bounds_may_be_one_sided():
    x = np.float32([-50, 0, 50])
    np.testing.assert_array_equal(soft_clip(x, -math.inf, math.inf), x)
    np.testing.assert_allclose(soft_clip(x, -20.0, math.inf), [-20, 0, 50], atol=1e-5)
    np.testing.assert_allclose(soft_clip(x, -math.inf, 20.0), [-50, 0, 20], atol=1e-5)


# heads


def test_num_parameters_is_the_width_that_a_head_takes():
    for head, num_parameters in [
        (normal_head(), 2),
        (fixed_variance_normal_head(), 1),
        (shared_variance_normal_head(), 1),
        (parameter_free_head(Bernoulli), 1),
        (categorical_head(7), 7),
    ]:
        assert head.num_parameters == num_parameters
        outputs = np.zeros(
            (4,) if num_parameters == 1 else (4, num_parameters), np.float32
        )
        assert jax.eval_shape(
            head.apply(head.init(jax.random.key(0)), outputs).sample, jax.random.key(1)
        ).shape == (4,)


def test_normal_head_reads_mean_and_log_variance():
    normal = normal_head().apply((), np.stack([MEAN, LOG_VARIANCE], axis=-1))
    np.testing.assert_array_equal(normal.mean, MEAN)
    np.testing.assert_allclose(normal.log_variance, LOG_VARIANCE, atol=1e-5)


def test_as_head():
    assert as_head(Bernoulli) is Bernoulli.head and as_head(Normal).num_parameters == 2
    head = categorical_head(3)
    assert as_head(head) is head
    for wrong in (Categorical, "bernoulli", lambda outputs: outputs):
        with pytest.raises(TypeError, match="give a vaejax.Head"):
            as_head(wrong)


def test_heads_check_their_arguments():
    for make in (
        lambda: categorical_head(1),
        lambda: fixed_variance_normal_head(0.0),
        lambda: fixed_variance_normal_head(math.inf),
        lambda: normal_head(3.0, 3.0),
        lambda: shared_variance_normal_head(0.0, 1.0, -1.0),
    ):
        with pytest.raises(ValueError, match="give|must"):
            make()


def test_fixed_variance_is_the_squared_error():
    variance, x = 0.3, np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    log_prob = (
        fixed_variance_normal_head(variance).apply((), jnp.asarray(MEAN)).log_prob(x)
    )
    expected = np.square(x - MEAN).sum() / (2 * variance) + x.size / 2 * math.log(
        2 * math.pi * variance
    )
    np.testing.assert_allclose(-log_prob, expected, rtol=1e-6)


def test_shared_variance_learns_the_mean_squared_error():
    head, x = (
        shared_variance_normal_head(1.0),
        np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    )
    gradient = jax.grad(lambda params: head.apply(params, MEAN).log_prob(x))
    params = head.init(jax.random.key(0))
    assert params == 1 and abs(gradient(params)) > 0.1
    # The optimal variance is the mean squared error.
    np.testing.assert_allclose(
        gradient(np.log(np.square(x - MEAN).mean())), 0, atol=1e-4
    )


# edges


@pytest.mark.parametrize("logit", [1e3, -1e3])
def test_bernoulli_at_extreme_logits(debug_nans, logit):
    log_prob = jax.jit(
        jax.value_and_grad(lambda logits, event: Bernoulli(logits).log_prob(event))
    )
    logits = np.full(2, logit, np.float32)
    right, wrong = (logits > 0).astype(np.float32), (logits < 0).astype(np.float32)
    for event, value, gradient in [(right, 0, 0), (wrong, -2000, -np.sign(logit))]:
        assert log_prob(logits, event)[0] == value
        np.testing.assert_array_equal(log_prob(logits, event)[1], gradient)
    np.testing.assert_array_equal(draws(Bernoulli(logits), 3), [right] * 3)
    kl = jax.jit(
        jax.value_and_grad(
            lambda logits: kl_divergence(Bernoulli(logits), Bernoulli(-logits))
        )
    )
    assert kl(logits)[0] == 2000
    np.testing.assert_array_equal(kl(logits)[1], np.sign(logit))


def test_bernoulli_gradient_at_logit_zero():
    gradient = jax.grad(lambda logits: Bernoulli(logits).log_prob(np.float32([0, 1])))(
        ZEROS
    )
    np.testing.assert_array_equal(gradient, [-0.5, 0.5])


def test_categorical_at_extreme_logits(debug_nans):
    logits = np.float32([1e3, -1e3, 0])
    log_prob = jax.jit(
        jax.value_and_grad(lambda logits, event: Categorical(logits).log_prob(event))
    )
    assert [log_prob(logits, jnp.int32(i))[0] for i in range(3)] == [0, -2000, -1000]
    np.testing.assert_array_equal(log_prob(logits, jnp.int32(1))[1], [-1, 1, 0])
    kl = jax.jit(
        jax.value_and_grad(
            lambda logits: kl_divergence(Categorical(logits), Categorical(-logits))
        )
    )
    assert kl(logits)[0] == 2000
    assert np.all(np.isfinite(kl(logits)[1]))


def test_normal_at_variance_1e_minus_12(debug_nans):
    # The second event rounds to its mean; its density must be that of its noise all the
    # same.
    normal = Normal(np.float32([0, 100]), np.full(2, math.log(1e-12), np.float32))
    tiny = scipy.stats.norm(0, 1e-6)
    event, log_prob = normal.sample_and_log_prob(jax.random.key(0))
    noise = np.asarray(jax.random.normal(jax.random.key(0), (2,)))
    np.testing.assert_allclose(log_prob, tiny.logpdf(1e-6 * noise).sum(), rtol=1e-5)
    np.testing.assert_allclose(
        normal.log_prob(normal.mean), 2 * tiny.logpdf(0), rtol=1e-5
    )
    gradient = jax.grad(lambda normal: normal.log_prob(event))(normal)
    assert np.all(np.isfinite(gradient.mean)) and np.all(
        np.isfinite(gradient.log_variance)
    )
    kl = 0.5 * (100**2 + 2 * (1e-12 - math.log(1e-12) - 1))
    np.testing.assert_allclose(
        kl_divergence(normal, Normal(ZEROS, ZEROS)), kl, rtol=1e-6
    )


def test_bounded_log_variance_keeps_the_bound_finite(debug_nans):
    standard = Normal(ZEROS, ZEROS)

    def terms(log_variance):
        posterior = normal_head().apply(
            (), jnp.stack([ZEROS, jnp.full(2, log_variance)], axis=-1)
        )
        z, log_posterior = posterior.sample_and_log_prob(jax.random.key(0))
        return jnp.stack(
            [kl_divergence(posterior, standard), log_posterior - standard.log_prob(z)]
        )

    raw = np.float32([1e3, -1e3, 1e30, -1e30])
    assert np.all(np.isfinite(jax.jit(jax.vmap(terms))(raw)))
    assert np.all(np.isfinite(jax.jit(jax.vmap(jax.jacobian(terms)))(raw)))
