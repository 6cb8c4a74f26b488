"""Builders that assemble networks, heads and priors into a `VAE`.

Assembly only: no mathematics is written here. Read `gaussian.py` first.
"""

from vaejax.models.compute_dtype import with_compute_dtype
from vaejax.models.conditioned_examples import conditional_vae
from vaejax.models.discrete import bernoulli_vae, categorical_vae
from vaejax.models.families import (
    Conditioned,
    VAEFamily,
    conditional,
    with_conditional_prior,
    with_network_noise,
)
from vaejax.models.gaussian import gaussian_vae
from vaejax.models.hierarchical import hierarchical_vae, ladder_vae, two_layer_vae
from vaejax.models.multimodal import (
    CombineExperts,
    mixture_of_experts,
    multimodal_vae,
    product_of_experts,
)
from vaejax.models.quantized import (
    codebook_optimizer,
    fsq_vae,
    revive_codes,
    vq_vae,
)
from vaejax.models.semi_supervised import semi_supervised_vae
from vaejax.models.sequence import sequence_vae
from vaejax.models.table import table_vae
from vaejax.models.units import with_units

__all__ = [
    "CombineExperts",
    "Conditioned",
    "VAEFamily",
    "bernoulli_vae",
    "categorical_vae",
    "codebook_optimizer",
    "conditional",
    "conditional_vae",
    "fsq_vae",
    "gaussian_vae",
    "hierarchical_vae",
    "ladder_vae",
    "mixture_of_experts",
    "multimodal_vae",
    "product_of_experts",
    "revive_codes",
    "semi_supervised_vae",
    "sequence_vae",
    "table_vae",
    "two_layer_vae",
    "vq_vae",
    "with_compute_dtype",
    "with_conditional_prior",
    "with_network_noise",
    "with_units",
]
