"""The interface between the trainer and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
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
    """An objective of training, with all that it needs besides the network (a teacher, a queue); saved with the run.

    Its trainable parameters (a discriminator) are the optimiser's second group.
    """

    trains: ClassVar[type[BlindSR]] = BlindSR  # base class of the networks that it can train
    takes_teacher: ClassVar[bool] = False  # a student's, as the argument `teacher`; None: there is none
    needs_teacher: ClassVar[bool] = False  # is never without it; a fresh student starts with its SR network
    warms_up: ClassVar[bool] = False  # the encoder may learn alone at first, for `warmup_steps`
    epochs_include_warmup: ClassVar[bool] = False  # else the warm-up comes before the epochs of full training
    refines: ClassVar[str] = ""  # the objective whose weights it goes on from, and never does without
    compares_images: ClassVar[bool] = True  # takes the pixel loss, as the argument `loss`
    needs_codes: ClassVar[bool] = False  # learns from the codes of kernels that the recipe ikc draws
    views: ClassVar[int] = 1  # crops of each image in a batch
    constant: ClassVar[tuple[str, ...]] = ()  # submodules that never change: snapshots need not copy them again
    steps: ClassVar[int] = 1  # optimiser steps in a batch
    validates: ClassVar[bool] = True  # the whole network can be scored while it learns
    ranked_by_psnr: ClassVar[bool] = True  # model_best.pt has the best PSNR; a GAN has none
    rate_share: float = 1.0  # learning rate of its own parameters, relative to the network's
    turns: tuple[float, ...] | None = None
    """The steps at which `phases` begins to compute something else. Between two of them all steps must be alike, of one
    phase each, and may be compiled, or captured as a CUDA graph. None: the steps are not alike. A class whose instances
    set this says () itself, since options ask the class."""

    @classmethod
    def check_patch(cls, side: int, flags: Mapping[str, Any]) -> None:
        """Raise ValueError if the objective cannot take HR patches of this side, by the flags that it is built with."""

    def is_constant(self, name: str) -> bool:
        """Return True for the name of a tensor of `state_dict` that never changes."""
        return name.split(".")[0] in self.constant

    def first_alike(self, step: int) -> int:
        """Return the first of the steps that are like this one; the step itself where `turns` is None."""
        return step if self.turns is None else int(max((0, *(turn for turn in self.turns if turn <= step))))

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


def compiled(objective: Objective[Any], backend: str = "inductor") -> Callable[[Any, Batch, int], Iterator[Phase]]:
    """Return `objective.phases`, compiled as a whole: all that the network and the loss compute, as one graph.

    It is compiled at its first call, and anew after each of the objective's `turns`. Raises ValueError if it has none.

    backend: of `torch.compile`.
    """
    if objective.turns is None:
        raise ValueError(
            f"`compile`: {type(objective).__name__} has no `turns`: its steps are not alike or have several phases, or "
            "it does not say at which steps they change"
        )
    from torch._functorch import config  # private: where it changes, only `compile` fails

    @torch.compile(fullgraph=True, dynamic=False, backend=backend)
    def only_phase(net: nn.Module, batch: Batch, step: int) -> Phase:
        (phase,) = objective.phases(net, batch, step)
        return phase

    def phases(net: nn.Module, batch: Batch, step: int) -> Iterator[Phase]:
        # By default, what the forward computes in float32 would get a backward under autocast.
        with config.patch(backward_pass_autocast="off"):
            phase = only_phase(net, batch, objective.first_alike(step))
        yield phase

    return phases
