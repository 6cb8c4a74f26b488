"""Every likelihood of `LIKELIHOODS` against SciPy, its own normalization,
its draws, and extremes.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import vaejax
from experiments.harness.model_options import LIKELIHOODS
from vaejax.base import VAE, Distribution

LEVELS = np.arange(256) / 255


class Family(NamedTuple):
    """A distribution of three dimensions that differ, and what SciPy says of it.

    Attributes:
      ours: the distribution.
      log_prob: `x -> [*x]`, elementwise, float64, for x of shape `[..., 3]`.
      grid: the values that hold all the mass, of a discrete one; None of a density.
      mean, variance: `[3]`.
    """

    ours: Distribution
    log_prob: object
    grid: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray


def of_scipy(
    ours: Distribution, make, *parameters: np.ndarray, grid: np.ndarray | None = None
) -> Family:
    frozen = make(*(np.float64(parameter) for parameter in parameters))
    return Family(
        ours,
        frozen.logpdf if grid is None else frozen.logpmf,
        grid,
        frozen.mean(),
        frozen.var(),
    )


def of_levels(ours: Distribution, cdf) -> Family:
    """8-bit pixels: the mass between the midpoints of neighboring levels, by SciPy's
    cumulative distribution.
    """
    edges = (np.arange(255) + 0.5)[:, None] / 255
    inner = np.array([cdf(np.broadcast_to(edge, 3)) for edge in edges])
    mass = np.diff(np.concatenate([np.zeros((1, 3)), inner, np.ones((1, 3))]), axis=0)
    mean = (LEVELS[:, None] * mass).sum(axis=0)

    def log_prob(x):
        return np.log(
            np.take_along_axis(
                mass, np.rint(np.atleast_2d(x) * 255).astype(int), axis=0
            ).reshape(x.shape)
        )

    return Family(
        ours,
        log_prob,
        LEVELS,
        mean,
        (np.square(LEVELS[:, None] - mean) * mass).sum(axis=0),
    )


A, B = np.float32([0.3, -1.2, 2.0]), np.float32([-0.5, 0.4, 0.1])
LOCATION, LOG_SCALE = np.float32([0.2, 0.5, 0.97]), np.float32([-3.0, -1.0, -2.0])
NU = np.float32([5.0, 9.0, 30.0])
COUNTS = np.arange(400)
CONCENTRATION, MEAN = np.exp(np.float64(B) + 1), np.exp(np.float64(A))
WEIGHTS = np.float32([[0.3, -1.0], [0.0, 2.0], [1.0, 0.5]])
LOCATIONS = np.float32([[0.1, 0.8], [0.4, 0.5], [-0.1, 1.05]])
LOG_SCALES = np.float32([[-3.0, -2.5], [-1.0, -4.0], [-3.0, -2.0]])


def continuous_bernoulli() -> Family:
    log_odds = np.float64(np.float32([0.4, -3.0, 1e-4]))
    normalizer = np.log(np.expm1(log_odds) / log_odds)
    mean = 1 / -np.expm1(-log_odds) - 1 / log_odds
    density = [lambda x, i=i: np.exp(log_odds[i] * x - normalizer[i]) for i in range(3)]
    variance = [
        scipy.integrate.quad(lambda x, i=i: (x - mean[i]) ** 2 * density[i](x), 0, 1)[0]
        for i in range(3)
    ]
    ours = vaejax.distributions.ContinuousBernoulli(np.float32([0.4, -3.0, 1e-4]))
    return Family(
        ours, lambda x: x * log_odds - normalizer, None, mean, np.array(variance)
    )


def mixture_cdf(x):
    components = scipy.stats.logistic(LOCATIONS, np.exp(LOG_SCALES)).cdf(x[:, None])
    return (scipy.special.softmax(WEIGHTS, axis=-1) * components).sum(axis=-1)


FAMILIES = {
    "bernoulli": of_scipy(
        vaejax.Bernoulli(A),
        scipy.stats.bernoulli,
        scipy.special.expit(A),
        grid=np.arange(2),
    ),
    "continuous_bernoulli": continuous_bernoulli(),
    "normal": of_scipy(vaejax.Normal(A, B), scipy.stats.norm, A, np.exp(B / 2)),
    "laplace": of_scipy(
        vaejax.distributions.Laplace(A, B), scipy.stats.laplace, A, np.exp(B)
    ),
    "student_t": of_scipy(
        vaejax.distributions.StudentT(A, B, np.log(NU)), scipy.stats.t, NU, A, np.exp(B)
    ),
    "discretized_logistic": of_levels(
        vaejax.distributions.DiscretizedLogistic(LOCATION, LOG_SCALE),
        scipy.stats.logistic(LOCATION, np.exp(LOG_SCALE)).cdf,
    ),
    "discretized_logistic_mixture": of_levels(
        vaejax.distributions.DiscretizedLogisticMixture(WEIGHTS, LOCATIONS, LOG_SCALES),
        mixture_cdf,
    ),
    "discretized_normal": of_levels(
        vaejax.distributions.DiscretizedNormal(LOCATION, 2 * LOG_SCALE),
        scipy.stats.norm(LOCATION, np.exp(LOG_SCALE)).cdf,
    ),
    "poisson": of_scipy(
        vaejax.distributions.Poisson(A), scipy.stats.poisson, np.exp(A), grid=COUNTS
    ),
    "negative_binomial": of_scipy(
        vaejax.distributions.NegativeBinomial(A, B + 1),
        scipy.stats.nbinom,
        CONCENTRATION,
        CONCENTRATION / (CONCENTRATION + MEAN),
        grid=COUNTS,
    ),
}
DISCRETE = [name for name, family in FAMILIES.items() if family.grid is not None]


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def one_dimension(distribution, index):
    """The distribution of one of the three dimensions: `[1]`."""
    return jax.tree.map(lambda leaf: leaf[index : index + 1], distribution)


def draws(distribution, num):
    return np.asarray(
        jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(0), num))
    )


def test_every_head_makes_a_tested_family():
    made = {
        type(head.apply(head.init(jax.random.key(0)), _outputs(head, 0.0)))
        for head in LIKELIHOODS.values()
    }
    assert made == {type(family.ours) for family in FAMILIES.values()}


def _outputs(head, value):
    return jnp.full(
        (2,) if head.num_parameters == 1 else (2, head.num_parameters),
        value,
        jnp.float32,
    )


def test_log_prob_matches_scipy(family):
    for x in draws(family.ours, 20):
        np.testing.assert_allclose(
            family.ours.log_prob(x), family.log_prob(x).sum(), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one(name):
    family = FAMILIES[name]
    for index in range(3):
        one = one_dimension(family.ours, index)
        log_probs = jax.vmap(one.log_prob)(
            jnp.asarray(family.grid, jnp.float32)[:, None]
        )
        np.testing.assert_allclose(np.exp(np.float64(log_probs)).sum(), 1, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(DISCRETE)))
def test_density_integrates_to_one(name):
    # Over all reals by x = location + tan(angle), so that heavy tails are within the
    # grid.
    family = FAMILIES[name]
    for index in range(3):
        one = one_dimension(family.ours, index)
        if name == "continuous_bernoulli":
            x, weight = (steps := np.linspace(0, 1, 20_001)), 1
        else:
            steps = np.linspace(-math.pi / 2, math.pi / 2, 20_003)[1:-1]
            x, weight = family.mean[index] + np.tan(steps), 1 / np.square(np.cos(steps))
        density = np.exp(
            np.float64(jax.vmap(one.log_prob)(jnp.asarray(x, jnp.float32)[:, None]))
        )
        np.testing.assert_allclose(np.trapezoid(density * weight, steps), 1, atol=1e-4)


def test_moments_of_draws_within_five_standard_errors(family):
    num = 100_000
    x = np.float64(draws(family.ours, num))
    assert np.all(
        np.abs(x.mean(axis=0) - family.mean) < 5 * np.sqrt(family.variance / num)
    )
    squares = np.square(x - family.mean)
    assert np.all(
        np.abs(squares.mean(axis=0) - family.variance)
        < 5 * squares.std(axis=0) / math.sqrt(num)
    )


def test_mean_and_mode(family):
    np.testing.assert_allclose(family.ours.mean, family.mean, rtol=1e-4)
    mode = np.asarray(family.ours.mode)
    at_mode = family.log_prob(mode)
    for other in draws(family.ours, 200):
        # Where two values are equally likely either may be the mode.
        assert np.all(family.log_prob(other) <= at_mode + 1e-6)


def test_sample_and_log_prob_is_both(family):
    event, log_prob = family.ours.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(event, family.ours.sample(jax.random.key(0)))
    np.testing.assert_allclose(log_prob, family.ours.log_prob(event), rtol=1e-5)
    assert event.dtype == jnp.float32 and log_prob.shape == ()


def test_draws_lie_in_the_support(family):
    x = draws(family.ours, 1000)
    assert np.all(family.ours.support.contains(x))
    assert not family.ours.support.contains(np.float32(np.nan))


def test_log_prob_of_a_batch_is_refused(family):
    with pytest.raises(ValueError, match=r"shape \(5, 3\).*\(3,\).*jax.vmap"):
        family.ours.log_prob(jnp.zeros((5, 3)))


# extremes


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("output", [1e3, -1e3])
def test_gradients_through_the_head_are_finite_at_extreme_outputs(name, output):
    head = LIKELIHOODS[name]
    params, outputs = head.init(jax.random.key(0)), _outputs(head, output)
    with jax.debug_nans(True):
        for x in ([0.0, 1.0], [1.0, 0.0]):
            log_prob = jax.jit(
                jax.value_and_grad(
                    lambda o, x=x: head.apply(params, o).log_prob(jnp.array(x))
                )
            )
            value, gradient = log_prob(outputs)
            assert np.isfinite(value) and np.all(np.isfinite(gradient))


TINY = math.log(1e-6)  # a variance of 1e-12
SHARP = {
    "normal": vaejax.Normal(A, np.full(3, 2 * TINY, np.float32)),
    "laplace": vaejax.distributions.Laplace(A, np.full(3, TINY, np.float32)),
    "student_t": vaejax.distributions.StudentT(
        A, np.full(3, TINY, np.float32), np.log(NU)
    ),
    "discretized_logistic": vaejax.distributions.DiscretizedLogistic(
        LOCATION, np.full(3, TINY, np.float32)
    ),
    "discretized_logistic_mixture": vaejax.distributions.DiscretizedLogisticMixture(
        WEIGHTS, LOCATIONS, np.full((3, 2), TINY, np.float32)
    ),
    "discretized_normal": vaejax.distributions.DiscretizedNormal(
        LOCATION, np.full(3, 2 * TINY, np.float32)
    ),
}


@pytest.mark.parametrize("name", SHARP)
def test_gradients_are_finite_at_a_variance_of_1e_minus_12(name):
    with jax.debug_nans(True):
        for event in (
            np.float32([0, 1, 0]),
            np.float32([51 / 255, 128 / 255, 247 / 255]),
        ):
            value, gradient = jax.jit(
                jax.value_and_grad(lambda d, event=event: d.log_prob(event))
            )(SHARP[name])
            assert np.isfinite(value)
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("logit", [1e3, -1e3, 0.0])
def test_continuous_bernoulli_at_extreme_logits(logit):
    ours = vaejax.distributions.ContinuousBernoulli(np.full(2, logit, np.float32))
    with jax.debug_nans(True):
        value, gradient = jax.jit(
            jax.value_and_grad(lambda d: d.log_prob(np.float32([0.25, 0.75])))
        )(ours)
        x = draws(ours, 50)
    # x l - log((e^l - 1) / l): at l -> inf it is (x - 1) l + log l, at 0 it is 0.
    expected = 2 * math.log(abs(logit)) - abs(logit) if logit else 0
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # x - mean, the mean being 1 - 1 / l, 1 / |l| and 1/2.
    mean = {1e3: 0.999, -1e3: 0.001, 0.0: 0.5}[logit]
    np.testing.assert_allclose(gradient.logits, [0.25 - mean, 0.75 - mean], rtol=1e-4)
    np.testing.assert_allclose(ours.mean, mean, rtol=1e-5)
    assert np.all((x >= 0) & (x <= 1)) and abs(x.mean() - mean) < 0.2


@pytest.mark.parametrize(
    "log_odds", np.float32([1e-6, -1e-3, 0.49, 0.51, -0.499, -0.501])
)
def test_continuous_bernoulli_is_smooth_where_its_series_ends(log_odds):
    exact = np.float64(log_odds)
    value, gradient = jax.value_and_grad(
        lambda logits: vaejax.distributions.ContinuousBernoulli(logits).log_prob(
            jnp.float32(0.3)
        )
    )(log_odds)
    np.testing.assert_allclose(
        value, 0.3 * exact - np.log(np.expm1(exact) / exact), atol=1e-6
    )
    mean = 0.5 + exact / 12 - exact**3 / 720 + exact**5 / 30240
    np.testing.assert_allclose(gradient, 0.3 - mean, atol=1e-6)


def test_student_t_tends_to_the_normal():
    x = np.float32([0.1, -2.0, 3.0])
    heavy = vaejax.distributions.StudentT(A, B, np.full(3, math.log(1e6), np.float32))
    np.testing.assert_allclose(
        heavy.log_prob(x), vaejax.Normal(A, 2 * B).log_prob(x), rtol=1e-5
    )
    assert np.all(
        np.isnan(vaejax.distributions.StudentT(A, B, np.full(3, -1.0, np.float32)).mean)
    )


# heads


def test_with_initial_outputs_starts_at_the_data_and_learns():
    target = np.float32([[0.9, 0.1], [0.5, 0.2]])
    head = vaejax.distributions.with_initial_outputs(
        vaejax.Bernoulli, scipy.special.logit(target)
    )
    params = head.init(jax.random.key(0))
    np.testing.assert_allclose(
        head.apply(params, jnp.zeros((2, 2))).mean, target, rtol=1e-6
    )
    gradient = jax.grad(
        lambda params: head.apply(params, jnp.zeros((2, 2))).log_prob(jnp.ones((2, 2)))
    )(params)
    np.testing.assert_allclose(gradient["bias"], 1 - target, rtol=1e-5)
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 2\)"):
        head.apply(params, jnp.zeros(3))
    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.MLP((4,)),
        decoder=vaejax.MLP((4,), (2, 2)),
        likelihood=head,
    )
    assert isinstance(vae, VAE) and vae.init(jax.random.key(0), jnp.zeros((2, 2)))[
        "likelihood"
    ]["bias"].shape == (2, 2)


def test_support_of_heads():
    assert vaejax.distributions.support_of(vaejax.Bernoulli).contains(
        np.array([0, 1, 0.5])
    ).tolist() == [True, True, False]
    pixels = vaejax.distributions.support_of(
        LIKELIHOODS["discretized_logistic_mixture"]
    )
    assert pixels.contains(np.float32([0, 7 / 255, 0.5, 1, 1.2, -0.1])).tolist() == [
        True,
        True,
        False,
        True,
    ] + 2 * [False]
    assert vaejax.distributions.support_of(vaejax.distributions.Poisson).contains(
        np.array([0, 3, 2.5, -1])
    ).tolist() == [True, True] + 2 * [False]
    assert vaejax.distributions.support_of(
        LIKELIHOODS["shared_variance_normal"]
    ).contains(np.array([1e9, -np.inf])).tolist() == [
        True,
        False,
    ]


def test_heads_check_their_arguments():
    for make in (
        lambda: vaejax.distributions.discretized_logistic_mixture_head(0),
        lambda: vaejax.distributions.laplace_head(1.0, 1.0),
        lambda: vaejax.distributions.student_t_head(1.0, 0.0),
        lambda: vaejax.distributions.poisson_head(5.0, -5.0),
    ):
        with pytest.raises(ValueError, match="give|must"):
            make()
