"""The phases of an objective as one dict of losses, for tests that look at the numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from data.pairs import Batch


<<<<<<< HEAD
def losses_of(objective, net, *inputs) -> dict[str, Tensor]:
    """Return the losses of all phases by name, and the sum of their totals as "total"; inputs: lr, hr, and the step."""
    lr, hr, step = inputs if len(inputs) == 3 else (*inputs, 0)
=======
def losses_of(objective, net, lr: Tensor, hr: Tensor, *, step: int = 0) -> dict[str, Tensor]:
    """Return the losses of all phases by name, and the sum of their totals as "total"."""
>>>>>>> loop
    phases = list(objective.phases(net, Batch(lr, hr, None), step))
    losses = {name: loss for phase in phases for name, loss in phase.losses.items()}
    return losses | {"total": torch.stack([phase.total for phase in phases]).sum()}
