"""What the trainer asks of an objective."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from model import BlindSR

Net = TypeVar("Net", bound=BlindSR)


class Objective(nn.Module, Generic[Net]):
    """Owns what the loss needs beside the network (a teacher, a momentum encoder, a queue); saved with the run."""

    views: ClassVar[int] = 1  # crops of each image in a batch
    rate_share: float = 1.0  # learning rate of what the objective itself trains, of the network's
    partial: bool = False  # whether at some steps a part of the network gets no gradient

    def forward(self, net: Net, lr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        """The scalar parts of the loss by name, and their weighted sum as "total".

        lr (V·B, 3, H, W), hr (V·B, 3, s·H, s·W) in [0, 1], view-major: the first B are crop 1 of each image, the next B
        crop 2. `step` counts from 0; all that changes in the course of a run is a function of it, so that a resumed run
        needs no state here. What is not to be trained at a step simply gets no gradient.
        """
        raise NotImplementedError
