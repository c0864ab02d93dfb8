"""The difference between SR and HR, and the objective that is nothing else: stage T of KDSR, any network alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from data.pairs import Batch
from loss.objective import Objective, Phase
from model import BlindSR


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean of √(d² + ε²), ε 1e-3: L1 that is smooth at 0 (LapSRN, https://arxiv.org/abs/1710.01992)."""
    return ((sr - hr).square() + 1e-6).sqrt().mean()


DIFFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "L1": F.l1_loss,
    "MSE": F.mse_loss,
    "Charbonnier": charbonnier,
}


NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


class Difference(NamedTuple):
    """How much SR images differ from HR images."""

    total: Tensor  # the weighted sum, a scalar
    parts: dict[str, Tensor]  # its terms without their weights, for the log: "l1", "mse"


class PixelLoss:
    """A weighted sum of `DIFFERENCES`, in EDSR's form.

    Args:
        text: weight*name, joined by +: "1*L1", "0.5*L1+0.5*MSE".
        factor: of every difference, beside its weight.

    Raises:
        ValueError: the text is of another form.
    """

    def __init__(self, text: str = "1*L1", factor: float = 1.0) -> None:
        self.factor = factor
        found = [re.fullmatch(rf"({NUMBER})\*(\w+)", term) for term in re.split(r"(?<![\d.][eE])\+", text)]
        self.terms = [(float(term[1]), term[2]) for term in found if term is not None and term[2] in DIFFERENCES]
        names = {name for _, name in self.terms}
        if not len(names) == len(self.terms) == len(found) or not any(weight for weight, _ in self.terms):
            raise ValueError(
                f"`loss` {text}: expected a weight, * and one of {', '.join(DIFFERENCES)}, or different ones joined by "
                "+, such as 0.5*L1+0.5*MSE"
            )

    def __call__(self, sr: Tensor, hr: Tensor) -> Difference:
        """Return the loss of (B, 3, H, W) images in [0, 1], computed in float32."""
        sr = sr.float()
        parts = {name.lower(): _times(self.factor, DIFFERENCES[name](sr, hr)) for _, name in self.terms}
        first, *rest = [_times(weight, parts[name.lower()]) for weight, name in self.terms]
        return Difference(sum(rest, first), parts)


def _times(factor: float, x: Tensor) -> Tensor:
    return x if factor == 1 else factor * x  # nothing to launch for a factor of 1


class Pixel(Objective[BlindSR]):
    """The pixel loss alone.

    Args:
        loss: see `PixelLoss`.
    """

    turns = ()

    def __init__(self, *, loss: str = "1*L1") -> None:
        super().__init__()
        self.pixel = PixelLoss(loss)

    def phases(self, net: BlindSR, batch: Batch, step: int) -> Iterator[Phase]:
        difference = self.pixel(net(batch.lr, batch.hr).image, batch.hr)
        yield Phase(difference.parts, difference.total)
