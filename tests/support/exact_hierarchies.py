"""Linear-Gaussian models of two levels, built by the library, with the exact posterior.

z_2 ~ N(0, I), z_1 ~ N(b Q z_2, v I) with an orthogonal Q, x ~ N(a V z_1 + c, s I) with
orthonormal columns of V, so that every conditional of the posterior has a diagonal
covariance. log p(x) is known.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import vaejax
from vaejax.models import hierarchical_vae, ladder_vae, two_layer_vae

X_SIZE, SIZE = 5, 2
SCALE, SPREAD, LOADING, NOISE = 1.3, 0.6, 1.7, 0.5
_random = np.random.default_rng(0)
ROTATION = np.linalg.qr(_random.normal(size=(SIZE, SIZE)))[0]
LOADINGS = LOADING * np.linalg.qr(_random.normal(size=(X_SIZE, SIZE)))[0]
OFFSET = _random.normal(size=X_SIZE)
X = np.float32(_random.normal(size=X_SIZE))

LINEAR = vaejax.MLP(())
READOUT = vaejax.MLP((), (X_SIZE,))
TWO = vaejax.networks.merged_network((LINEAR, LINEAR))
LIKELIHOOD = vaejax.distributions.fixed_variance_normal_head(variance=NOISE)
COMMON = {"latent_sizes": (SIZE, SIZE), "likelihood": LIKELIHOOD}
DECODERS = READOUT, LINEAR
MODELS = {
    "ladder": ladder_vae(
        # The second encoder reads the features of the first, which are x.
        encoders=(LINEAR, LINEAR),
        decoders=DECODERS,
        **COMMON,
    ),
    "bottom_up": hierarchical_vae(
        encoders=(LINEAR, LINEAR), decoders=DECODERS, **COMMON
    ),
    "top_down": two_layer_vae(
        encoders=(TWO, LINEAR),
        decoders=(vaejax.networks.compose_networks(TWO, READOUT), LINEAR),
        top_down=True,
        **COMMON,
    ),
}


def exact_log_marginal(x=X) -> float:
    prior_of_z1 = (SCALE**2 + SPREAD) * np.eye(SIZE)
    covariance = LOADINGS @ prior_of_z1 @ LOADINGS.T + NOISE * np.eye(X_SIZE)
    return scipy.stats.multivariate_normal(OFFSET, covariance).logpdf(x)


def layer(matrix, offset, variance):
    """The last linear layer of a level: mean `matrix @ h + offset`, one variance."""
    size = len(matrix)
    kernel = np.zeros((matrix.shape[1], size, 2))
    kernel[:, :, 0] = matrix.T
    bias = np.stack([offset, np.full(size, np.log(variance))], axis=-1)
    return {
        "Dense_0": {
            "kernel": jnp.float32(kernel.reshape(-1, 2 * size)),
            "bias": jnp.float32(bias.ravel()),
        }
    }


def exact_params(name: str):
    """The generative parameters, and the encoder that is the exact posterior."""
    params = MODELS[name].init(jax.random.key(0), jnp.asarray(X))
    # p(x|z_1) is a Normal of z_1 with mean `gain (x - c)` and this variance.
    gain, of_x = LOADINGS.T / LOADING**2, NOISE / LOADING**2
    down, zeros = SCALE * ROTATION, np.zeros(SIZE)
    # p(z_2|x), where z_1 is integrated out.
    precision = 1 + SCALE**2 / (SPREAD + of_x)
    up = down.T @ gain / (SPREAD + of_x) / precision
    top = layer(up, -up @ OFFSET, 1 / precision)
    # p(z_1|x) and p(z_2|z_1); p(z_1|z_2, x).
    total = 1 / of_x + 1 / (SCALE**2 + SPREAD)
    alone = gain / of_x / total
    given_z1 = 1 + SCALE**2 / SPREAD
    both = 1 / of_x + 1 / SPREAD
    of_both = np.hstack([gain / of_x, down / SPREAD]) / both
    readouts = {
        "ladder": (layer(gain, -gain @ OFFSET, of_x), top),
        "bottom_up": (
            layer(alone, -alone @ OFFSET, 1 / total),
            layer(down.T / SPREAD / given_z1, zeros, 1 / given_z1),
        ),
        "top_down": (
            layer(of_both, -of_both[:, :X_SIZE] @ OFFSET, 1 / both),
            top,
        ),
    }[name]
    own = params["encoder"]
    encoder = tuple(
        own | {"outputs": readout} for own, readout in zip(own, readouts, strict=True)
    )
    kernel = np.zeros((SIZE * (2 if name == "top_down" else 1), X_SIZE))
    kernel[:SIZE] = LOADINGS.T
    likelihood = {
        "Dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(OFFSET)}
    }
    if name == "top_down":
        likelihood = (params["decoder"][0][0], likelihood)
    above = params["decoder"][1] | {"outputs": layer(down, zeros, SPREAD)}
    return params | {"encoder": encoder, "decoder": (likelihood, above)}


def poor_encoder(params):
    """The same generative model with an encoder that is off in mean and in width."""
    return params | {
        "encoder": jax.tree.map(lambda leaf: 0.8 * leaf + 0.05, params["encoder"])
    }
