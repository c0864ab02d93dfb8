"""Operators of the networks that PyTorch does slowly on a GPU.

Each has a file with a plain reference, and one with its Triton kernels. `dispatch` decides which of them runs.
"""

from .dense import dense_maps
from .depthwise import dynamic_depthwise
from .dispatch import self_check, use_kernels
from .outer import outer_attention

__all__ = ["dense_maps", "dynamic_depthwise", "outer_attention", "self_check", "use_kernels"]
