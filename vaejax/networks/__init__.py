"""Encoders and decoders: Flax Linen modules of one example, and foreign networks.

A network maps one example to arrays, without a batch axis and without mutable state:
normalization is over one example (GroupNorm, LayerNorm), never a batch. `as_network`
takes a Linen module or any `(init, apply)` pair; `from_nnx` and `from_equinox` build
such a pair from modules of Flax NNX and Equinox. Read `mlp.py` first.
"""

from vaejax.networks.adapters import (
    Network,
    as_network,
    compose_networks,
    from_equinox,
    from_nnx,
    with_noise,
)
from vaejax.networks.branches import branched_network, merged_network
from vaejax.networks.conditioned import with_condition
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
from vaejax.networks.flow_layers import (
    FlowLayers,
    coupling_layers,
    inverse_autoregressive_layers,
    planar_layers,
    sylvester_layers,
)
from vaejax.networks.masked import MADE
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
    "FlowLayers",
    "GRU",
    "GatedMLP",
    "MADE",
    "MLP",
    "Network",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "ResidualBlock",
    "ResidualDecoder",
    "ResidualEncoder",
    "UpConvolution",
    "as_network",
    "branched_network",
    "compose_networks",
    "coupling_layers",
    "from_equinox",
    "from_nnx",
    "inverse_autoregressive_layers",
    "merged_network",
    "planar_layers",
    "sylvester_layers",
    "with_condition",
    "with_noise",
]
