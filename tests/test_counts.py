"""The kernels that a training step launches are counted without a GPU, and held; it never waits for one.

A step runs on tensors that have shapes and no data (`FakeTensorMode`), where the dynamic convolution is the operator
that a GPU runs. Operations count that are neither views nor allocations. A few launch more than one kernel: the
backward of a dynamic convolution two, `_foreach_copy_` one for some hundred tensors. Left out is the optimiser, whose
kernels for all weights together a CPU does not have. A host read (`.item()`, `if tensor:`) raises.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import model
from data.pairs import Batch
from loss.adversarial import Adversarial
from loss.contrast import Contrast
from loss.distillation import Distillation
from loss.pixel import Pixel
from model.discriminator import UNetDiscriminator
from model.op import depthwise, outer
from runtime.precision import Precision
from trainer import Learner

M = {"scale": 4, "n_feats": 64, "n_blocks": 53, "n_resblocks": 9}
L = {"scale": 4, "n_feats": 128, "n_blocks": 28, "n_resblocks": 5}
REAL = {"scale": 4, "n_feats": 128, "n_blocks": 42, "n_resblocks": 6}


class Launches(TorchDispatchMode):
    """Counts the operations that work on data."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        view = func.is_view or torch.Tag.inplace_view in func.tags or name == "_unsafe_view"
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        if tensors and not view and "empty" not in name and func.namespace != "prim":
            self.names[name] += 1
        return result


def teacher():
    return model.build("KDSR_T", **M), Pixel()


def distilled(size):
    return model.build("KDSR_S", **size), Distillation(model.build("KDSR_T", **size))


def contrast(name):
    net = model.build(name, scale=4)
    assert isinstance(net, model.ContrastiveSR)
    return net, Contrast(net)


def adversarial():
    return model.build("KDSR_S", **REAL), Adversarial(UNetDiscriminator(), teacher=model.build("KDSR_T", **REAL))


STEPS = {  # what is made, batch size, kernels in fp32 and in bf16
    "KDSR_T M": (teacher, 64, 472, 537),
    "KDSR_S M": (lambda: distilled(M), 64, 543, 610),
    "KDSR_S L": (lambda: distilled(L), 64, 345, 387),
    "CDSR": (lambda: contrast("CDSR"), 32, 1907, 1981),
    "DASR": (lambda: contrast("DASR"), 32, 1021, 1127),
    "KDSR-GAN": (adversarial, 9, 1145, 1261),
}


@pytest.fixture
def device_without_data(monkeypatch):
    monkeypatch.setattr(depthwise, "_has_kernel", lambda x, kernel: True)
    monkeypatch.setattr(outer, "_has_kernel", lambda query: True)
    monkeypatch.setattr(Learner, "_optimize", lambda self: torch.zeros(()))
    monkeypatch.setattr(FakeTensor, "__deepcopy__", copy, raising=False)
    monkeypatch.setattr(nn.Module, "to", to)
    with FakeTensorMode():
        yield


def copy(tensor, memo):
    """Copy a parameter or buffer without data, which PyTorch does not."""
    new = tensor.detach().clone()
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def to(module, device=None, memory_format=torch.preserve_format):
    """Lay out the weights of a module; PyTorch cannot exchange those without data in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and weight.ndim == 4:
                laid_out = weight.detach().clone(memory_format=memory_format)
                part._parameters[name] = nn.Parameter(laid_out, weight.requires_grad)
    return module


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_launches_no_more_kernels_than_it_did(name, precision, device_without_data):
    make, batch, fp32, bf16 = STEPS[name]
    net, objective = make()
    learner = Learner(net.train(), objective, device=torch.device("cpu"), precision=Precision(precision))
    n = objective.views * batch
    pairs = Batch(torch.rand(n, 3, 64, 64), torch.rand(n, 3, 256, 256), None)
    with Launches() as launches:
        learner.step(pairs, 1, 1e-4)
    total = launches.names.total()
    assert total <= (fp32 if precision == "fp32" else bf16), launches.names.most_common()
