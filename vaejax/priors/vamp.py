"""The VampPrior: a mixture of the posteriors of learned pseudo-inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_count, check_function, check_in_range, part_of
from vaejax._reals import real_dtype
from vaejax.base import VAE, Array, Example, Key, Params, PyTree
from vaejax.distributions import Mixture
from vaejax.priors._replaced import with_prior


def _clip_to_unit(inputs: Array) -> Array:
    return jnp.clip(inputs, 0, 1)


def with_vamp_prior(
    vae: VAE,
    num_components: int,
    *,
    initial_inputs: PyTree | None = None,
    initial_mean: float = 0.05,
    initial_stddev: float = 0.01,
    to_support: Callable[[Array], Array] = _clip_to_unit,
) -> VAE:
    """Return the VAE whose prior is the mixture of the posteriors of pseudo-inputs.

    p(z) = 1/K sum_k q(z|u_k), where the pseudo-inputs u_k are trained with the
    networks. They do not depend on the example: in a batch, under `jax.vmap`, the K of
    them are encoded once. The closed form of its KL is not known: give objectives
    `kl_fn=vaejax.kl_monte_carlo`.

    Args:
      vae: a VAE of examples of real numbers, whose parameters are a dict without
        "prior" and whose posterior has a `log_prob`.
      num_components: the number K of pseudo-inputs, at least 1.
      initial_inputs: their initial values `[num_components, *x]` before `to_support`,
        such as random training examples; by default, draws of a Normal.
      initial_mean: mean of these draws, finite; the default is the paper's for digits
        on a black background.
      initial_stddev: standard deviation of these draws, at least 0.
      to_support: a function of arrays, elementwise, which keeps the pseudo-inputs among
        values that the encoder knows: by default to [0, 1] as `jnp.clip`, where those
        that are clipped do not move; `jax.nn.sigmoid`; `lambda u: u` for real values.

    Returns:
      The VAE. Its parameters are those of the given one and "prior", the dict of
      "inputs" `[num_components, *x]`, before `to_support`. Its `init` raises TypeError
      where the given parameters are no such dict, where x holds integers, or where the
      posterior has no `log_prob`, and ValueError where `initial_inputs` do not fit x.

    Raises:
      ValueError: `num_components` is not a positive integer, `initial_mean` is not
        finite, or `initial_stddev` is negative or not finite.
      TypeError: `vae` is not a VAE, or `to_support` is not a function.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.priors import with_vamp_prior
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> vae = with_vamp_prior(vae, num_components=10)
      >>> params = vae.init(jax.random.key(0), jnp.ones(3))
      >>> params["prior"]["inputs"].shape, vae.prior(params).mean.shape
      ((10, 3), (2,))

    Source: Tomczak & Welling 2018, equation 9.
    """
    check_count("num_components", num_components)
    check_in_range("with_vamp_prior: initial_mean", initial_mean)
    check_in_range("with_vamp_prior: initial_stddev", initial_stddev, 0)
    check_function("with_vamp_prior: to_support", to_support)

    def init(key: Key, params: Params, x: Example) -> Params:
        del params
        x = _like_real(x)
        shapes = jax.tree.map(lambda leaf: (num_components, *leaf.shape), x)
        if initial_inputs is not None:
            found = jax.tree.map(jnp.shape, initial_inputs)
            if found != shapes:
                raise ValueError(
                    f"with_vamp_prior: initial_inputs have shape {found}; give "
                    f"{shapes}, one for each component."
                )
            return {"inputs": jax.tree.map(_with_dtype_of, initial_inputs, x)}
        leaves, structure = jax.tree.flatten(x)
        draws = [
            initial_mean
            + initial_stddev
            * jax.random.normal(each, (num_components, *leaf.shape), leaf.dtype)
            for each, leaf in zip(
                jax.random.split(key, len(leaves)), leaves, strict=True
            )
        ]
        return {"inputs": jax.tree.unflatten(structure, draws)}

    def prior(params: Params) -> Any:  # has a mean, and no mode
        inputs = part_of(part_of(params, "prior"), "inputs")
        inputs = jax.tree.map(to_support, inputs)
        components = jax.vmap(lambda x: vae.encode(params, x))(inputs)
        return Mixture(components, jnp.zeros(num_components))

    return with_prior("with_vamp_prior", vae, init, prior)


def _like_real(x: Example) -> PyTree:
    """Return the shapes of one pseudo-input with dtypes of real numbers.

    Bools are real numbers to an encoder only where all of x is bools: those of a pytree
    may be masks.
    """
    kinds = (jnp.floating, jnp.bool_) if hasattr(x, "dtype") else (jnp.floating,)
    for leaf in jax.tree.leaves(x):
        dtype = jnp.result_type(leaf)
        if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
            raise TypeError(
                f"with_vamp_prior: x holds {dtype}, which cannot be trained; give "
                "examples as the encoder sees them, in floating point."
            )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            jnp.shape(leaf), real_dtype(jnp.result_type(leaf))
        ),
        x,
    )


def _with_dtype_of(values: Array, leaf: jax.ShapeDtypeStruct) -> Array:
    return jnp.asarray(values).astype(leaf.dtype)
