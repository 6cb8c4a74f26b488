"""Expectations over two posterior samples by quadrature, on a linear-Gaussian model of
one latent: what gradients of objectives are measured against.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from support.linear_gaussian import make_params, vae, with_best_encoder

from vaejax import negative_iwae

X = np.array([1.0, -1.5, 2.3], np.float32)
# One latent, and an encoder off the posterior in mean and width: with two samples,
# expectations are planes of nodes.
PARAMS = with_best_encoder(make_params(x_size=3, latent_size=1), widen=0.6)
PARAMS = PARAMS._replace(gain=np.float32(0.6) * PARAMS.gain)
ENCODER = ("gain", "log_variance")
NUM_DRAWS = 100_000


def log_weights_at(encoder, decoder, noise):
    """log w and log q at z = mean + stddev * noise, with the parameters of the two
    halves apart.
    """
    x = X.astype(np.float64)
    posterior = vae.encode(encoder, x)
    z = posterior.mean + jnp.exp(posterior.log_variance / 2) * noise
    log_posterior = posterior.log_prob(z)
    return vae.decode(decoder, z).log_prob(x) + vae.prior(decoder).log_prob(
        z
    ) - log_posterior, log_posterior


def expectation(of_pair):
    """E f([log w_1, log w_2]) over two independent draws by Gauss-Hermite quadrature:
    `(encoder, decoder) -> value`.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)
    masses = masses / masses.sum()

    def value(encoder, decoder):
        weights, _ = jax.vmap(
            lambda noise: log_weights_at(encoder, decoder, noise[None])
        )(nodes)
        pairs = jnp.stack(jnp.meshgrid(weights, weights, indexing="ij"), axis=-1)
        return jnp.sum(
            jax.vmap(jax.vmap(of_pair))(pairs) * np.multiply.outer(masses, masses)
        )

    return value


def log_mean(pair):
    return jax.nn.logsumexp(pair) - math.log(2)


ELBO, IWAE = expectation(jnp.mean), expectation(log_mean)


def negative_wake(encoder, decoder):
    """-E sum_i v_i log q(z_i) with v and z fixed: what reweighted wake-sleep's encoder
    descends.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)
    masses = masses / masses.sum()
    stop, posterior = jax.lax.stop_gradient, vae.encode(encoder, X.astype(np.float64))
    weights = jax.vmap(lambda noise: log_weights_at(encoder, decoder, noise[None])[0])(
        nodes
    )
    zs = jax.vmap(
        lambda noise: stop(posterior.mean + jnp.exp(posterior.log_variance / 2) * noise)
    )(nodes)
    log_posteriors = jax.vmap(posterior.log_prob)(zs)
    shares = stop(jax.nn.sigmoid(weights[:, None] - weights[None, :]))
    return -2 * jnp.sum(
        shares * log_posteriors[:, None] * np.multiply.outer(masses, masses)
    )


def double(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def draws(objective):
    """Loss and gradient at 1e5 keys, in single precision."""
    one = jax.value_and_grad(lambda params, key: objective(vae, params, key, X)[0])
    keys = jax.random.split(jax.random.key(1), NUM_DRAWS)
    return jax.tree.map(
        np.asarray, jax.jit(jax.vmap(one, in_axes=(None, 0)))(PARAMS, keys)
    )


def exact_gradients(encoder_loss, decoder_loss):
    """In double precision: of the one through the encoder, and of the other through
    decoder and prior.

    The offset is in both.
    """
    with jax.enable_x64(True):
        params = double(PARAMS)
        of_encoder = jax.jit(jax.grad(encoder_loss, argnums=0))(params, params)
        of_decoder = jax.jit(jax.grad(decoder_loss, argnums=1))(params, params)
        return jax.tree.map(
            lambda *parts: np.asarray(sum(parts)), of_encoder, of_decoder
        )


def negated(function):
    return lambda encoder, decoder: -function(encoder, decoder)


def renyi(alpha):
    return expectation(lambda pair: log_mean((1 - alpha) * pair) / (1 - alpha))


def mixed(*terms):
    return lambda encoder, decoder: sum(
        weight * term(encoder, decoder) for weight, term in terms
    )


def assert_gradient_is_unbiased(objective, encoder_loss, decoder_loss):
    """The mean gradient of an objective is that of two exact losses, of encoder and of
    decoder, within five standard errors; so is its value.
    """
    losses, gradients = draws(objective)
    for part, exact in exact_gradients(encoder_loss, decoder_loss)._asdict().items():
        values = np.asarray(getattr(gradients, part), np.float64)
        error = values.std(axis=0, ddof=1) / math.sqrt(NUM_DRAWS)
        # 1e-5: rounding, where the gradient is nearly the same in every draw.
        assert np.all(np.abs(values.mean(axis=0) - exact) < 5 * error + 1e-5), part
    # The decoder's loss is the value, whatever the encoder follows.
    with jax.enable_x64(True):
        value = np.asarray(jax.jit(decoder_loss)(double(PARAMS), double(PARAMS)))
    losses = losses.astype(np.float64)
    assert abs(losses.mean() - value) < 5 * losses.std() / math.sqrt(NUM_DRAWS)


def encoder_gradients(objective, params, x):
    one = jax.grad(lambda params, key: objective(vae, params, key, x)[0])
    gradients = jax.jit(jax.vmap(one, in_axes=(None, 0)))(
        params, jax.random.split(jax.random.key(2), 100)
    )
    return np.concatenate(
        [np.asarray(getattr(gradients, name)).reshape(100, -1) for name in ENCODER],
        axis=1,
    )


def assert_value_is_the_iwae(objective):
    """An objective of six samples has the value of the IWAE of the same samples."""
    with jax.debug_key_reuse(False):
        key = jax.random.key(4)
        expected, terms = jax.jit(partial(negative_iwae, vae, num_samples=6))(
            PARAMS, key, X
        )
        value, same = jax.jit(partial(objective, vae))(PARAMS, key, X)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(same.elbo, terms.elbo, rtol=1e-6)
