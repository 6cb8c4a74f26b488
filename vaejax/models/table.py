"""The VAE of a table: rows of columns of different kinds, with missing cells."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vaejax._checks import check_arrays, check_key, part_of
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    Latent,
    NetworkLike,
    Params,
)
from vaejax.distributions import Column, mixed_head, row_features
from vaejax.models.gaussian import _gaussian_latents
from vaejax.networks import MLP, as_network, compose_networks


def table_vae(
    columns: Sequence[Column],
    *,
    latent_size: int,
    encoder: NetworkLike | None = None,
    decoder: NetworkLike | None = None,
    initial_outputs: Array | None = None,
) -> VAE:
    """Build the VAE of rows whose columns are of different kinds.

    p(z) = N(0, I), q(z|x) is a diagonal Normal, and p(x|z) a `Mixed` in the units of
    the file. An example is one row in these units: an array `[D]`, or a `MaskedEvent`
    whose missing cells add nothing to the likelihood and are 0 to the encoder, which is
    told which cells are observed. What a network sees is in units of the training cells
    (`row_features`, `mixed_head`); there is nothing to scale outside and no parameter
    for it.

    Args:
      columns: the columns of a row, in its order.
      latent_size: the number of dimensions of z, at least 1.
      encoder: a network from the features of a row, a vector, to features of any shape;
        one linear layer, added here, makes the posterior's parameters of them. By
        default an MLP of one hidden layer of 256.
      decoder: a network from z `[latent_size]` to features, to which one linear layer
        is added too. By default an MLP of one hidden layer of 256.
      initial_outputs: the initial bias of `mixed_head`, such as the outputs
        `[num_outputs]` that `fit_independent_columns` finds, where the model starts as
        good as independent columns; None for none.

    Returns:
      A VAE whose parameters are the dict of "encoder", "decoder", "likelihood" and
      "posterior", as those of `gaussian_vae`.

    Raises:
      ValueError: `latent_size` is not a positive integer, there is no column, or
        `initial_outputs` has another length than the columns take.
      TypeError: an argument is not a network, or an entry of `columns` is no `Column`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.distributions import Column, MaskedEvent
      >>> from vaejax.models import table_vae
      >>> age = Column("real", step=1.0, shift=45.0, scale=13.0)
      >>> vae = table_vae([age, Column("binary")], latent_size=2)
      >>> x = MaskedEvent(jnp.array([37.0, 0.0]), jnp.array([True, False]))
      >>> params = jax.eval_shape(vae.init, jax.random.key(0), x)
      >>> jax.eval_shape(vae.encode, params, x).mean.shape
      (2,)
      >>> jax.eval_shape(lambda p, z: vae.decode(p, z).mean, params, jnp.zeros(2)).shape
      (2,)

    Source: Nazabal et al. 2020 (HI-VAE), without their mixture prior; missing cells as
    in Mattei & Frellsen 2019 (MIWAE).
    """
    head = mixed_head(columns, initial_outputs=initial_outputs)
    columns = tuple(columns)
    encoder, decoder = (
        MLP((256,)) if network is None else network for network in (encoder, decoder)
    )
    outputs = as_network(MLP((), (head.num_outputs,)))
    network = compose_networks(as_network(decoder), outputs)
    latents = _gaussian_latents(latent_size, encoder, None)

    def init(key: Key, x: Example) -> Params:
        check_key(key)
        check_arrays("x", x)
        encoder_key, decoder_key, likelihood_key = jax.random.split(key, 3)
        features = row_features(columns, x, with_mask=True)
        posterior_key = jax.random.fold_in(key, 3)
        return latents.init(encoder_key, posterior_key, features) | {
            "decoder": network.init(decoder_key, jnp.zeros((latent_size,))),
            "likelihood": head.init(likelihood_key),
        }

    def encode(params: Params, x: Example) -> Distribution:
        check_arrays("x", x)
        return latents.encode(params, row_features(columns, x, with_mask=True))

    def decode(params: Params, z: Latent) -> Distribution:
        check_arrays("the latent z", z)
        outputs = network.apply(part_of(params, "decoder"), z)
        return head.apply(part_of(params, "likelihood"), outputs)

    return VAE(init, encode, latents.prior, decode)
