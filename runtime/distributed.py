"""Several processes that train one network: their ranks, and what they exchange.

`torchrun` starts them, or `launch`. Without either, one process does everything: `Ranks()`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runtime.signals import STOPPED, watched

T = TypeVar("T")
Module = TypeVar("Module", bound=nn.Module)
TIMEOUT = timedelta(minutes=30)  # for a late process: validation and its files take that long at most

_LOST = re.compile(r"gloo|NCCL|Connection (closed|reset)|[Tt]imed out")  # in messages of torch.distributed


@dataclass(frozen=True)
class Ranks:
    """The place of this process among all processes of a run.

    Attributes:
        rank: its number, from 0.
        world: the number of processes.
        local: its number on its own machine.
        local_world: the number of processes on this machine.
        parent: process id of the launcher, if there is one.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1
    parent: int | None = None

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files."""
        return self.rank == 0

    @property
    def orphaned(self) -> bool:
        """True once the launcher, which would pass on a signal to stop, was killed."""
        return self.parent is not None and self.parent != os.getppid()

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag True if it is true on any rank. The host waits for other ranks, not for its device."""
        if self.world == 1:
            return flags
        shared = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(shared, dist.ReduceOp.MAX)  # on the CPU, by gloo
        return tuple(bool(flag) for flag in shared)

    def differing(self, values: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return what the ranks disagree on: the value of every rank, in order, for each key that is not the same.

        A key that a rank lacks counts as None there. Every rank gets the same answer; it is empty if all agree. The
        values are pickled: compare digests, not images.
        """
        everyone = self._all_gather(dict(values))
        keys = dict.fromkeys(chain.from_iterable(everyone))
        found = {key: [held.get(key) for held in everyone] for key in keys}
        return {key: held for key, held in found.items() if any(value != held[0] for value in held)}

    def gather(self, shard: Sequence[T]) -> list[T]:
        """Return the whole list on every rank, in order. `shard` is every `world`-th item of it from `rank` on."""
        missing = object()
        items: Iterator[Any] = chain.from_iterable(zip_longest(*self._all_gather(list(shard)), fillvalue=missing))
        return [item for item in items if item is not missing]

    def gather_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole state, of whose rows each rank holds a shard: in the order of the ranks."""
        if self.world == 1:
            return dict(state)
        return {key: self._gather_rows(value) for key, value in state.items()}

    def shard_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return this rank's shard of a whole state: of the rows of each tensor, and of the counts in older states."""
        return {
            key: value.chunk(self.world)[self.rank] if isinstance(value, Tensor) else value // self.world
            for key, value in state.items()
        }

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)  # in place, on the same memory

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            dist.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run this block on rank 0 first; the others then find what it has prepared."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def replicate(self, module: Module) -> Module:
        """Return the module as every rank trains it: with the weights and buffers of rank 0.

        On GPUs BatchNorm takes its statistics over all ranks. PyTorch cannot do that on the CPU: there each rank uses
        those of its own images.
        """
        if self.world == 1:
            return module
        if any(tensor.is_cuda for tensor in module.parameters()):
            module = cast(Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))
        self.broadcast(chain(module.parameters(), module.buffers()))
        return module

    def all_reduce_mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all ranks, in place; all travel as one.

        Called on the gradients after backward. It needs no wrapper around the network, so an objective may take several
        steps in a batch and leave any parameter without gradient. It is one message, which does not overlap with the
        backward.
        """
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def _all_gather(self, value: T) -> list[T]:
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def _gather_rows(self, shard: Tensor) -> Tensor:
        shards = [torch.empty_like(shard, device="cpu") for _ in range(self.world)]
        dist.all_gather(shards, shard.cpu())
        return torch.cat(shards)


def launched() -> bool:
    """Return True in a process that `torchrun` or `launch` started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """Return False in all processes of a launcher but the first; none need have joined."""
    return not launched() or os.environ["RANK"] == "0"


def join(patience: timedelta | None = None) -> Ranks:
    """Meet the other processes of the launcher; return `Ranks()` where there is none.

    patience: how long each process waits for the others whenever they exchange something; `TIMEOUT` by default.

    Raises ValueError where the launcher does not say which of its machine's processes this is.
    """
    if not launched():
        return Ranks()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or ("0" if world == 1 else None)
    if local is None:
        raise ValueError("RANK and WORLD_SIZE are set, but not LOCAL_RANK, which says what GPU a process has; set it")
    local_world = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or world
    ranks = Ranks(rank, world, int(local), int(local_world), parent=os.getppid())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if ranks.world > 1:
        dist.init_process_group(backend, timeout=patience or TIMEOUT)
    return ranks


def leave() -> None:
    """Wait for the other processes and leave them: the launcher ends all when one exits with a code other than 0."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


@contextmanager
def naming_peers(ranks: Ranks) -> Iterator[None]:
    """Raise ConnectionError, in one line, if another process ends or does not answer while this block waits for it."""
    try:
        yield
    except RuntimeError as error:
        if ranks.world > 1 and (isinstance(error, dist.DistError) or _LOST.search(str(error))):
            raise ConnectionError(
                f"process {ranks.rank} lost another one of this run, which ended or did not answer in time "
                f"({str(error).strip().splitlines()[0]})"
            ) from error
        raise


def launch(program: Path, processes: int, argv: Sequence[str]) -> NoReturn:
    """Run `program` in so many processes of this machine, as `torchrun --standalone` does, and exit.

    When one process fails, the others are ended. The exit code is 0, `STOPPED` if the run was stopped and saved, or 1.
    `argv` goes to the program alone: torchrun's own parser would take `--sig` for a short form of one of its options.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException  # takes a while to import
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes speak for themselves
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's default: each process would take all cores
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        max_restarts=0,
        signals_to_handle=",".join(number.name for number in watched()),
    )
    try:
        elastic_launch(config, sys.executable)("-u", str(program), *argv)
    except SignalException:
        sys.exit(STOPPED)  # the processes got the signal too, have saved and said how to resume
    except ChildFailedError as error:
        # Once one process has ended with a code other than 0, the launcher sends SIGTERM to the others.
        codes = {failure.exitcode for failure in error.failures.values()} - {-signal.SIGTERM}
        if codes == {STOPPED}:
            sys.exit(STOPPED)
        sys.exit(str(error) if min(codes, default=-1) < 0 else 1)  # one that was killed could not say why
    sys.exit()
