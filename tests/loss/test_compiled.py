"""Network and objective are one graph to `torch.compile`, and learn what they learn without."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from packaging.version import Version
from torch._inductor import config as inductor

from data import factory
from data.pairs import Batch
from loss import SFTMD, Adversarial, Contrast, Correction, Distillation, Pixel, compiled
from loss.learner import Learner
from model import IKC, ContrastiveSR, build
from model.discriminator import UNetDiscriminator
from runtime.compiler import check_compiler
from runtime.precision import Precision
from utility import ROOT

SMALL = {"scale": 2, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}
CPU = torch.device("cpu")


def contrast(name, **sizes):
    net = build(name, scale=2, n_blocks=1, **sizes)
    assert isinstance(net, ContrastiveSR)
    return net, Contrast(net, queue=16, warmup_steps=1, freeze_step=2)


CASES = {
    "KDSR_T": lambda: (build("KDSR_T", **SMALL), Pixel(loss="0.5*L1+0.5*Charbonnier")),
    "KDSR_S": lambda: (build("KDSR_S", **SMALL), Distillation(build("KDSR_T", **SMALL), warmup_steps=1)),
    "CDSR": lambda: contrast("CDSR"),
    "DASR": lambda: contrast("DASR", n_feats=8),
    "IKC": lambda: (IKC(scale=2, n_feats=8, n_blocks=2), SFTMD()),
    "EDSR": lambda: (build("EDSR", scale=2, n_feats=8, n_blocks=1), Pixel()),
    "RRDB": lambda: (build("RRDB", scale=2, n_feats=8, n_blocks=1), Pixel()),
}
CONTRASTIVE = ("CDSR", "DASR")  # half a minute each: three kinds of steps, and an encoder twice


@pytest.fixture(autouse=True)
def _forgetful():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def made(name):
    torch.manual_seed(0)
    return CASES[name]()


def batch(number):
    generator = torch.Generator().manual_seed(number)
    lr, hr = (torch.rand(4, 3, side, side, generator=generator) for side in (16, 32))
    return Batch(lr, hr, factory.degradation("ikc", scale=2).sample(4, generator=generator))


@pytest.mark.parametrize(
    ("name", "precision", "recompute"),
    [
        *((name, "fp32", False) for name in CASES if name not in CONTRASTIVE),
        ("KDSR_S", "bf16", True),
        *(pytest.param(name, "fp32", False, marks=pytest.mark.slow) for name in CONTRASTIVE),
        pytest.param("CDSR", "bf16", True, marks=pytest.mark.slow),
    ],
)
def test_the_steps_are_one_graph_for_each_kind(name, precision, recompute):
    """Dynamo alone traces them, and runs what it has traced; a break, or a value that is read, raises."""
    (net, objective), (plain_net, plain) = made(name), made(name)
    net.recompute(recompute)
    torch._dynamo.utils.counters.clear()
    phases = compiled(objective, "eager")
    for step in range(4):
        with Precision(precision).autocast(CPU):
            (found,), (expected,) = phases(net, batch(step), step), plain.phases(plain_net, batch(step), step)
        assert found.losses.keys() == expected.losses.keys()
        torch.testing.assert_close(found.total, expected.total)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == len({0, *(objective.turns or ())})


@pytest.mark.parametrize("name", ["KDSR_T", "KDSR_S", pytest.param("CDSR", marks=pytest.mark.slow)])
def test_what_is_float32_in_the_forward_is_so_in_the_backward(name):
    gradients = []
    for phases_of in (lambda objective: objective.phases, lambda objective: compiled(objective, "aot_eager")):
        net, objective = made(name)
        with Precision("bf16").autocast(CPU):
            ((_, total, _),) = phases_of(objective)(net, batch(0), 0)
        total.backward()
        gradients.append([p.grad for p in net.parameters()])
    for plain, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["KDSR_S", pytest.param("CDSR", marks=pytest.mark.slow)])
def test_compiled_steps_learn_what_plain_ones_learn(name, monkeypatch):
    """Through AOTAutograd, which traces the backward, too."""
    monkeypatch.setattr("loss.learner.compiled", lambda objective: compiled(objective, "aot_eager"))
    runs = []
    for compile in (False, True):
        net, objective = made(name)
        learner = Learner(net.train(), objective, compile=compile, device=CPU)
        runs.append([learner.step(batch(i), i, 1e-3) for i in range(3)])
        learner.probe(batch(3), 3)
        runs[-1].append(learner.state_dict())
    *losses, (plain, found) = zip(*runs, strict=True)
    for expected, values in losses:
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-6)
    # Adam makes full steps along the rounding errors of gradients that are nearly 0, or 0 as those of biases before a
    # BatchNorm or a softmax: a few weights may end elsewhere.
    idle = re.compile(r"encoder\.(p.*\.conv|csc\.key)\.bias")
    params = [made(name)[0].state_dict(), plain["net"]["params"], found["net"]["params"]]
    start, expected, learned = (
        torch.cat([value.flatten() for key, value in one.items() if not idle.fullmatch(key)]) for one in params
    )
    assert (learned - expected).norm() < 0.01 * (expected - start).norm()
    if name != "CDSR" or Version(torch.__version__) >= Version("2.12"):  # 2.11 rounds otherwise when it compiles CDSR
        torch.testing.assert_close(found["net"]["params"], plain["net"]["params"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found["objective"], plain["objective"], rtol=1e-3, atol=1e-5)


def test_what_has_several_phases_is_refused():
    for objective in (Adversarial(UNetDiscriminator(n_feats=8)), Correction()):
        with pytest.raises(ValueError, match=r"`compile`: .* has no `turns`"):
            compiled(objective)


# ------------------------------------------------------------------------------------- with a compiler, and without


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Nothing that was compiled before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))), reason="needs a C++ compiler"
)
def test_a_compiler_is_found_and_its_steps_learn_the_same(cache):
    check_compiler(CPU)
    runs = []
    for compile in (False, True):
        learner = Learner(*made("EDSR"), compile=compile, device=CPU)
        runs.append([learner.step(batch(i), i, 1e-3)["total"] for i in range(3)])
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(sys.platform == "win32", reason="there the compiler has one name")
def test_without_a_compiler_it_is_told_what_to_install(cache, monkeypatch):
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(ValueError, match=r"`compile`: PyTorch cannot compile here .*It needs a C\+\+ compiler .*apt"):
        check_compiler(CPU)


def test_batch_norm_over_several_gpus_is_refused():
    net, objective = made("CDSR")
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(net)  # in place, as processes that train on GPUs do
    with pytest.raises(ValueError, match="`compile`: PyTorch cannot compile a BatchNorm over several GPUs"):
        Learner(net, objective, compile=True, device=CPU)


def test_only_compiling_needs_a_private_module_of_torch():
    code = """
import sys, torch
sys.modules["torch._functorch"] = None  # as if it had another name
import loss, main
try:
    loss.compiled(loss.Pixel())
except ImportError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr
