"""Count what a step or inference would do on a GPU, without one: kernels launched, bytes held and moved, arithmetic.

It runs on tensors that have shapes and no data (`FakeTensorMode`), where dynamic and last convolutions and attentions
are the operators that a GPU runs. A host read (`.item()`, `if tensor:`) raises. Time cannot be counted, but it can be
bounded.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from math import inf
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry, register_flop_formula

import loss
import model
from data.degradation import IKCParams
from data.pairs import Batch
from loss import Objective
from loss.learner import Learner
from model import BlindSR, upsampler, winograd
from model.discriminator import UNetDiscriminator
from model.op import OPERATORS, last
from runtime.precision import Precision
from scripts import formulation

FLOPS, BYTES = 790e12, 4.3e12  # a second, of an H200 in bf16; in float32 products (TF32) half as many FLOPs


@register_flop_formula(last.convolve.overloadpacket)
def _flops_of_last(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
    return conv_flop_count(x, weight, out_shape)


@register_flop_formula(last.convolve_backward.overloadpacket)
def _flops_of_last_backward(dy: list[int], x: list[int], weight: list[int], **__: Any) -> int:
    return 2 * conv_flop_count(x, weight, dy)  # gradients of maps and of weights


class Ledger(TorchDispatchMode):
    """Watches the operations within its block.

    Operations count as kernels that are neither views nor allocations. A few launch more than one: the backward of a
    dynamic convolution two, `_foreach_copy_` one for some hundred tensors.

    Attributes:
        kernels: operations by name.
        peak: the most bytes that tensors made in the block held at once, without workspaces of cuDNN.
        flops: of products and convolutions, two for each multiply-add; dynamic convolutions, 1 %, are left out.
        moved: bytes that the kernels read and write, if each reads its arguments once.
        seconds: what these kernels take at least, at `FLOPS` and `BYTES` a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.peak = self.flops = self.moved = 0
        self.seconds = 0.0
        self._held: dict[int, int] = {}  # bytes of the storages that are alive
        self._now = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        view = func.is_view or torch.Tag.inplace_view in func.tags or name == "_unsafe_view"
        if _tensors((args, kwargs, result)) and not view and "empty" not in name and func.namespace != "prim":
            self.kernels[name] += 1
            self._work(func, args, kwargs or {}, result)
        for tensor in _tensors(result):
            self._hold(tensor.untyped_storage(), known)
        return result

    def _work(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        count = flop_registry.get(func.overloadpacket)
        flops = count(*args, **kwargs, out_val=result) if count else 0
        moved = sum(tensor.nbytes for tensor in _tensors((args, kwargs, result)))
        short = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in _tensors(result))
        self.flops += flops
        self.moved += moved
        self.seconds += max(flops / (FLOPS if short else FLOPS / 2), moved / BYTES)

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
    with ExitStack() as stack:
        for name in OPERATORS:
            # A function, not the mock that `patch` makes by itself: that keeps all its arguments.
            stack.enter_context(mock.patch.object(import_module(f"model.op.{name}"), "_has_kernel", new=_always))
        for patch in (
            mock.patch.object(upsampler, "FOLD_FROM", new=upsampler.FOLD_FROM_ON_GPU),
            mock.patch.object(winograd, "PIXELS", new=inf),
            mock.patch.object(FakeTensor, "__deepcopy__", _copy, create=True),
            mock.patch.object(nn.Module, "to", _to),
            FakeTensorMode(),
        ):
            stack.enter_context(patch)
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
    """Lay out the weights of a module; PyTorch cannot replace tensors without data in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and weight.ndim == 4:
                laid_out = weight.detach().clone(memory_format=memory_format)
                part._parameters[name] = nn.Parameter(laid_out, weight.requires_grad)
    return module


# --------------------------------------------------------------------------------------------- published steps

_M = {"scale": 4, "n_feats": 64, "n_blocks": 53, "n_resblocks": 9}
_L = {"scale": 4, "n_feats": 128, "n_blocks": 28, "n_resblocks": 5}
_REAL = {"scale": 4, "n_feats": 128, "n_blocks": 42, "n_resblocks": 6}


class Step(NamedTuple):
    """A training step at its published size."""

    make: Callable[[], tuple[BlindSR, Objective[Any]]]
    batch: int
    patch: int  # LR pixels a side


def _teacher() -> tuple[BlindSR, Objective[Any]]:
    return model.build("KDSR_T", **_M), loss.Pixel()


def _distillation(size: dict[str, int]) -> Callable[[], tuple[BlindSR, Objective[Any]]]:
    return lambda: (model.build("KDSR_S", **size), loss.Distillation(model.build("KDSR_T", **size)))


def _contrast(name: str) -> Callable[[], tuple[BlindSR, Objective[Any]]]:
    def make() -> tuple[BlindSR, Objective[Any]]:
        net = model.build(name, scale=4)
        assert isinstance(net, model.ContrastiveSR)
        return net, loss.Contrast(net)

    return make


def _adversarial() -> tuple[BlindSR, Objective[Any]]:
    teacher = model.build("KDSR_T", **_REAL)
    return model.build("KDSR_S", **_REAL), loss.Adversarial(UNetDiscriminator(), teacher=teacher)


STEPS = {
    "KDSR_T M": Step(_teacher, 64, 64),
    "KDSR_S M": Step(_distillation(_M), 64, 64),
    "KDSR_S L": Step(_distillation(_L), 64, 64),
    "CDSR": Step(_contrast("CDSR"), 32, 48),
    "DASR": Step(_contrast("DASR"), 32, 48),
    "KDSR-GAN": Step(_adversarial, 9, 64),
    "IKC, sftmd": Step(lambda: (model.build("IKC", scale=4), loss.SFTMD()), 32, 64),
    "IKC, correction": Step(lambda: (model.build("IKC", scale=4), loss.Correction()), 32, 64),
}
"""Each objective with the networks it is published for. The adversarial one is without its perceptual loss."""


def counted_step(name: str, precision: str, *, recompute: bool = False, released: bool = False) -> Ledger:
    """Count one of the `STEPS`, without the optimiser, whose kernels for all weights together a CPU does not have.

    Args:
        name: of the step.
        precision: one of `runtime.precision.PRECISIONS`.
        recompute: as the flag of main.py.
        released: compute as the released code, see `formulation`.
    """
    make, batch, patch = STEPS[name]
    with ExitStack() as stack:
        stack.enter_context(without_data())
        if released:
            stack.enter_context(formulation.networks())
        stack.enter_context(mock.patch.object(Learner, "_optimize", new=_no_update))
        net, objective = make()
        how = {"device": torch.device("cpu"), "precision": Precision(precision), "recompute": recompute}
        learner = Learner(net.train(), objective, **how)
        n = objective.views * batch
        params = IKCParams(torch.rand(n, 2), torch.rand(n, 10)) if isinstance(net, model.IKC) else None
        pairs = Batch(torch.rand(n, 3, patch, patch), torch.rand(n, 3, 4 * patch, 4 * patch), params)
        with Ledger() as ledger:
            learner.step(pairs, 1, 1e-4)
    return ledger


def counted_inference(
    make: Callable[[], BlindSR], size: tuple[int, int], precision: str, *, released: bool = False
) -> Ledger:
    """Count the restoration of one LR image of this size.

    Args:
        make: builds the network.
        size: rows and columns, LR pixels.
        precision, released: as for `counted_step`.
    """
    with ExitStack() as stack:
        stack.enter_context(without_data())
        if released:
            stack.enter_context(formulation.networks())
        layout = torch.contiguous_format if released else Precision(precision).inference_format(torch.device("cuda"))
        net, lr = make().eval().to(memory_format=layout), torch.rand(1, 3, *size)
        with Ledger() as ledger, torch.no_grad(), Precision(precision).autocast(torch.device("cpu")):
            net(lr)
    return ledger


def _no_update(_: Learner) -> Tensor:
    return torch.zeros(())
