"""A CUDA graph on the CPU: it records the operations of a block, undoes them, and repeats them on the same memory.

As on a GPU, a replay computes from what lies in the recorded tensors then, and the host may read nothing meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Recorder(TorchDispatchMode):
    """The operations within its block, and what the tensors from outside held before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags:
            raise RuntimeError(f"{func} reads a tensor on the host, which a capture does not permit")
        known = {_storage(t) for t in _tensors((args, kwargs))}
        for tensor in _tensors((args, kwargs)):
            if _storage(tensor) not in self._made | self._before.keys():
                self._before[_storage(tensor)] = tensor.untyped_storage(), tensor.untyped_storage().clone()
        result = func(*args, **kwargs)
        fresh = [t for t in _tensors(result) if _storage(t) not in known]
        self._made |= {_storage(t) for t in fresh}
        self.calls.append((func, args, kwargs, _tensors(result)))
        return result

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)


class Graph:
    """In the place of `torch.cuda.CUDAGraph`.

    Attributes:
        captured: how many there have been since `on_cpu`.
    """

    captured = 0

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.recorder.calls:
            known = {_storage(t) for t in _tensors((args, kwargs))}
            for old, new in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if _storage(new) not in known:
                    old.copy_(new)

    recorder: Recorder


class _Stream:
    def wait_stream(self, other: object) -> None: ...


@contextmanager
def _capture(graph: Graph, stream: object, capture_error_mode: str):
    assert capture_error_mode == "thread_local"  # a thread that pins memory must not end a capture
    graph.recorder = Recorder()
    with graph.recorder:
        yield
    graph.recorder.undo()
    Graph.captured += 1


def on_cpu(monkeypatch: pytest.MonkeyPatch) -> type[Graph]:
    """Let `runtime.graph` capture on the CPU; return the class that counts the captures."""
    Graph.captured = 0
    for name, value in {
        "CUDAGraph": Graph,
        "graph": _capture,
        "Stream": _Stream,
        "current_stream": _Stream,
        "stream": lambda stream: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr("loss.learner.check_graph", lambda *_, **__: None)
    adam: Any = torch.optim.Adam  # its fused kernel is the one that a GPU runs, and takes a rate as that does
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, **given: adam(groups, **given | {"fused": True}))
    return Graph
