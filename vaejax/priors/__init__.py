"""Modifiers that give a `VAE` another prior: `VAE -> VAE`.

Encoder and decoder stay as they are; what the prior learns is added to the parameters
under the name "prior". A prior of no closed form needs `kl_fn=kl_monte_carlo`. Read
`mixture.py` first.
"""

from vaejax.priors.autoregressive import with_autoregressive_prior
from vaejax.priors.ex_post import fit_flow_prior, fit_mixture_prior
from vaejax.priors.flow import with_flow_prior
from vaejax.priors.mixture import (
    mixture_parameters,
    responsibilities,
    with_mixture_prior,
)
from vaejax.priors.spherical import with_spherical_prior
from vaejax.priors.vamp import with_vamp_prior

__all__ = [
    "fit_flow_prior",
    "fit_mixture_prior",
    "mixture_parameters",
    "responsibilities",
    "with_autoregressive_prior",
    "with_flow_prior",
    "with_mixture_prior",
    "with_spherical_prior",
    "with_vamp_prior",
]
