"""A step is captured after its warm-up, once for each kind, and a replay computes from what lies in memory then."""

from __future__ import annotations

import pytest
import torch

from data.pairs import Batch
from loss import SFTMD, Contrast, Distillation, Pixel
from loss.learner import Learner
from model import CDSR, build
from runtime.graph import WARMUP, GraphedStep, check_graph
from runtime.precision import Precision
from tests import graphs
from utility import host_copy

SMALL = {"scale": 2, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}


@pytest.fixture
def graph(monkeypatch):
    return graphs.on_cpu(monkeypatch)


def test_replays_read_their_inputs_and_change_what_the_step_changes(graph):
    total = torch.zeros(3)
    stepped = GraphedStep(lambda number, x: {"sum": total.add_(number * x).sum()})
    values, expected = [], torch.zeros(3)
    for i in range(6):
        values.append(stepped(2, torch.full((3,), float(i))))
        expected += 2 * i
        assert torch.equal(total, expected)
    assert [value["sum"].item() for value in values] == [0, 6, 18, 36, 60, 90]  # each a copy of its own
    assert graph.captured == 1


def test_another_kind_of_step_is_warmed_up_and_captured_anew(graph):
    calls = []
    stepped = GraphedStep(lambda number, x: calls.append(number) or {"y": number * x})
    for number in (0, 0, 0, 0, 3, 3, 3, 3, 3):
        assert stepped(number, torch.ones(()))["y"] == number
    assert calls == [0] * (WARMUP + 1) + [3] * (WARMUP + 1)
    assert graph.captured == 2
    for _ in range(WARMUP + 2):
        assert stepped(3, torch.ones(2))["y"].tolist() == [3, 3]  # of another shape
    assert graph.captured == 3
    stepped.reset()
    for _ in range(WARMUP + 2):
        stepped(3, torch.ones(2))
    assert graph.captured == 4


def test_a_step_that_reads_on_the_host_cannot_be_captured(graph):
    stepped = GraphedStep(lambda number, x: {"y": x * x.item()})
    for _ in range(WARMUP):
        stepped(0, torch.ones(()))
    with pytest.raises(RuntimeError, match="on the host"):
        stepped(0, torch.ones(()))


def test_what_cannot_be_captured_is_told():
    fine = {"processes": 1, "parts": 1, "scaled": False, "alike": True}
    gpu = torch.device("cuda")
    check_graph(gpu, **fine)
    for wrong, told in (
        ({"processes": 2}, "steps of 2 processes: leave"),
        ({"parts": 3}, "steps with `accumulate` 3: leave"),
        ({"scaled": True}, "steps with `precision` fp16: leave"),
        ({"alike": False}, "steps that differ"),
    ):
        with pytest.raises(ValueError, match=told):
            check_graph(gpu, **fine | wrong)
    with pytest.raises(ValueError, match="steps on a CPU: leave"):
        Learner(build("KDSR_S", **SMALL), Pixel(), cuda_graph=True, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="on a CPU and that differ from each other, have several phases or need codes"):
        Learner(build("IKC", scale=2, n_feats=8, n_blocks=1), SFTMD(), cuda_graph=True, device=torch.device("cpu"))


# ------------------------------------------------------------------------------------------------- real steps


def made(name):
    torch.manual_seed(0)
    if name == "pixel":
        return build("KDSR_T", **SMALL), Pixel()
    if name == "distillation":
        return build("KDSR_S", **SMALL), Distillation(build("KDSR_T", **SMALL), warmup_steps=4)
    net = build("CDSR", scale=2, n_blocks=1)
    assert isinstance(net, CDSR)
    return net, Contrast(net, queue=16, warmup_steps=4, freeze_step=8)


def batch(number):
    generator = torch.Generator().manual_seed(number)
    return Batch(torch.rand(4, 3, 24, 24, generator=generator), torch.rand(4, 3, 48, 48, generator=generator))


def states(learner, steps):
    """Take steps at a rate that changes, and that float32 holds; return losses and states, copies."""
    for number in steps:
        losses = learner.step(batch(number), number, 2.0 ** -(8 + number % 3))
        state = [value.clone() for part in (learner.net, learner.objective) for value in part.state_dict().values()]
        yield losses, state


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "kinds"), [("pixel", 1), ("distillation", 2), ("contrast", 3)])
def test_captured_steps_learn_what_plain_ones_learn(name, kinds, precision, graph):
    runs = []
    for cuda_graph in (False, True):
        how = {"ema": 0.9, "clip_grad": 0.5, "precision": Precision(precision), "device": torch.device("cpu")}
        runs.append(Learner(*made(name), cuda_graph=cuda_graph, **how))
        runs[-1].net.train()
    for plain, captured in zip(*(states(learner, range(12)) for learner in runs), strict=True):
        assert plain[0].keys() == captured[0].keys()
        assert all(torch.equal(plain[0][key], captured[0][key]) for key in plain[0])
        assert all(torch.equal(a, b) for a, b in zip(plain[1], captured[1], strict=True))
    assert graph.captured == kinds


def test_a_state_goes_from_captured_steps_to_plain_ones_and_back(graph):
    device = torch.device("cpu")
    reference = Learner(*made("pixel"), device=device)
    *_, (_, expected) = states(reference, range(15))
    learner = Learner(*made("pixel"), cuda_graph=True, device=device)
    for first, cuda_graph in ((0, False), (5, True), (10, False)):
        *_, (_, found) = states(learner, range(first, first + 5))
        following = Learner(*made("pixel"), cuda_graph=cuda_graph, device=device)
        following.load_state_dict(learner.state_dict())
        learner = following
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_state_that_is_loaded_is_the_one_that_captured_steps_go_on_with(graph):
    learner = Learner(*made("pixel"), cuda_graph=True, device=torch.device("cpu"))
    *_, _ = states(learner, range(4))
    kept = {name: value.clone() for name, value in learner.net.state_dict().items()}
    state = host_copy(learner.state_dict())
    *_, (_, expected) = states(learner, range(4, 9))
    learner.load_state_dict(state)
    assert all(torch.equal(value, kept[name]) for name, value in learner.net.state_dict().items())
    *_, (_, found) = states(learner, range(4, 9))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert graph.captured == 2
