"""Models by options: networks for the shape of an example, likelihoods by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import vaejax
from vaejax import datasets
from vaejax.base import VAE, Array, Head
from vaejax.distributions import (
    Bernoulli,
    Column,
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
    support_of,
)


def make_vae(
    config: Any, shape: tuple[int, ...], head: Head, *, convolutional: bool
) -> VAE:
    """Return a Gaussian VAE of one hidden layer on either side, or of convolutions.

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


def make_table_vae(config: Any, columns: Sequence[Column], outputs: Array) -> VAE:
    """Return the VAE of a table, which starts at the independent columns."""
    vae = vaejax.models.table_vae(
        columns,
        latent_size=config.latent_size,
        encoder=vaejax.MLP((config.hidden_size,)),
        decoder=vaejax.MLP((config.hidden_size,)),
        initial_outputs=outputs,
    )
    return in_compute_dtype(config, vae)


def in_compute_dtype(config: Any, vae: VAE) -> VAE:
    """Return the VAE whose networks compute in the type of --compute-dtype."""
    return (
        vae
        if config.compute_dtype == "float32"
        else vaejax.models.with_compute_dtype(vae, config.compute_dtype)
    )


# Every likelihood of one number per dimension, by the name that programs give it.
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

# Likelihoods of whole numbers, for which 8-bit values are not taken as intensities.
COUNTS = ("poisson", "negative_binomial")
# Larger whole numbers are amounts rather than counts, and beyond what the heads of
# counts are made for.
_LARGEST_COUNT = 100_000


def _are_counts(found: datasets.ArrayDescription) -> bool:
    return found.are_counts and found.maximum <= _LARGEST_COUNT


# The likelihoods that are proposed for an array, in order of preference.
CANDIDATES = (
    datasets.LikelihoodCandidate(
        "bernoulli", "two values only", lambda found: found.is_binary
    ),
    datasets.LikelihoodCandidate(
        "discretized_logistic", "8-bit intensities", lambda found: found.white == 255
    ),
    datasets.LikelihoodCandidate(
        "discretized_normal", "16-bit intensities", lambda found: found.white == 65535
    ),
    datasets.LikelihoodCandidate(
        "continuous_bernoulli",
        "intensities between 0 and 1",
        lambda found: (
            found.dtype.startswith("float") and 0 <= found.minimum <= found.maximum <= 1
        ),
    ),
    datasets.LikelihoodCandidate(
        "negative_binomial",
        "counts that vary more than their mean",
        lambda found: _are_counts(found) and found.is_overdispersed,
    ),
    datasets.LikelihoodCandidate(
        "poisson", "counts that vary about as much as their mean", _are_counts
    ),
    datasets.LikelihoodCandidate("normal", "real values", lambda found: True),
)


def describe_array(
    array: np.ndarray, where: str = "the array"
) -> datasets.ArrayDescription:
    """Describe an array and propose one of `LIKELIHOODS` for it."""
    return datasets.describe_array(array, candidates=CANDIDATES, where=where)


def check_suits(array: np.ndarray, likelihood: str, where: str = "the array") -> None:
    """Check that every value of an array lies in the support of a likelihood, by name.

    8-bit values above 1 are taken as intensities `k / 255`, except for counts.

    Raises:
      ValueError: a value lies outside; the error proposes a likelihood that suits.
    """
    datasets.check_support(
        array,
        support_of(LIKELIHOODS[likelihood]),
        where=where,
        likelihood=likelihood,
        candidates=CANDIDATES,
        scale_8_bit=likelihood not in COUNTS,
    )
