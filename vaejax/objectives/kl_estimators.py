"""Estimators of the KL term of the ELBO: functions of the type `vaejax.KlFn`.

Each takes the posterior q(z|x), the prior p(z), one sample z of the posterior and
log q(z|x) at that sample, and returns terms in nats whose sum is the KL.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import as_numbers, check_arrays, log_prob_of, require
from vaejax._reals import at_least_single
from vaejax._supports import check_densities
from vaejax.base import Array, Distribution, Latent, Latents, complete_by_prior
from vaejax.distributions import (
    Categorical,
    ExpRelaxedCategorical,
    Normal,
    OneHotCategorical,
    RelaxedCategorical,
    kl_divergence,
)

_CATEGORICAL = (
    Categorical,
    OneHotCategorical,
    RelaxedCategorical,
    ExpRelaxedCategorical,
)


def kl_closed_form(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """Closed form of KL(q(z|x) || p(z)) as one term, in nats.

    Args:
      posterior: q(z|x).
      prior: p(z), of a pair that `kl_divergence` knows.
      z: not used.
      log_posterior: not used.

    Returns:
      `[1]`, the KL.

    Raises:
      TypeError: no closed form is known for the two distributions.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> posterior = vaejax.Normal(jnp.array([1.0, -1.0]), jnp.zeros(2))
      >>> prior = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
      >>> kl = vaejax.kl_closed_form(posterior, prior, None, None)
      >>> kl.shape, float(kl[0])
      ((1,), 1.0)

    Source: Kingma & Welling 2014, equation 7.
    """
    del z, log_posterior
    return kl_divergence(posterior, prior)[None]


def kl_monte_carlo(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """Monte-Carlo estimate of KL(q(z|x) || p(z)) from one sample, in nats.

    log q(z|x) - log p(z) with z ~ q(z|x): unbiased for any two distributions, and
    negative for some samples.

    Args:
      posterior: q(z|x); its values are not used beyond `log_posterior`.
      prior: p(z), with a `log_prob`.
      z: a sample of the posterior.
      log_posterior: scalar, log q(z|x) at that sample.

    Returns:
      `[1]`, the estimate.

    Raises:
      TypeError: the prior has no `log_prob`, or one of the two is a density in space
        and the other is on a sphere or discrete.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> posterior = vaejax.Normal(jnp.array([1.0, -1.0]), jnp.zeros(2))
      >>> prior = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
      >>> z = jnp.array([2.0, 0.0])
      >>> kl = vaejax.kl_monte_carlo(posterior, prior, z, posterior.log_prob(z))
      >>> kl.shape, round(float(kl[0]), 3)
      ((1,), 1.0)

    Source: Kingma & Welling 2014, equation 6.
    """
    _check_sample("kl_monte_carlo", z, log_posterior)
    check_densities("kl_monte_carlo", posterior, prior, z)
    log_prior = log_prob_of(prior, z)
    return (at_least_single(log_posterior) - at_least_single(log_prior))[None]


def kl_sticking_the_landing(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """Monte-Carlo estimate of the KL whose gradient leaves out the score of q(z|x).

    The value is that of `kl_monte_carlo`, log q(z|x) - log p(z) in nats. The gradient
    leaves out the score d log q(z|x) / d phi at fixed z, whose expectation is zero, so
    the expected gradient of the ELBO is the same. The remaining gradient, through z
    alone, vanishes for every sample where q(z|x) = p(z|x). Within an
    importance-weighted bound of more than one sample it is biased; use `negative_dreg`
    there.

    Args:
      posterior: q(z|x), with a `log_prob`.
      prior: p(z), with a `log_prob`.
      z: a reparameterized sample of the posterior.
      log_posterior: scalar, log q(z|x) at that sample.

    Returns:
      `[1]`, the estimate.

    Raises:
      TypeError: the posterior or the prior has no `log_prob`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import Normal
      >>> from vaejax.objectives import kl_sticking_the_landing
      >>> def kl(mean):
      ...     posterior, prior = Normal(mean, jnp.zeros(1)), Normal(mean, jnp.zeros(1))
      ...     z, log_posterior = posterior.sample_and_log_prob(jax.random.key(0))
      ...     prior = jax.lax.stop_gradient(prior)
      ...     return kl_sticking_the_landing(posterior, prior, z, log_posterior)[0]
      >>> bool(jnp.abs(jax.grad(kl)(jnp.ones(1)))[0] < 1e-6)
      True

    Source: Roeder et al. 2017 (path derivative); the bias: Tucker et al. 2019.
    """
    _check_sample("kl_sticking_the_landing", z, log_posterior)
    given = z
    if isinstance(z, Latents) and (
        hasattr(prior, "complete") or hasattr(prior, "complete_like")
    ):
        # Its states hold parameters, whose score is to be left out too.
        z = complete_by_prior(jax.lax.stop_gradient(prior), z, z.values)
    # The value comes from the noise of z, which (z - mean) / stddev would round off;
    # the gradient from the path.
    path = at_least_single(log_prob_of(_stopped(posterior), z))
    log_posterior = jax.lax.stop_gradient(at_least_single(log_posterior)) + (
        path - jax.lax.stop_gradient(path)
    )
    return kl_monte_carlo(posterior, prior, given, log_posterior)


def kl_per_dimension(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """Closed form of KL(q(z_j|x) || p(z_j)) for each dimension j of z, in nats.

    Args:
      posterior: q(z|x), a `Normal`.
      prior: p(z), a `Normal` over the same event.
      z: not used.
      log_posterior: not used.

    Returns:
      `[dimensions]`, one term per dimension of z, flattened.

    Raises:
      TypeError: posterior or prior is not a `Normal`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> posterior = vaejax.Normal(jnp.array([1.0, -2.0]), jnp.zeros(2))
      >>> prior = vaejax.Normal(jnp.zeros(2), jnp.zeros(2))
      >>> vaejax.kl_per_dimension(posterior, prior, None, None).tolist()
      [0.5, 2.0]

    Source: Kingma & Welling 2014, appendix B.
    """
    del z, log_posterior
    if not (isinstance(posterior, Normal) and isinstance(prior, Normal)):
        member = (
            " Those within a conditional_vae are reached by "
            "vaejax.models.conditional(objective, family)."
            if hasattr(prior, "given")
            else ""
        )
        raise TypeError(
            f"kl_per_dimension: the posterior is {type(posterior).__name__} and the "
            f"prior {type(prior).__name__}; it takes two Normals. kl_closed_form and "
            f"kl_monte_carlo give the sum.{member}"
        )
    flat = [
        jax.tree.map(lambda leaf, d=d: jnp.broadcast_to(leaf, d.mean.shape).ravel(), d)
        for d in (posterior, prior)
    ]
    return jax.vmap(kl_divergence)(*flat)


def kl_per_level(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """KL of each level of a hierarchical latent, in nats, given the levels drawn.

    For a posterior that descends, the term of level l is the closed form of
    KL(q(z_l|z_(l+1), x) || p(z_l|z_(l+1))) at the draw of the level above. One that
    climbs from x has a closed form for the top level alone; the terms of the others are
    log q(z_l|z_(l-1)) - log p(z_l|z_(l+1)) at the draw. The sum of the terms has the
    expectation KL(q(z|x) || p(z)).

    Args:
      posterior: q(z|x) of `ladder_vae`, `two_layer_vae` or `hierarchical_vae`, or any
        with a method `kl_per_level(prior, z)`.
      prior: p(z) of the same VAE.
      z: a sample of the posterior, with its path.
      log_posterior: not used.

    Returns:
      `[levels]`, one term per level, from the one nearest to x. Free bits and a warm-up
      act on each.

    Raises:
      TypeError: the posterior has no levels, or z was not drawn from it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.objectives import kl_per_level
      >>> vae = vaejax.models.ladder_vae(
      ...     latent_sizes=(3, 2),
      ...     encoders=(vaejax.MLP((8,)), vaejax.MLP((8,))),
      ...     decoders=(vaejax.MLP((8,), (5,)), vaejax.MLP((8,))),
      ... )
      >>> x = jnp.ones(5)
      >>> params = vae.init(jax.random.key(0), x)
      >>> _, terms = vaejax.negative_elbo(
      ...     vae, params, jax.random.key(1), x, kl_fn=kl_per_level
      ... )
      >>> terms.kl_terms.shape
      (2,)

    Source: Sonderby et al. 2016, section 2.
    """
    del log_posterior
    remedy = "take kl_closed_form or kl_monte_carlo, for a latent of one level"
    return require(posterior, "kl_per_level", remedy)(prior, z)


def kl_of_categoricals(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """Closed form of the KL between the choices of each categorical variable, in nats.

    It takes `Categorical`, `OneHotCategorical` and their relaxations alike. For
    relaxations it is the KL of the choices that are relaxed, as Jang et al. 2017 train
    with: the result is no bound on log p(x), for which `kl_monte_carlo` takes the
    densities.

    Args:
      posterior: q(z|x), with logits `[*event, classes]`.
      prior: p(z), with logits of the same shape.
      z: not used.
      log_posterior: not used.

    Returns:
      `[variables]`, one term per variable, flattened.

    Raises:
      TypeError: posterior or prior has no logits of classes.
      ValueError: their shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import RelaxedCategorical
      >>> from vaejax.objectives import kl_of_categoricals
      >>> certain = RelaxedCategorical(jnp.array([[99.0, 0.0], [0.0, 0.0]]), 0.5)
      >>> uniform = RelaxedCategorical(jnp.zeros((2, 2)), 0.5)
      >>> kl = kl_of_categoricals(certain, uniform, None, None)
      >>> [round(float(term), 3) for term in kl]  # log 2, 0
      [0.693, 0.0]

    Source: Jang et al. 2017, section 3; Maddison et al. 2017, equation 20.
    """
    del z, log_posterior
    logits = []
    for name, distribution in (("posterior", posterior), ("prior", prior)):
        if not isinstance(distribution, _CATEGORICAL):
            raise TypeError(
                f"kl_of_categoricals: the {name} is {type(distribution).__name__}; "
                "give a Categorical, a OneHotCategorical or a relaxation of one."
            )
        logits.append(jnp.asarray(distribution.logits))
    if logits[0].shape != logits[1].shape:
        raise ValueError(
            f"kl_of_categoricals: the posterior has logits {logits[0].shape} and the "
            f"prior {logits[1].shape}; give both the same variables and classes."
        )
    flat: list[Any] = [  # a Categorical has no mean
        Categorical(each.reshape(-1, each.shape[-1])) for each in logits
    ]
    return jax.vmap(kl_divergence)(*flat)


def _stopped(posterior: Distribution) -> Distribution:
    require(posterior, "log_prob")
    return jax.lax.stop_gradient(posterior)


def _check_sample(name: str, z: Latent, log_posterior: Array) -> None:
    check_arrays("the latent z", z)
    log_posterior = as_numbers(f"{name}: log_posterior", log_posterior)
    if jnp.shape(log_posterior) != ():
        raise ValueError(
            f"{name}: log_posterior has shape {jnp.shape(log_posterior)}; give the "
            "log-density of one z, and map over several with jax.vmap."
        )
