"""Four Adam steps of each objective against the loss curves of the official implementations."""

import pytest
import torch

from data.degradation import IKCParams
from data.pairs import Batch
from loss import SFTMD, Contrast, Correction, Distillation, Pixel
from loss.distillation import divergence
from loss.learner import Learner
from model import CDSR, IKC, foreign
from runtime.schedule import Schedule
from tests.momentum import state_of_moco
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
    """Adam makes a step of the sign of a gradient, and of a few weights rounding decides the sign.

    So it depends on the processor whether one thread or two, which sum in another order, give the official curve.
    """
    numbers, threads = official_numbers("steps_cdsr"), torch.get_num_threads()
    state = official_weights("cdsr", "CDSR_x2", 0.5)
    lr = torch.cat((numbers["lr"] / 255).unbind(1))  # view-major
    hr = (numbers["hr"] / 255).repeat(2, 1, 1, 1)  # the HR of crop 2 plays no part
    curves = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            net = read(state)
            assert isinstance(net, CDSR)
            objective = Contrast(net)
            objective.moco.load_state_dict(state_of_moco(state))
            curves.append(curve(net, objective, lr, hr, ("l1", "contrast")))
    finally:
        torch.set_num_threads(threads)
    for found in curves:
        same(found[0], numbers["losses"][0])  # before any step
    same(min(curves, key=lambda found: (found - numbers["losses"]).abs().max()), numbers["losses"])


@pytest.mark.parametrize(("size", "scale"), [("M", 2), ("M", 3), ("M", 4), ("L", 4)])
def test_the_distillation_loss(size, scale, official_numbers):
    numbers = official_numbers("kdsr", f"KDSR_{size}_x{scale}/")
    kl = divergence(numbers["student_idr"], numbers["teacher_idr"], 0.15)
    assert kl.item() == pytest.approx(numbers["kd_loss"].item(), rel=1e-5)


@pytest.fixture
def ikc(official_ikc, official_numbers):
    net, numbers = read(foreign.join(official_ikc(4))), official_numbers("ikc", "steps/")
    assert isinstance(net, IKC)
    params = IKCParams(torch.zeros(len(numbers["code"]), 2), numbers["code"])
    return net, Batch(numbers["lr"] / 255, numbers["hr"] / 255, params), numbers


def test_ikcs_first_stage(ikc):
    net, batch, numbers = ikc
    learner = Learner(net.train(), SFTMD(), beta2=0.99, device=torch.device("cpu"))
    losses = torch.stack([learner.step(batch, step, 1e-4)["l1"] for step in range(4)]).double()
    torch.testing.assert_close(losses, numbers["sftmd_losses"], rtol=1e-4, atol=0)


def test_ikcs_second_stage(ikc):
    net, batch, numbers = ikc
    before = {name: value.clone() for name, value in net.restoration.state_dict().items()}
    codes = []
    net.corrector.register_forward_hook(lambda module, inputs, code: codes.append((inputs[1].clone(), code.clone())))
    learner = Learner(net.train(), Correction(), beta2=0.99, device=torch.device("cpu"))
    rows = [learner.step(batch, step, 1e-4) for step in range(3)]
    predictor = torch.stack([row["predictor"] for row in rows]).double()
    corrector = torch.stack([torch.stack([row[f"corrector_{i}"] for i in range(1, 8)]) for row in rows]).double()
    torch.testing.assert_close(predictor, numbers["predictor_losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(corrector[0], numbers["corrector_losses"][0], rtol=1e-4, atol=0)
    torch.testing.assert_close(corrector, numbers["corrector_losses"], rtol=2e-3, atol=0)
    for i, limit in ((0, 1e-4), (1, 2e-3), (2, 2e-3)):
        given, made = (torch.stack(part) for part in zip(*codes[7 * i : 7 * i + 7], strict=True))
        found, expected = torch.cat((given[:1], made)), numbers["codes"][i]
        assert ((found - expected).abs().max() / expected.std()).item() < limit
    assert all(torch.equal(value, before[name]) for name, value in net.restoration.state_dict().items())


def test_ikcs_learning_rate(official_numbers):
    schedule = Schedule(epoch_steps=1000, rate=1e-4, decay=125, gamma=0.5, decay_type="cosine", total_steps=500_000)
    for iteration, rate in official_numbers("ikc", "steps/")["lr_schedule"].tolist():
        assert schedule(int(iteration) - 1) == pytest.approx(rate, rel=1e-9)
