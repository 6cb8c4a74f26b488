"""Encoders and decoders: Flax Linen modules of one example, and foreign networks.

A network maps one example to arrays, without a batch axis and without mutable state.
`as_network` takes a Linen module or any `(init, apply)` pair. Read `mlp.py` first.
"""

from vaejax.networks.adapters import Network, as_network, compose_networks
from vaejax.networks.convolutional import (
    Convolution,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    DownConvolution,
    ResidualBlock,
    ResidualDecoder,
    ResidualEncoder,
    UpConvolution,
)
from vaejax.networks.mlp import MLP, GatedMLP
from vaejax.networks.recurrent import (
    GRU,
    CausalConvolutionDecoder,
    RecurrentDecoder,
    RecurrentEncoder,
)

__all__ = [
    "CausalConvolutionDecoder",
    "Convolution",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "DownConvolution",
    "GRU",
    "GatedMLP",
    "MLP",
    "Network",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "ResidualBlock",
    "ResidualDecoder",
    "ResidualEncoder",
    "UpConvolution",
    "as_network",
    "compose_networks",
]
