"""Posteriors beside the diagonal Normal: heads of flows, and products of experts.

A posterior family is a `Head`: give it to a builder, `gaussian_vae(posterior=head)`.
The network's outputs are the parameters of one example (amortized); weights that all
examples share are the head's own parameters.
"""

from vaejax.posteriors.flow import flow_head
from vaejax.posteriors.products import product_of_normals

__all__ = [
    "flow_head",
    "product_of_normals",
]
