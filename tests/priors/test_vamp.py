"""The VampPrior: the mixture that it is, its start, and how often it encodes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.case_setup import assert_close
from support.cases import PIXELS, binary, mlp_vae

import vaejax
from vaejax.priors import responsibilities, with_vamp_prior

GAUSSIAN = mlp_vae()
XS = binary(jax.random.key(1), 5)


def init(vae, x=XS[0]):
    return jax.jit(vae.init)(jax.random.key(0), x)


def test_it_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
    vae = with_vamp_prior(GAUSSIAN, 5, initial_inputs=XS)
    params = init(vae)
    z = jnp.array([0.3, -0.5, 1.0])

    @jax.jit
    def use(params):
        log_probs = jnp.stack([vae.encode(params, x).log_prob(z) for x in XS])
        return (
            log_probs,
            vae.prior(params).log_prob(z),
            responsibilities(vae, params, z),
        )

    log_probs, log_prob, shares = use(params)
    densities = np.exp(np.float64(log_probs))
    np.testing.assert_allclose(np.exp(log_prob), densities.mean(), rtol=1e-5)
    np.testing.assert_allclose(shares, densities / densities.sum(), rtol=1e-4)


def test_pseudo_inputs_start_as_draws_and_enter_the_support_before_they_are_encoded():
    seen = []

    def encode(params, x):
        seen.append(x)
        return GAUSSIAN.encode(params, x)

    spied = GAUSSIAN._replace(encode=encode)
    for to_support, lower, upper in (
        (None, 0, 1),
        (jax.nn.sigmoid, 0, 1),
        (lambda u: u, -np.inf, np.inf),
    ):
        options = {} if to_support is None else {"to_support": to_support}
        vae = with_vamp_prior(
            spied, 400, initial_mean=0.5, initial_stddev=3.0, **options
        )
        params = init(vae)
        inputs = np.float64(params["prior"]["inputs"])
        assert inputs.shape == (400, *PIXELS)
        # The error of a standard deviation of n draws is 1 / sqrt(2 n) of it.
        assert abs(inputs.mean() - 0.5) < 5 * 3 / np.sqrt(inputs.size)
        assert abs(inputs.std() - 3) < 5 * 3 / np.sqrt(2 * inputs.size)
        expected = (to_support or (lambda u: jnp.clip(u, 0, 1)))(jnp.float32(inputs))
        assert jnp.all((expected >= lower) & (expected <= upper))
        seen.clear()
        prior = jax.eval_shape(lambda p, vae=vae: vae.prior(p), params)
        assert prior.components.mean.shape == (400, 3) and len(seen) == 1
        assert_close(
            jax.jit(lambda p, vae=vae: vae.prior(p).components.mean)(params),
            jax.jit(jax.vmap(GAUSSIAN.encode, (None, 0)))(params, expected).mean,
        )


def flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_the_pseudo_inputs_are_encoded_once_per_batch():
    """By the floating-point operations of a gradient, as compiled."""
    num_components, latent_size = 50, 2
    plain = vaejax.gaussian_vae(
        latent_size=latent_size,
        encoder=vaejax.MLP((256,)),
        decoder=vaejax.MLP((4,), (100,)),
    )
    vamp = with_vamp_prior(plain, num_components)
    x = jnp.zeros(100)
    params = jax.eval_shape(vamp.init, jax.random.key(0), x)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def of_gradient(vae, num):
        loss_fn = vaejax.mean_over_batch(
            partial(vaejax.negative_elbo, vae, kl_fn=vaejax.kl_monte_carlo)
        )
        batch = jax.ShapeDtypeStruct((num, 100), jnp.float32)
        return flops(jax.grad(loss_fn, has_aux=True), params, key, batch)

    inputs = jax.ShapeDtypeStruct((num_components, 100), jnp.float32)
    encoding = flops(jax.vmap(plain.encode, (None, 0)), params, inputs)
    small, large = (of_gradient(vamp, num) - of_gradient(plain, num) for num in (4, 32))
    # Forward, and backward to the weights and the pseudo-inputs.
    assert encoding < small < 4 * encoding
    # 28 more examples are compared with each component, and no more is encoded.
    compared = 28 * num_components * latent_size
    assert large - small < 40 * compared < encoding / 4


@pytest.mark.parametrize(
    ("options", "x", "error", "message"),
    [
        ({"initial_inputs": XS[:2]}, XS[0], ValueError,
         r"shape \(2, 3, 4\); give \(3, 3, 4\)"),
        ({}, jnp.zeros(PIXELS, jnp.uint8), TypeError, "x holds uint8"),
        ({}, {"a": jnp.zeros(PIXELS), "b": jnp.zeros(2, bool)}, TypeError,
         "x holds bool"),
    ],
    ids=["few inputs", "gray levels", "a mask"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(options, x, error, message):
    free = GAUSSIAN._replace(init=lambda key, x: {})
    with pytest.raises(error, match=message):
        with_vamp_prior(free, 3, **options).init(jax.random.key(0), x)


def test_bools_are_trained_as_real_numbers():
    vae = with_vamp_prior(GAUSSIAN, 2, initial_inputs=XS[:2].astype(bool))
    inputs = init(vae, XS[0].astype(bool))["prior"]["inputs"]
    assert inputs.dtype == jnp.float32
    np.testing.assert_array_equal(inputs, XS[:2])


def test_a_posterior_without_a_density_is_refused():
    def encode(params, x):
        posterior = GAUSSIAN.encode(params, x)
        return _Sampler(posterior.mean, posterior.log_variance)

    vae = with_vamp_prior(GAUSSIAN._replace(encode=encode), 2)
    with pytest.raises(TypeError, match="_Sampler has no log_prob"):
        jax.eval_shape(vae.init, jax.random.key(0), XS[0])


@jax.tree_util.register_pytree_node_class
class _Sampler:
    """A posterior that can be sampled and no more."""

    def __init__(self, mean, log_variance):
        self.normal = vaejax.Normal(mean, log_variance)

    def tree_flatten(self):
        return (self.normal.mean, self.normal.log_variance), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)

    def sample_and_log_prob(self, key):
        return self.normal.sample_and_log_prob(key)
