"""Doubly reparameterized gradients: against quadrature on a linear-Gaussian model, and
against the IWAE's on models that share parameters.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support import cases, hierarchies, prototypes, quadrature
from support.linear_gaussian import make_params, recording, vae, with_best_encoder
from support.monte_carlo import over_keys, standard_error
from support.objectives import make_vae
from support.quadrature import (
    IWAE,
    assert_gradient_is_unbiased,
    assert_value_is_the_iwae,
    encoder_gradients,
    mixed,
    negated,
    negative_wake,
)

from vaejax import mean_over_batch, negative_iwae
from vaejax.objectives import negative_dreg

# The objective, the exact loss whose gradient the encoder follows, and that of the
# decoder.
CASES = {
    "dreg": (
        partial(negative_dreg, num_samples=2),
        negated(IWAE),
        negated(IWAE),
    ),
    "rws-dreg": (
        partial(negative_dreg, num_samples=2, alpha=1.0),
        negative_wake,
        negated(IWAE),
    ),
    "dreg, alpha 0.3": (
        partial(negative_dreg, num_samples=2, alpha=0.3),
        mixed((-0.7, IWAE), (0.3, negative_wake)),
        negated(IWAE),
    ),
}
# At the exact posterior the encoder is left alone, draw by draw.
VANISHING = {
    "dreg": partial(negative_dreg, num_samples=4),
    "rws-dreg": partial(negative_dreg, num_samples=4, alpha=1.0),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_unbiased_within_five_standard_errors(name):
    assert_gradient_is_unbiased(*CASES[name])


@pytest.mark.sampled
@pytest.mark.parametrize("name", VANISHING)
def test_gradients_vanish_at_the_exact_posterior(name, x64):
    # Orthogonal loadings, so that a diagonal posterior is exact.
    params = with_best_encoder(make_params(orthogonal=True))
    gradients = encoder_gradients(VANISHING[name], params, np.arange(5.0))
    np.testing.assert_allclose(gradients, 0, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_value_is_the_iwae_of_the_same_samples(alpha):
    objective = partial(negative_dreg, num_samples=6, alpha=alpha)
    assert_value_is_the_iwae(objective)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_num_samples_is_a_positive_integer(count):
    with pytest.raises(ValueError, match=f"is {count}; give a positive integer"):
        negative_dreg(
            vae,
            quadrature.PARAMS,
            jax.random.key(1),
            quadrature.X,
            num_samples=count,
        )


def test_both_surrogates_decode_the_same_samples():
    recorded, decoded = recording(vae)
    program = jax.jit(partial(negative_dreg, recorded, num_samples=3))
    jax.block_until_ready(program(quadrature.PARAMS, jax.random.key(1), quadrature.X))
    jax.effects_barrier()
    assert len(decoded) == 2 * len(set(decoded)) == 6


def test_each_sample_is_decoded_once_when_compiled():
    """By operations: the IWAE decodes each sample once and has two products for every
    layer of the gradient. A third one, by z, makes 4/3 of that; a second decoding would
    make 5/3.
    """
    model = make_vae()
    image = jax.ShapeDtypeStruct((784,), jnp.float32)
    batch = jax.ShapeDtypeStruct((10, 784), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(model.init, key, image)

    def operations(objective):
        loss_fn = mean_over_batch(partial(objective, model, num_samples=5))
        gradient = jax.jit(jax.grad(loss_fn, has_aux=True))
        compiled = gradient.lower(params, key, batch).compile()
        return compiled.cost_analysis()["flops"]

    assert operations(negative_dreg) < 1.4 * operations(negative_iwae)


SHARED_X = np.array([1.0, -0.5, 2.0], np.float32)


def gradients_at(objective, vae, params, key):
    """The value, and the gradient as one vector."""

    def loss(params):
        return objective(vae, params, key, SHARED_X, num_samples=3)[0]

    value, gradients = jax.value_and_grad(loss)(params)
    return value, ravel_pytree(gradients)[0]


@pytest.mark.sampled
@pytest.mark.parametrize("name", hierarchies.MODELS)
def test_mean_gradient_with_shared_parameters_is_that_of_the_iwae(name):
    """Within five standard errors of the paired differences, which are below 0.05 of
    the gradient.
    """
    model = hierarchies.MODELS[name]
    params = model.init(jax.random.key(3), SHARED_X)

    def pair(key):
        value, dreg = gradients_at(negative_dreg, model, params, key)
        expected, iwae = gradients_at(negative_iwae, model, params, key)
        return value - expected, dreg, iwae

    with jax.debug_key_reuse(False):
        differences, dreg, iwae = over_keys(pair, 20_000)
    np.testing.assert_allclose(differences, 0, atol=1e-5)
    errors = standard_error(np.float64(dreg) - iwae)
    gap = np.abs(np.mean(np.float64(dreg) - iwae, axis=0))
    assert np.all(gap <= 5 * errors + 1e-6)
    assert np.max(errors) < 0.05 * np.max(np.abs(np.mean(iwae, axis=0)))


@pytest.mark.slow
def test_forward_derivatives_are_those_of_the_gradient():
    params, key = quadrature.PARAMS, jax.random.key(1)

    def loss(params):
        return negative_dreg(vae, params, key, quadrature.X, num_samples=3)[0]

    with jax.debug_key_reuse(False):
        _, slope = jax.jvp(loss, (params,), (params,))
        products = jax.tree.map(jnp.vdot, jax.grad(loss)(params), params)
    np.testing.assert_allclose(slope, sum(jax.tree.leaves(products)), rtol=1e-4)


def test_a_posterior_without_log_prob_is_refused_in_one_sentence():
    model = prototypes.with_flow_posterior(cases.mlp_vae())
    x = jnp.zeros(cases.PIXELS)
    params = model.init(jax.random.key(0), x)
    with pytest.raises(TypeError) as error:
        negative_dreg(model, params, jax.random.key(1), x, num_samples=2)
    assert str(error.value) == (
        "PlanarFlow has no log_prob; negative_dreg differentiates log q(z|x) by z; use "
        "negative_iwae."
    )
