"""A modifier of VAEs: data in their own units."""

from vaejax._checks import check_functions, check_model, described
from vaejax.base import VAE, Distribution, Example, Key, Latent, Params
from vaejax.distributions import Units


def with_units(vae: VAE, units: Units) -> VAE:
    """Return the VAE of data in units that its networks do not see.

    `init` and `encode` see `units.to_model(x)`, and `decode` returns
    `units.to_units(p(x|z))`: log-likelihoods, draws and means are in the units of x.
    The numbers of `units` are closed over and are no parameters, so that training
    cannot move them; keep them beside the parameters (`units.as_dict()`). Fit them to
    training examples alone.

    Args:
      vae: the model of numbers of about unit size.
      units: `AffineUnits`, `Log1pUnits` or `LevelUnits`.

    Returns:
      A VAE with the same parameters. Its `decode` raises TypeError where the likelihood
      has no such units, such as classes that are scaled.

    Raises:
      TypeError: `vae` is no model, or `units` are none.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import AffineUnits
      >>> from vaejax.models import with_units
      >>> inner = vaejax.gaussian_vae(
      ...     latent_size=2,
      ...     encoder=vaejax.MLP((8,)),
      ...     decoder=vaejax.MLP((8,), (3, 2), kernel_init=jax.nn.initializers.zeros),
      ...     likelihood=vaejax.Normal,
      ... )
      >>> vae = with_units(inner, AffineUnits(shift=2000.0, scale=10.0))
      >>> params = vae.init(jax.random.key(0), jnp.array([1990.0, 2010.0, 2000.0]))
      >>> vae.decode(params, jnp.zeros(2)).mean.tolist()
      [2000.0, 2000.0, 2000.0]

    Source: Papamakarios et al. 2021 (flows), equation 3, for the Jacobian.
    """
    check_model(vae, None)
    check_functions(vae, "init")
    if not isinstance(units, Units):
        raise TypeError(
            f"with_units: units is {described(units)}; give AffineUnits, Log1pUnits or "
            "LevelUnits of vaejax.distributions."
        )

    def init(key: Key, x: Example) -> Params:
        return vae.init(key, units.to_model(x))

    def encode(params: Params, x: Example) -> Distribution:
        return vae.encode(params, units.to_model(x))

    def decode(params: Params, z: Latent) -> Distribution:
        return units.to_units(vae.decode(params, z))

    # For checks, which warn of the scale that the networks see.
    decode.units = units
    return VAE(init, encode, vae.prior, decode)
