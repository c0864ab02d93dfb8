"""Operators of the networks that PyTorch does slowly on a GPU.

Each has a file with a plain reference, and one with its Triton kernels. `dispatch` decides which of them runs.
"""

from .attended import attended_pointwise
from .conv import convolution
from .dense import dense_maps
from .depthwise import dynamic_depthwise
from .dispatch import OPERATORS, self_check, switch_off
from .last import last_convolution
from .mlp import two_layers
from .outer import outer_attention
from .shuffle import shuffled_convolutions

__all__ = [
    "OPERATORS",
    "attended_pointwise",
    "convolution",
    "dense_maps",
    "dynamic_depthwise",
    "last_convolution",
    "outer_attention",
    "self_check",
    "shuffled_convolutions",
    "switch_off",
    "two_layers",
]
