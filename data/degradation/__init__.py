"""Degradations: HR images to LR images, batched and on the images' device. One file per recipe.

To add one, write its file and give it a line in `DEGRADATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data.degradation.finish import quantize
from data.degradation.gaussian import Gaussian
from data.degradation.ikc import IKC, IKCParams
from data.degradation.manet import MANet
from data.degradation.params import Degradation, Params
from data.degradation.second_order import SecondOrder
from data.degradation.second_order_params import SecondOrderParams
from data.degradation.sharpen import sharpen
from data.degradation.spatial import SpatiallyVariant

DEGRADATIONS: dict[str, Callable[..., Degradation[Any]]] = {
    "gaussian": Gaussian.from_flags,
    "manet": MANet.from_flags,
    "ikc": IKC,
    "second_order": SecondOrder.from_flags,
}
"""Builders of recipes by name. A builder takes `scale` and, by keyword, the flags of its recipe in published units, and
converts them; `data.factory.degradation` hands over no others."""

__all__ = [
    "DEGRADATIONS",
    "IKC",
    "Degradation",
    "Gaussian",
    "IKCParams",
    "MANet",
    "Params",
    "SecondOrder",
    "SecondOrderParams",
    "SpatiallyVariant",
    "quantize",
    "sharpen",
]
