"""Four Adam steps of each objective against the loss curves of the official implementations."""

import pytest
import torch

from loss import Contrast, Distillation, Pixel
from loss.distillation import divergence
from model import CDSR, foreign
from tests.phases import losses_of


def curve(net, objective, lr, hr, parts):
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    rows = []
    for step in range(4):
        values = losses_of(objective, net, lr, hr, step=step)
        optimizer.zero_grad()
        values["total"].backward()
        optimizer.step()
        rows.append([values[part].item() for part in parts])
    return torch.tensor(rows, dtype=torch.float64)


def read(state):
    return foreign.read(state)[0]


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@pytest.fixture
def kdsr(official_weights, official_numbers):
    numbers = official_numbers("steps_kdsr")
    student, teacher = (read(official_weights("kdsr", f"KDSR_{role}_M_x4", 0.5)) for role in "ST")
    return student, teacher, numbers["lr"] / 255, numbers["hr"] / 255, numbers


def test_student(kdsr):
    student, teacher, lr, hr, numbers = kdsr
    same(curve(student, Distillation(teacher), lr, hr, ("l1", "kl")), numbers["student_losses"])


def test_teacher(kdsr):
    _, teacher, lr, hr, numbers = kdsr
    same(curve(teacher, Pixel(), lr, hr, ("l1",))[:, 0], numbers["teacher_losses"])


def test_cdsr(official_weights, official_numbers):
    numbers = official_numbers("steps_cdsr")
    state = official_weights("cdsr", "CDSR_x2", 0.5)
    net = read(state)
    assert isinstance(net, CDSR)
    objective = Contrast(net)
    objective.moco.load_state_dict(foreign.read_momentum(state))
    lr = torch.cat((numbers["lr"] / 255).unbind(1))  # view-major
    hr = (numbers["hr"] / 255).repeat(2, 1, 1, 1)  # the HR of crop 2 plays no part
    same(curve(net, objective, lr, hr, ("l1", "contrast")), numbers["losses"])


@pytest.mark.parametrize(("size", "scale"), [("M", 2), ("M", 3), ("M", 4), ("L", 4)])
def test_the_distillation_loss(size, scale, official_numbers):
    numbers = official_numbers("kdsr", f"KDSR_{size}_x{scale}/")
    kl = divergence(numbers["student_idr"], numbers["teacher_idr"], 0.15)
    assert kl.item() == pytest.approx(numbers["kd_loss"].item(), rel=1e-5)
