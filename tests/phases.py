"""The phases of an objective as one dict of losses, for tests that look at the numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from data.pairs import Batch


def losses_of(objective, net, lr: Tensor, hr: Tensor, *, step: int = 0) -> dict[str, Tensor]:
    """Return the losses of all phases by name, and the sum of their totals as "total"."""
    phases = list(objective.phases(net, Batch(lr, hr, None), step))
    losses = {name: loss for phase in phases for name, loss in phase.losses.items()}
    return losses | {"total": torch.stack([phase.total for phase in phases]).sum()}
