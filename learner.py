"""What learns: a network with its objective, optimiser and moving average, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from loss import Objective
from model import EMA, BlindSR, checkpoint
from plan import Plan
from runtime.distributed import Ranks
from runtime.precision import Precision


class _Losses(nn.Module):
    """Network and objective as one module, for gradients are shared by module."""

    def __init__(self, net: BlindSR, objective: Objective[Any]) -> None:
        super().__init__()
        self.net = net
        self.objective = objective

    def forward(self, lr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        return self.objective(self.net, lr, hr, step)


class Learner:
    """Trains `net` on `objective` with Adam; `plan` says with which average, and in how many parts a batch goes."""

    def __init__(
        self,
        net: BlindSR,
        objective: Objective[Any],
        plan: Plan,
        *,
        device: torch.device,
        numerics: Precision,
        ranks: Ranks,
    ) -> None:
        self.net = net.to(device).to(memory_format=numerics.memory_format)
        self.objective = objective.to(device)
        self.device = device
        self.numerics = numerics
        self.parts = plan.accumulate
        self.average = EMA(self.net, plan.ema) if plan.ema else None
        self.optimizer = self._adam(plan.betas)
        self.scaler = numerics.scaler(device)
        self._losses = ranks.wrap(_Losses(self.net, self.objective), device, partial=objective.partial)

    def _adam(self, betas: tuple[float, float]) -> torch.optim.Adam:
        """Of the network, and of what the objective itself trains."""
        own = [p for p in self.objective.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": list(self.net.parameters()), "share": 1.0}]
        if own:
            groups.append({"params": own, "share": self.objective.rate_share})
        return torch.optim.Adam(groups, lr=0.0, betas=betas, fused=self.device.type == "cuda")

    @property
    def eval_net(self) -> BlindSR:
        """What is validated: the network, or the average of its weights."""
        return self.net if self.average is None else self.average.net

    def step(self, lr: Tensor, hr: Tensor, number: int, rate: float) -> dict[str, Tensor]:
        """One step; the parts of its loss and the norm of its gradient, which stay on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad()
        parts = self._backward(lr, hr, number)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None]
        parts["gradient"] = nn.utils.get_total_norm(gradients)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.net)
        return parts

    def _backward(self, lr: Tensor, hr: Tensor, number: int) -> dict[str, Tensor]:
        """Gradients of the mean loss over the batch, which goes through the network in parts.

        Those of the whole batch, unless a layer looks at the batch (BatchNorm) or counts its calls (spectral norm).
        """
        n, losses, sums = self.parts, self._losses, dict[str, Tensor]()
        for i, (some_lr, some_hr) in enumerate(zip(lr.chunk(n), hr.chunk(n), strict=True)):
            # With the last part gradients are shared.
            with losses.no_sync() if i < n - 1 and isinstance(losses, DistributedDataParallel) else nullcontext():
                with self.numerics.autocast(self.device):
                    parts = losses(some_lr, some_hr, number)
                self.scaler.scale(parts["total"] / n).backward()
            for name, part in parts.items():
                sums[name] = sums.get(name, 0) + part.detach().float() / n
        return sums

    def buffers(self) -> Iterator[Tensor]:
        return chain(self._losses.buffers(), () if self.average is None else self.average.net.buffers())

    def checkpoint(self) -> dict[str, Any]:
        """The network, with its average, as a file of weights holds it."""
        return checkpoint(self.net, None if self.average is None else self.average.net)

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.checkpoint(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the tensors of this state. ValueError where it is of another network."""
        found, own = state["net"], self.checkpoint()
        if (found["network"], found["config"]) != (own["network"], own["config"]):
            raise ValueError(
                f"it is of {found['network']} {found['config']}, the options ask for {own['network']} {own['config']}"
            )
        self.net.load_state_dict(found["params"])
        if self.average is not None:
            self.average.net.load_state_dict(found["params_ema"])
        self.objective.load_state_dict(state["objective"])
        fused = {"fused": self.device.type == "cuda"}  # a run may go on where there is a GPU, or none
        groups = [group | fused for group in state["optimizer"]["param_groups"]]
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])
