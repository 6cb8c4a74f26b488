"""Heads: what they read, what they check, and the soft bounds of their outputs."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import vaejax
from experiments.harness.model_options import LIKELIHOODS
from vaejax import Bernoulli, Categorical, Normal, normal_head
from vaejax.base import VAE
from vaejax.distributions import (
    as_head,
    categorical_head,
    discretized_logistic_mixture_head,
    fixed_variance_normal_head,
    laplace_head,
    parameter_free_head,
    poisson_head,
    shared_variance_normal_head,
    soft_clip,
    student_t_head,
)


@pytest.mark.parametrize("bounds", [(-20.0, 20.0), (-1.0, 0.5), (0.0, 6.9)])
def test_soft_clip_stays_inside_and_increases(bounds):
    y = np.asarray(soft_clip(np.linspace(-100, 100, 4001, dtype=np.float32), *bounds))
    assert np.all((y >= np.float32(bounds[0])) & (y <= np.float32(bounds[1])))
    assert np.all(np.diff(y) >= 0)
    far = np.float32([-np.inf, -1e30, 1e30, np.inf])
    np.testing.assert_allclose(soft_clip(far, *bounds), np.repeat(bounds, 2), rtol=1e-6)
    assert np.isnan(soft_clip(np.float32(np.nan), *bounds))


def test_soft_clip_is_the_identity_inside():
    x = np.linspace(-17, 17, 101, dtype=np.float32)
    np.testing.assert_array_equal(soft_clip(x, -20.0, 20.0), x)
    x = np.linspace(-0.5, 0, 11, dtype=np.float32)  # margin 3/8
    np.testing.assert_array_equal(soft_clip(x, -1.0, 0.5), x)


def test_soft_clip_keeps_a_gradient_at_any_distance():
    slope = jax.vmap(jax.grad(lambda x: soft_clip(x, -20.0, 20.0)))
    margins = np.float32([0.5, 1, 2, 3.5, 4.5, 100, 1e4, 1e6])
    right = np.maximum(np.exp(-margins), 0.1 / (1 + margins))
    np.testing.assert_allclose(slope(17 + 3 * margins), right, rtol=1e-5)
    np.testing.assert_allclose(slope(-17 - 3 * margins), right, rtol=1e-5)
    np.testing.assert_array_equal(slope(np.linspace(-17, 17, 50, dtype=np.float32)), 1)


def test_soft_clip_turns_smoothly_into_its_bound():
    # The value is once differentiable: its slope is 1 at the margin.
    x = 17 + np.linspace(0, 15, 200)
    with jax.enable_x64(True):
        y = np.asarray(soft_clip(x, -20.0, 20.0))
    np.testing.assert_allclose(y, 20 - 3 * np.exp(-(x - 17) / 3), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_soft_clip_in_half_precision(dtype):
    x = jnp.asarray([-6e4, -300, -3.14, 0, 0.01, 3.14, 300, 6e4], dtype)
    y = soft_clip(x, -20.0, 20.0)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[2:6], x[2:6])
    np.testing.assert_array_equal(y[jnp.array([0, 7])], [-20, 20])
    np.testing.assert_allclose(np.float32(y[jnp.array([1, 6])]), [-20, 20], rtol=4e-3)
    slope = jax.vmap(jax.grad(lambda x: soft_clip(x, -20.0, 20.0)))(x)
    assert slope.dtype == dtype and jnp.all(slope > 0)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0)])
def test_soft_clip_refuses_bounds_out_of_order(lower, upper):
    with pytest.raises(ValueError, match="the first must be smaller"):
        soft_clip(jnp.zeros(2), lower, upper)


# Every head that bounds outputs, and which of the outputs.
BOUNDED = {
    "normal": (normal_head(), [1]),
    "laplace": (laplace_head(), [1]),
    "student_t": (student_t_head(), [1, 2]),
    "poisson": (poisson_head(), [0]),
    "negative_binomial": (vaejax.distributions.negative_binomial_head(), [0, 1]),
    "zero_inflated_negative_binomial": (
        vaejax.distributions.zero_inflated_negative_binomial_head(),
        [0, 1],
    ),
    "discretized_logistic": (vaejax.distributions.discretized_logistic_head(), [1]),
    "discretized_normal": (vaejax.distributions.discretized_normal_head(), [1]),
    "discretized_logistic_mixture": (discretized_logistic_mixture_head(1), [2]),
    "shared_variance_normal": (shared_variance_normal_head(), []),
    # From below only: test_spherical.py.
    "von_mises_fisher": (vaejax.distributions.von_mises_fisher_head(), []),
    # What it bounds is the logarithm of the triangle's diagonal: test_multivariate.py.
    "full_covariance_normal": (
        vaejax.distributions.full_covariance_normal_head(2),
        [],
    ),
}


def test_every_head_with_bounds_is_here():
    with_bounds = {
        name.removesuffix("_head")
        for name in vaejax.distributions.__all__
        if name.endswith("_head")
        and any(
            option.startswith("min_")
            for option in inspect.signature(
                getattr(vaejax.distributions, name)
            ).parameters
        )
    }
    assert with_bounds == set(BOUNDED)


@pytest.mark.sampled(every=6)
@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("far", [-1000.0, 1000.0])
def test_an_output_far_outside_its_bounds_has_a_gradient(name, far):
    head, bounded = BOUNDED[name]
    if name == "shared_variance_normal":
        x, params = jnp.ones(3), jnp.float32(far)
        slope = jax.grad(lambda p: head.apply(p, x).log_variance)(params)
        assert 1e-4 < slope < 2e-3
        return
    outputs = jnp.zeros((head.num_parameters,))
    outputs = outputs[None] if head.num_parameters > 1 else outputs
    for index in bounded:
        jacobian = jax.jacfwd(lambda outputs: head.apply((), outputs))(
            outputs.at[..., index].set(far)
        )
        # The sum over the parameters of the distribution: one of them is bounded.
        slope = sum(jnp.sum(leaf[..., index]) for leaf in jax.tree.leaves(jacobian))
        assert 1e-4 < slope < 2e-3


@pytest.mark.parametrize(("start", "end"), [(100.0, 2.1), (-100.0, -12.0)])
def test_a_variance_that_starts_far_outside_comes_back(start, end):
    head, optimizer = shared_variance_normal_head(), optax.adam(1.0)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 3, 200), jnp.float32)

    def loss(params):
        return -head.apply(params, jnp.zeros(200)).log_prob(x) / 200

    def step(state, _):
        params, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return (params + updates, moments), None

    start = jnp.float32(start)
    with jax.numpy_dtype_promotion("standard"):
        (params, _), _ = jax.lax.scan(
            step, (start, optimizer.init(start)), None, length=500
        )
    # From below Adam is slowed by its memory of the gradients at variance exp(-20).
    assert params > end - 0.1


def test_soft_clip_may_be_one_sided():
    x, far = np.float32([-30, 0, 50]), 3 * math.exp(-13 / 3)
    np.testing.assert_array_equal(soft_clip(x, -math.inf, math.inf), x)
    np.testing.assert_allclose(
        soft_clip(x, -20.0, math.inf), [-20 + far, 0, 50], rtol=1e-6
    )
    np.testing.assert_allclose(
        soft_clip(x, -math.inf, 20.0), [-30, 0, 20 - 3 * math.exp(-11)], rtol=1e-6
    )


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
        lambda: fixed_variance_normal_head(variance=0.0),
        lambda: fixed_variance_normal_head(variance=math.inf),
        lambda: normal_head(min_log_variance=3.0, max_log_variance=3.0),
        lambda: shared_variance_normal_head(
            log_variance=0.0, min_log_variance=1.0, max_log_variance=-1.0
        ),
        lambda: discretized_logistic_mixture_head(0),
        lambda: laplace_head(min_log_scale=1.0, max_log_scale=1.0),
        lambda: student_t_head(min_log_scale=1.0, max_log_scale=0.0),
        lambda: poisson_head(min_log_rate=5.0, max_log_rate=-5.0),
    ):
        with pytest.raises(ValueError, match="give|must"):
            make()


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
