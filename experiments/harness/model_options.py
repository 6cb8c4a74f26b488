"""What experiments make their models of: networks by the shape of an example, in the
dtype that is asked for.
"""

from typing import Any

import vaejax
from vaejax.base import VAE, Head
from vaejax.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    DiscretizedNormal,
    Laplace,
    NegativeBinomial,
    Poisson,
    StudentT,
    discretized_logistic_mixture_head,
    fixed_variance_normal_head,
    normal_head,
    shared_variance_normal_head,
)


def make_vae(
    config: Any, shape: tuple[int, ...], head: Head, *, convolutional: bool
) -> VAE:
    """A Gaussian VAE of one hidden layer on either side, or of convolutions with one;
    `config` has the sizes.
    """
    hidden_sizes = (config.hidden_size,)
    if convolutional:
        encoder = vaejax.ConvolutionalEncoder(hidden_sizes=hidden_sizes)
        decoder = vaejax.ConvolutionalDecoder(
            shape, num_parameters=head.num_parameters, hidden_sizes=hidden_sizes
        )
    else:
        outputs = shape if head.num_parameters == 1 else (*shape, head.num_parameters)
        encoder, decoder = vaejax.MLP(hidden_sizes), vaejax.MLP(hidden_sizes, outputs)
    vae = vaejax.gaussian_vae(
        latent_size=config.latent_size,
        encoder=encoder,
        decoder=decoder,
        likelihood=head,
    )
    return in_compute_dtype(config, vae)


def in_compute_dtype(config: Any, vae: VAE) -> VAE:
    """The VAE whose networks compute as --compute-dtype says."""
    return (
        vae
        if config.compute_dtype == "float32"
        else vaejax.models.with_compute_dtype(vae, config.compute_dtype)
    )


# Every likelihood of one number a dimension, by the name that programs give it.
LIKELIHOODS: dict[str, Head] = {
    "bernoulli": Bernoulli.head,
    "continuous_bernoulli": ContinuousBernoulli.head,
    "normal": normal_head(),
    "fixed_variance_normal": fixed_variance_normal_head(),
    "shared_variance_normal": shared_variance_normal_head(),
    "laplace": Laplace.head,
    "student_t": StudentT.head,
    "discretized_logistic": DiscretizedLogistic.head,
    "discretized_logistic_mixture": discretized_logistic_mixture_head(5),
    "discretized_normal": DiscretizedNormal.head,
    "poisson": Poisson.head,
    "negative_binomial": NegativeBinomial.head,
}
