"""Degradations: HR images to LR images, batched and on the images' device. One file per recipe."""

from data.degradation.finish import quantize
from data.degradation.gaussian import Gaussian
from data.degradation.manet import MANet
from data.degradation.params import Degradation, Draw, Params
from data.degradation.second_order import SecondOrder
from data.degradation.second_order_params import SecondOrderParams
from data.degradation.sharpen import sharpen
from data.degradation.spatial import SpatiallyVariant

__all__ = [
    "Degradation",
    "Draw",
    "Gaussian",
    "MANet",
    "Params",
    "SecondOrder",
    "SecondOrderParams",
    "SpatiallyVariant",
    "quantize",
    "sharpen",
]
