"""An exponential moving average of a network's weights, which is what gets validated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.layer import BlindSR


class EMA:
    """`net` follows another network: after each step w ← decay·w + (1 - decay)·w'. Starts as its copy.

    Buffers that are floats (BatchNorm's statistics) are averaged likewise, counters are copied.
    """

    def __init__(self, net: BlindSR, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, net: BlindSR) -> None:
        own, its = _tensors(self.net), _tensors(net)
        floats = [i for i, tensor in enumerate(own) if tensor.is_floating_point()]
        self._average([own[i] for i in floats], [its[i] for i in floats], None)
        for i in set(range(len(own))) - set(floats):
            own[i].copy_(its[i])


def _tensors(net: BlindSR) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
