"""Several processes that train one network: who they are, and what they tell each other.

Started by `torchrun`, or by `main.py --n_GPUs N` which starts it. Without them all is done by one, `Ranks()`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from runtime.signals import STOPPED

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # for one that is late: validation and its files take that long at most


@dataclass(frozen=True)
class Ranks:
    """This process among all; `local` among those of its machine. parent: `torchrun`, by its id, if there is one."""

    rank: int = 0
    world: int = 1
    local: int = 0
    parent: int | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def orphaned(self) -> bool:
        """Whether the process that would tell this one to stop was killed."""
        return self.parent is not None and self.parent != os.getppid()

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """Whether it is true of any of them, for each flag. The host waits for the others, not for the device."""
        if self.world == 1:
            return flags
        told = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(told, dist.ReduceOp.MAX)  # on the CPU, by gloo
        return tuple(bool(flag) for flag in told)

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """Of all ranks, on whatever device."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def all_equal(self, value: object) -> bool:
        """Whether it is the same for all of them."""
        if self.world == 1:
            return True
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return all(other == value for other in values)

    def gather(self, own: Sequence[T]) -> list[T]:
        """The whole list that was dealt out to the ranks like cards, in its order again."""
        if self.world == 1:
            return list(own)
        hands: list[Any] = [None] * self.world
        dist.all_gather_object(hands, list(own))
        nothing = object()
        return [card for card in chain.from_iterable(zip_longest(*hands, fillvalue=nothing)) if card is not nothing]

    def gather_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state of which each rank has its own share: rows of tensors are dealt out like cards, counts add up."""
        if self.world == 1:
            return dict(state)
        return {
            key: self._rows(value) if isinstance(value, Tensor) else value * self.world for key, value in state.items()
        }

    def shard_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """This rank's share of it."""
        return {
            key: value[self.rank :: self.world] if isinstance(value, Tensor) else value // self.world
            for key, value in state.items()
        }

    def _rows(self, own: Tensor) -> Tensor:
        hands = [torch.empty_like(own, device="cpu") for _ in range(self.world)]
        dist.all_gather(hands, own.cpu())
        return torch.stack(hands, 1).flatten(0, 1)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Everyone takes the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """In this context the first one goes ahead, and the others find what it has prepared."""
        if self.world > 1 and not self.is_main:
            dist.barrier()
        yield
        if self.world > 1 and self.is_main:
            dist.barrier()

    def wrap(self, module: nn.Module, device: torch.device, *, partial: bool) -> nn.Module:
        """The module whose gradients are the mean over all ranks. partial: some parameters get none at times.

        On GPUs BatchNorm takes its statistics over all ranks, too. PyTorch cannot do that on the CPU: there each rank
        takes those of its own images.
        """
        if self.world == 1:
            return module
        if device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        self.broadcast(module.buffers())
        ids = [device.index] if device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer versions call `broadcast_buffers` otherwise
            return nn.parallel.DistributedDataParallel(
                module, ids, broadcast_buffers=False, find_unused_parameters=partial, gradient_as_bucket_view=True
            )


def launched() -> bool:
    """Whether `torchrun` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join() -> Ranks:
    """Meet the other processes that `torchrun` started; alone where it did not."""
    if not launched():
        return Ranks()
    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")), parent=os.getppid())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if ranks.world > 1:
        dist.init_process_group(backend, timeout=PATIENCE)
    return ranks


def leave() -> None:
    """Once all are here: `torchrun` ends those that are still at work when one exits with another code than 0."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def launch(program: Path, processes: int, argv: Sequence[str]) -> NoReturn:
    """Be `torchrun` with so many processes of the program, and exit. One that fails ends them all."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # of what they say themselves
    try:
        run.main(["--standalone", f"--nproc_per_node={processes}", str(program), *argv])
    except SignalException:
        sys.exit(STOPPED)  # they were told, have saved and said how to go on
    except ChildFailedError as error:
        # SIGTERM is what torchrun sends to the others once one has ended with another code than 0.
        codes = {failure.exitcode for failure in error.failures.values()} - {-signal.SIGTERM}
        if codes == {STOPPED}:
            sys.exit(STOPPED)
        sys.exit(str(error) if min(codes, default=-1) < 0 else 1)  # one that was killed could not say why
    sys.exit()
