"""Counts what a step would do on a GPU, without one: kernels launched, and bytes held at once.

It runs on tensors that have shapes and no data (`FakeTensorMode`), where dynamic convolutions and attentions are the
operators that a GPU runs. A host read (`.item()`, `if tensor:`) raises. Time cannot be counted.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.op import depthwise, outer


class Ledger(TorchDispatchMode):
    """Watches the operations within its block.

    Operations count as kernels that are neither views nor allocations. A few launch more than one: the backward of a
    dynamic convolution two, `_foreach_copy_` one for some hundred tensors.

    Attributes:
        kernels: operations by name.
        peak: most bytes that tensors made in the block held at once; without workspaces of cuDNN.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.peak = 0
        self._held: dict[int, int] = {}  # bytes of the storages that are alive
        self._now = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        view = func.is_view or torch.Tag.inplace_view in func.tags or name == "_unsafe_view"
        if _tensors((args, kwargs, result)) and not view and "empty" not in name and func.namespace != "prim":
            self.kernels[name] += 1
        for tensor in _tensors(result):
            self._hold(tensor.untyped_storage(), known)
        return result

    def _hold(self, storage: Any, known: set[int]) -> None:
        key = storage._cdata
        if key not in known and key not in self._held:
            self._held[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._drop, key).atexit = False

    def _drop(self, key: int) -> None:
        self._now -= self._held.pop(key)


@contextmanager
def without_data() -> Iterator[None]:
    """Let tensors made in this block have no data, and networks run the operators that a GPU runs."""
    with (
        # Functions, not the mocks that `patch` makes by itself: those keep all their arguments.
        mock.patch.object(depthwise, "_has_kernel", new=_always),
        mock.patch.object(outer, "_has_kernel", new=_always),
        mock.patch.object(FakeTensor, "__deepcopy__", _copy, create=True),
        mock.patch.object(nn.Module, "to", _to),
        FakeTensorMode(),
    ):
        yield


def _always(*_: Tensor) -> bool:
    return True


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _copy(tensor: Tensor, memo: Any) -> Tensor:
    """Copy a parameter or buffer without data, which PyTorch does not."""
    new = tensor.detach().clone()
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _to(module: nn.Module, device: Any = None, memory_format: torch.memory_format = torch.preserve_format) -> nn.Module:
    """Lay out the weights of a module; PyTorch cannot exchange those without data in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and weight.ndim == 4:
                laid_out = weight.detach().clone(memory_format=memory_format)
                part._parameters[name] = nn.Parameter(laid_out, weight.requires_grad)
    return module
