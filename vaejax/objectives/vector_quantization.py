"""KL term of a VQ-VAE, with its commitment and the moving average of its codebook."""

from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_function,
    check_in_range,
    check_model,
    check_weights,
    log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Key,
    Latent,
    LossFn,
    Params,
    PyTree,
    Transform,
    batch_size_of,
)
from vaejax.distributions import Codebook, Quantized
from vaejax.models import revive_codes

# The count below which a code that is not used keeps what it has.
_LEAST_COUNT = 1e-5


def vector_quantization_terms(
    posterior: Distribution,
    prior: Distribution,
    z: Latent,
    log_posterior: Array,
    *,
    commitment: float | Array = 0.25,
) -> Array:
    """Code length and commitment of a VQ-VAE, and a term that moves its codebook.

    The terms are -log p(z) in nats, the price of the codes under the prior;
    commitment sum |h - c|^2 for features h and their vectors c, which keeps features
    near the codebook; and a term of value 0, whose gradient in a moving average m of
    the codebook is m - s, where s is the same statistic of this example. Gradient
    descent at rate 1 - decay on the mean over a batch is then m <- decay m +
    (1 - decay) s: see `vaejax.models.codebook_optimizer`. A count below 1e-5 does not
    decay further.

    Args:
      posterior: q(z|x), a `Quantized` with a `Codebook`.
      prior: p(z), with a `log_prob`.
      z: the latent.
      log_posterior: scalar, log q(z|x), which is 0.
      commitment: the weight of the commitment, at least 0; fix another one by
        `functools.partial`.

    Returns:
      `[3]`, the terms.

    Raises:
      ValueError: the weight is negative or not finite.
      TypeError: the posterior is of another kind.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.distributions import Codebook, CodeVectors, Quantized
      >>> codebook = Codebook(count=jnp.ones(2), sum=jnp.array([[0.0], [1.0]]))
      >>> posterior = Quantized(jnp.array([[3.0], [0.0]]), codebook)
      >>> prior = CodeVectors(vaejax.Categorical(jnp.zeros((2, 2))), codebook, (2, 1))
      >>> terms = vaejax.objectives.vector_quantization_terms(
      ...     posterior, prior, posterior.mean, jnp.zeros(())
      ... )
      >>> [round(float(term), 3) for term in terms]  # 2 log 2, 1/4 (3 - 1)^2, 0
      [1.386, 1.0, 0.0]

    Source: van den Oord et al. 2017, equation 3 and appendix A.1.
    """
    check_weights("vector_quantization_terms", commitment=commitment)
    if not isinstance(posterior, Quantized) or not isinstance(
        posterior.quantizer, Codebook
    ):
        kind = type(getattr(posterior, "quantizer", posterior)).__name__
        raise TypeError(
            f"vector_quantization_terms: the posterior is of {kind}; give one of "
            "vq_vae, which has a Codebook, and take kl_monte_carlo for others."
        )
    stop, codebook = jax.lax.stop_gradient, posterior.quantizer
    features = at_least_single(posterior.features)
    nearest = codebook.vectors_of(codebook.indices(posterior.features))
    distance = jnp.sum(jnp.square(features - stop(nearest.astype(features.dtype))))
    statistics = stop(codebook.statistics(posterior.features))
    is_kept = codebook.count < _LEAST_COUNT
    moved = _moved(
        codebook.count, jnp.where(is_kept, 0, codebook.count) - statistics["count"]
    )
    moved += _moved(
        codebook.sum, jnp.where(is_kept[:, None], 0, codebook.sum) - statistics["sum"]
    )
    code_length = at_least_single(log_posterior) - at_least_single(
        log_prob_of(prior, z)
    )
    return jnp.stack([code_length, commitment * distance, moved.astype(distance.dtype)])


def with_revived_codes(
    loss_fn: LossFn,
    vae: VAE,
    *,
    decay: float = 0.99,
    minimum: float = 0.1,
    transform: Transform | None = None,
) -> LossFn:
    """Return the loss of a VQ-VAE whose dead codes start again at features of data.

    It is `vaejax.models.revive_codes` at every step, as a term of value 0 whose step of
    gradient descent at rate 1 - decay takes the dead codes there. The batch is encoded
    once more for it.

    Args:
      loss_fn: the loss of a batch, with `vector_quantization_terms`.
      vae: a VAE of `vq_vae`.
      decay: that of `vaejax.models.codebook_optimizer`, in [0, 1).
      minimum: the share of the average count below which a code is dead, from 0 to 1.
      transform: what the objective applies to each example before it is encoded, such
        as `vaejax.binarize`.

    Returns:
      `loss_fn(params, key, batch, **schedules) -> (loss, metrics)`.

    Raises:
      ValueError: an option is out of range.
      TypeError: `loss_fn` is no function, or `vae` no VAE.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax import objectives
      >>> vae = vaejax.models.vq_vae(
      ...     num_codes=8,
      ...     latent_shape=(4, 2),
      ...     encoder=vaejax.MLP((), (4, 2)),
      ...     decoder=vaejax.MLP((), (3,)),
      ... )
      >>> terms = objectives.vector_quantization_terms
      >>> loss_fn = vaejax.mean_over_batch(
      ...     partial(vaejax.negative_elbo, vae, kl_fn=terms)
      ... )
      >>> loss_fn = objectives.with_revived_codes(loss_fn, vae)
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn(params, jax.random.key(1), batch)[0].shape
      ()

    Source: Dhariwal et al. 2020 (Jukebox), section 3.3 (random restarts).
    """
    check_function("with_revived_codes: loss_fn", loss_fn)
    check_model(vae, None)
    check_in_range("with_revived_codes: decay", decay, 0, 1, open_high=True)
    check_in_range("with_revived_codes: minimum", minimum, 0, 1)
    if transform is not None:
        check_function("with_revived_codes: transform", transform)

    def revived_loss(
        params: Params, key: Key, batch: PyTree, **schedules: Any
    ) -> tuple[Array, PyTree]:
        loss_key, revival_key, transform_key = jax.random.split(key, 3)
        loss, metrics = loss_fn(params, loss_key, batch, **schedules)
        xs, fixed = batch, jax.lax.stop_gradient(params)
        if transform is not None:
            each = jax.random.split(transform_key, batch_size_of(batch))
            xs = jax.vmap(transform)(each, batch)
        revived = revive_codes(vae, fixed, revival_key, xs, minimum=minimum)
        jumps = jax.tree.map(
            lambda average, old, new: _moved(average, (old - new) / (1 - decay)),
            params["codebook"],
            fixed["codebook"],
            revived["codebook"],
        )
        jump = jnp.sum(jnp.stack(jax.tree.leaves(jumps)))
        return loss + jump.astype(loss.dtype), metrics

    return revived_loss


def _moved(average: Array, gradient: Array) -> Array:
    """Return a term of value 0 whose gradient in the average is the given one."""
    stop = jax.lax.stop_gradient
    return jnp.sum(stop(gradient) * (average - stop(average)))
