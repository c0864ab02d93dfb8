"""Exponential moving average of a network's weights: the copy that is validated and shipped.

B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging" (SIAM J. Control Optim. 1992).

https://doi.org/10.1137/0330046

KDSR-GAN averages exponentially instead of evenly, with decay 0.999.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .layer import BlindSR


class EMA:
    """A copy, `net`, whose weights follow another network's: after each step w ← decay·w + (1 - decay)·w'.

    Floating-point buffers (statistics of BatchNorm) are averaged too; counters are copied.

    Args:
        net: the trained network; the average starts at its weights.
        decay: the share of the average that each step keeps, in [0, 1].

    Examples:
        >>> net = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(net.weight)
        >>> ema = EMA(net, decay=0.75)
        >>> _ = torch.nn.init.zeros_(net.weight)
        >>> ema.update(net)
        >>> ema.net.weight.item()
        0.75
    """

    def __init__(self, net: BlindSR, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, net: BlindSR) -> None:
        """Move the average one step towards the weights of `net`."""
        averaged, current = _tensors(self.net), _tensors(net)
        floats = [i for i, tensor in enumerate(averaged) if tensor.is_floating_point()]
        self._average([averaged[i] for i in floats], [current[i] for i in floats], None)
        for i in set(range(len(averaged))) - set(floats):
            averaged[i].copy_(current[i])


def _tensors(net: BlindSR) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
