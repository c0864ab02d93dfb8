"""Operators of the networks that PyTorch does slowly on a GPU. One file for each, with a plain reference in it."""

from .depthwise import dynamic_depthwise, self_check, use_kernels

__all__ = ["dynamic_depthwise", "self_check", "use_kernels"]
