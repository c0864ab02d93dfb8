"""The seam between the trainer and what is minimised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from data.pairs import Batch
from model import BlindSR

Net = TypeVar("Net", bound=BlindSR)


class Phase(NamedTuple):
    """A loss that the learner backpropagates as soon as it is yielded."""

    losses: dict[str, Tensor]  # scalar parts by name, for the log
    total: Tensor  # their weighted sum, which is backpropagated
    step: bool = True  # let the optimiser step now, on the gradients since its last step


class Objective(nn.Module, Generic[Net]):
    """Owns what a loss needs beside the network (a teacher, a momentum encoder, a queue); saved with the run.

    Its trainable parameters (a discriminator) are the optimiser's second group.
    """

    views: ClassVar[int] = 1  # crops of each image in a batch
    constant: ClassVar[tuple[str, ...]] = ()  # submodules that never change: snapshots need not copy them again
    steps: ClassVar[int] = 1  # optimiser steps in a batch
    validates: ClassVar[bool] = True  # the whole network can be scored while it learns
    rate_share: float = 1.0  # learning rate of its own parameters, relative to the network's

    def is_constant(self, name: str) -> bool:
        """Return True for the name of a tensor of `state_dict` that never changes."""
        return name.split(".")[0] in self.constant

    def phases(self, net: Net, batch: Batch, step: int) -> Iterator[Phase]:
        """Yield the losses of a batch; the graph of one is gone when the next is asked for.

        Args:
            net: the network, which is called here.
            batch: lr (V·B, 3, H, W), hr (V·B, 3, s·H, s·W) in [0, 1], view-major: the first B are crop 1 of each image,
                the next B crop 2; and the degradations that were drawn, None for real or pooled pairs.
            step: counts from 0. All that changes in the course of a run is a function of it, so a resumed run needs no
                other state. What is not to be trained at a step gets no gradient.
        """
        raise NotImplementedError
