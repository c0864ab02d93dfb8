"""The part of a run that learns: one training step at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from data.pairs import Batch
from loss.objective import Objective, Phase, compiled
from model import EMA, BlindSR
from model.checkpoint import checkpoint
from runtime.distributed import Ranks
from runtime.graph import GraphedStep, check_graph
from runtime.precision import Precision


class Learner:
    """The part that learns: a network with its objective, Adam and moving average, one step at a time.

    Args:
        ema: decay of the average of the weights, per step; 0: none.
        degradation: what the checkpoints say of the degradation that they were trained on.
        accumulate: parts in which a batch goes through the network.
        recompute: compute the maps of the SR network twice instead of keeping them all.
        clip_grad: norm that the gradient of a step is scaled down to, where it is larger; 0: never.
        compile: compile what network and objective compute.
        cuda_graph: launch each step as one CUDA graph.
    """

    def __init__(
        self,
        net: BlindSR,
        objective: Objective[Any],
        *,
        beta2: float = 0.999,
        ema: float = 0.0,
        degradation: Mapping[str, Any] | None = None,
        accumulate: int = 1,
        recompute: bool = False,
        clip_grad: float = 0.0,
        compile: bool = False,
        cuda_graph: bool = False,
        device: torch.device,
        precision: Precision = Precision(),  # noqa: B008 (frozen)
        ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    ) -> None:
        if accumulate > 1 and objective.steps > 1:
            raise ValueError(f"`accumulate` {accumulate}: this objective takes {objective.steps} steps in each batch")
        if cuda_graph:
            alike = objective.turns is not None and not objective.needs_codes  # a graph is given images alone
            scaled = precision.scaler(device).is_enabled()
            check_graph(device, processes=ranks.world, parts=accumulate, scaled=scaled, alike=alike)
        self.device = device
        self.precision = precision
        self.ranks = ranks
        self.accumulate = accumulate
        self.degradation = degradation
        self.clip_grad = clip_grad
        layout = precision.memory_format  # of a teacher and a discriminator, too
        self.net = ranks.replicate(net.to(device).to(memory_format=layout))
        self.objective = ranks.replicate(objective.to(device).to(memory_format=layout))
        if compile and any(isinstance(module, nn.SyncBatchNorm) for module in self.net.modules()):
            raise ValueError("`compile`: PyTorch cannot compile a BatchNorm over several GPUs; leave it out")
        self.net.recompute(recompute)
        self.ema = EMA(self.net, ema) if ema else None
        groups: list[dict[str, Any]] = [{"params": list(self.net.parameters()), "share": 1.0}]
        if trained := [p for p in self.objective.parameters() if p.requires_grad]:
            groups.append({"params": trained, "share": self.objective.rate_share})
        # Fused, Adam rounds otherwise than in the released trainers, whose runs on a CPU float32 repeats to the bit.
        fused = device.type == "cuda" or precision.precision == "bf16"
        self.optimizer = torch.optim.Adam(groups, lr=0.0, betas=(0.9, beta2), fused=fused, capturable=cuda_graph)
        self.scaler = precision.scaler(device)
        self._compute = compiled(self.objective) if compile else self.objective.phases
        self._graphed: GraphedStep | None = None
        if cuda_graph:
            self._graphed = GraphedStep(lambda first_alike, lr, hr: self._step(Batch(lr, hr), first_alike))
            for group in self.optimizer.param_groups:
                group["lr"] = torch.zeros((), device=device)  # where the graph reads it

    @property
    def eval_net(self) -> BlindSR:
        """The network to validate: the one that is trained, or the average of its weights."""
        return self.net if self.ema is None else self.ema.net

    def step(self, batch: Batch, number: int, rate: float) -> dict[str, Tensor]:
        """Take one training step. Return its losses and the norm of its gradient, which stay on the device."""
        for group in self.optimizer.param_groups:
            if self._graphed is None:
                group["lr"] = rate * group["share"]
            else:
                group["lr"].fill_(rate * group["share"])
        if self._graphed is None:
            return self._step(batch, number)
        return self._graphed(self.objective.first_alike(number), batch.lr, batch.hr)

    def _step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        parts, fresh = batch.chunk(self.accumulate), True
        for i, part in enumerate(parts):
            for phase in self._with_autocast(self._compute(self.net, part, number)):
                if fresh:
                    self.optimizer.zero_grad()
                fresh = step = phase.step and i == len(parts) - 1
                self.scaler.scale(phase.total / len(parts)).backward()
                for name, loss in {**phase.losses, "total": phase.total}.items():
                    losses[name] = losses.get(name, 0) + loss.detach().float() / len(parts)
                if step:
                    losses["gradient"] = self._optimize()
        if self.ema is not None:
            self.ema.update(self.net)
        return losses

    def _with_autocast(self, phases: Iterator[Phase]) -> Iterator[Phase]:
        """Yield the phases; autocast covers what they compute, not their backward."""
        while True:
            with self.precision.autocast(self.device):
                phase = next(phases, None)
            if phase is None:
                return
            yield phase

    def _optimize(self) -> Tensor:
        """Average the gradients over all ranks and let Adam step; return their norm, before it is clipped.

        The gradients of network and discriminator are clipped apart: neither slows the other down.
        """
        groups = [[p for p in group["params"] if p.grad is not None] for group in self.optimizer.param_groups]
        groups = [group for group in groups if group]
        self.ranks.all_reduce_mean_([p.grad for group in groups for p in group])
        self.scaler.unscale_(self.optimizer)
        norms = [nn.utils.get_total_norm([p.grad for p in group]) for group in groups]
        if self.clip_grad:
            for group, norm in zip(groups, norms, strict=True):
                nn.utils.clip_grads_with_norm_(group, self.clip_grad, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return nn.utils.get_total_norm(norms)

    @torch.no_grad()
    def probe(self, batch: Batch, number: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of a batch and the largest absolute value of the state, leaving everything as it is."""
        # Adam moves the parameters that it has; a forward pass may move the rest: statistics, queues, key encoders.
        of_objective = self.objective.state_dict().items()
        moved = [*self.net.buffers(), *(value for name, value in of_objective if not self.objective.is_constant(name))]
        before = [value.clone() for value in moved]
        part = batch.chunk(self.accumulate)[0]
        phases = list(self._with_autocast(self.objective.phases(self.net, part, number)))
        for value, was in zip(moved, before, strict=True):
            value.copy_(was)
        losses = {name: loss for phase in phases for name, loss in phase.losses.items()}
        losses["total"] = torch.stack([phase.total.float() for phase in phases]).sum()
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        averaged = [] if self.ema is None else self.ema.net.state_dict().values()
        held = chain(self.net.parameters(), moved, averaged, moments)
        floats = [value for value in held if isinstance(value, Tensor) and value.is_floating_point()]
        return losses, nn.utils.get_total_norm(floats, math.inf).to(self.device)

    def buffers(self) -> Iterator[Tensor]:
        averaged = () if self.ema is None else self.ema.net.buffers()
        return chain(self.net.buffers(), self.objective.buffers(), averaged)

    def checkpoint(self) -> dict[str, Any]:
        """Return the network, with its average, as a file of weights holds it."""
        return checkpoint(self.net, None if self.ema is None else self.ema.net, degradation=self.degradation)

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.checkpoint(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the tensors of this state. Raise ValueError if it is of another network."""
        found, asked = state["net"], self.checkpoint()
        if (found["network"], found["config"]) != (asked["network"], asked["config"]):
            raise ValueError(
                f"it is of {found['network']} {found['config']}, "
                f"the options ask for {asked['network']} {asked['config']}"
            )
        _load(self.net, found["params"])
        if self.ema is not None:
            _load(self.ema.net, found["params_ema"])
        _load(self.objective, state["objective"])
        # Settings (shares, betas, kernels) are those of the options; a state gives the moments and the last rate.
        groups, saved = self.optimizer.state_dict()["param_groups"], state["optimizer"]
        if [group["params"] for group in saved["param_groups"]] != [group["params"] for group in groups]:
            raise ValueError("its optimiser has other parameters")
        rates = [float(old["lr"]) for old in saved["param_groups"]]
        if self._graphed is not None:
            self._graphed.reset()  # it knows the moments that Adam had
            rates = [torch.tensor(rate, device=self.device) for rate in rates]
        groups = [group | {"lr": rate} for group, rate in zip(groups, rates, strict=True)]
        moments = copy.deepcopy(saved["state"])  # the optimiser goes on with the tensors that it is given
        for number, parameter in enumerate(
            chain.from_iterable(group["params"] for group in self.optimizer.param_groups)
        ):
            _check_moments(moments.get(number), parameter)
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])


def _load(module: nn.Module, saved: dict[str, Tensor]) -> None:
    """Load a state dict. Raise ValueError if a tensor is of another kind, which PyTorch would convert."""
    for name, expected in module.state_dict().items():
        if name in saved and saved[name].dtype != expected.dtype:
            raise ValueError(f"{name} is of {saved[name].dtype} instead of {expected.dtype}")
    module.load_state_dict(saved)


def _check_moments(moments: dict[str, Tensor] | None, parameter: Tensor) -> None:
    """Raise ValueError unless these are Adam's moments of this parameter; None: it has had no gradient yet."""
    if moments is None:
        return
    found = {name: (tuple(value.shape), value.dtype) for name, value in moments.items()}
    like = (tuple(parameter.shape), parameter.dtype)
    if found != {"step": ((), torch.float32), "exp_avg": like, "exp_avg_sq": like}:
        raise ValueError(f"a parameter of {like} has the moments {found}")
