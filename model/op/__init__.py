"""Operators of the networks that PyTorch lacks or does slowly. One file each, a plain reference in it."""

from .depthwise import dynamic_depthwise

__all__ = ["dynamic_depthwise"]
