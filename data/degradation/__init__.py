"""Degradations: HR images to LR images, batched and on the images' device. One file per recipe."""

from data.degradation.finish import quantize
from data.degradation.gaussian import Gaussian
from data.degradation.manet import MANet
from data.degradation.params import Degradation, Params
from data.degradation.spatial import SpatiallyVariant

__all__ = ["Degradation", "Gaussian", "MANet", "Params", "SpatiallyVariant", "quantize"]
