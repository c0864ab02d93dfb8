"""The networks against numbers of the official implementations (float32, CPU). The limits are never loosened."""

from typing import cast

import pytest
import torch
import torch.nn.functional as F

from evaluation import best_step
from evaluation.metric import psnr, ssim
from model import CDSR, DASR, foreign
from model.edsr import EDSR
from model.ikc import IKC
from model.kdsr import KDSRStudent, KDSRTeacher
from model.moco import MoCo
from model.rrdb import RRDBNet
from tests.momentum import state_of_moco

LIMIT = 1e-4  # of max |difference| over the reference's standard deviation
KDSR = [("kdsr", "M", 2), ("kdsr", "M", 3), ("kdsr", "M", 4), ("kdsr", "L", 4), ("kdsrgan", "GAN", 4)]


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.std()).item()


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def read(state, network):
    net, missing, extra = foreign.read(state)
    assert type(net) is network
    assert not missing
    assert not extra
    return net.eval()


@pytest.mark.parametrize(("file", "size", "scale"), KDSR)
def test_kdsr_matches_the_official_numbers(file, size, scale, official_weights, official_numbers):
    names = {"M": "S_M", "L": "S_L", "GAN": "GAN_S"}
    student = read(official_weights(file, f"KDSR_{names[size]}_x{scale}"), KDSRStudent)
    teacher_name = names[size].replace("S_", "T_") if size != "GAN" else "GAN_T"
    teacher = read(official_weights(file, f"KDSR_{teacher_name}_x{scale}"), KDSRTeacher)
    numbers = official_numbers(file, f"KDSR_{size}_x{scale}/")
    lr, hr = numbers["lr"] / 255, numbers["hr"] / 255
    s, t = student(lr), teacher(lr, hr)
    assert error(s.image, numbers["student_sr"]) < LIMIT
    assert error(t.image, numbers["teacher_sr"]) < LIMIT
    if size != "GAN":
        assert error(s.embedding.projection, numbers["student_idr"]) < LIMIT
        assert error(t.embedding.projection, numbers["teacher_idr"]) < LIMIT


@pytest.mark.parametrize(("size", "scale", "count"), [("M", 2, 5_647_387), ("M", 3, 5_832_027), ("M", 4, 5_795_099)])
def test_kdsr_has_the_published_number_of_parameters(size, scale, count):
    net = KDSRStudent(scale=scale)
    assert sum(p.numel() for p in net.parameters()) + 24 == count  # 24: the official fixed mean-shift convolutions


@pytest.mark.parametrize(
    ("network", "scale", "count"),
    [(EDSR, 2, 1_369_859), (EDSR, 3, 1_554_499), (EDSR, 4, 1_517_571), (RRDBNet, 4, 16_697_987)],
)
def test_the_references_have_the_published_number_of_parameters(network, scale, count):
    assert sum(p.numel() for p in network(scale=scale).parameters()) == count


def test_dasr_has_the_published_number_of_parameters():
    net = DASR(scale=4)
    count = sum(p.numel() for name, p in net.named_parameters() if "project" not in name)  # the head is for training
    assert round(count / 1e6, 2) == 5.84


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("network", "gain"), [(CDSR, 1.0), (DASR, 0.7)])
def test_cdsr_and_dasr_match_the_official_numbers(network, gain, scale, official_weights, official_numbers):
    file, name = network.__name__.lower(), f"{network.__name__}_x{scale}"
    net = read(official_weights(file, name, gain), network)
    numbers = official_numbers(file, f"{name}/")
    restored = net(numbers["lr"] / 255)
    assert error(255 * restored.image, numbers["sr"]) < LIMIT
    assert error(restored.embedding.code, numbers["embedding"]) < LIMIT
    assert error(restored.embedding.projection, numbers["contrast"]) < LIMIT


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ikc_matches_the_official_numbers(scale, official_ikc, official_numbers):
    net = cast(IKC, read(foreign.join(official_ikc(scale)), IKC))
    numbers = official_numbers("ikc", f"IKC_x{scale}/")
    lr = numbers["lr"] / 255
    outside = numbers["sr_unclamped"].ne(numbers["sr_unclamped"].clamp(0, 1)).float().mean()
    assert outside > 0.3  # so the clamp is tested
    assert error(net.restore(lr, numbers["code"]), numbers["sr_unclamped"].clamp(0, 1)) < LIMIT
    steps = list(net.steps(lr))
    assert len(steps) == 7
    for step, sr, code in zip(steps, numbers["loop_sr"], numbers["loop_codes"][:7], strict=True):
        assert error(step.image, sr) < LIMIT
        assert error(step.embedding.code, code) < 1e-5
    assert error(net.corrector(steps[-1].image, steps[-1].embedding.code), numbers["loop_codes"][7]) < 1e-5
    restored = net(lr)
    assert error(restored.image, numbers["loop_sr"][6]) < LIMIT
    assert error(restored.embedding.code, numbers["loop_codes"][6]) < 1e-5


def test_ikcs_estimators_match_the_official_numbers(official_ikc, official_numbers):
    net = cast(IKC, read(foreign.join(official_ikc(4)), IKC))
    numbers = official_numbers("ikc", "estimators/")
    image, code = numbers["image"] / 255, numbers["code"]
    assert error(net.predict(image), numbers["predicted"]) < 1e-5
    assert error(net.corrector(image, code), numbers["corrected"]) < 1e-5
    assert error(net.corrector(image, code) - code, numbers["delta"]) < 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ikcs_scores_and_the_step_that_the_official_test_reports(scale, official_ikc, official_numbers):
    net = cast(IKC, read(foreign.join(official_ikc(scale)), IKC))
    numbers = official_numbers("ikc", f"IKC_x{scale}/")
    lr, hr = numbers["lr"] / 255, numbers["hr"] / 255
    best = numbers["loop_sr"][numbers["reported_step"] - 1, torch.arange(2)]
    assert error(best_step(net, lr, hr), best) < LIMIT
    for step, expected in zip(net.steps(lr), numbers["loop_metrics"], strict=True):
        found = [f(step.image, hr, border=scale, planes=p) for p in ("rgb", "matlab") for f in (psnr, ssim)]
        assert (torch.stack(found, 1) - expected).abs().max() < 1e-3


def test_ikc_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in IKC(scale=4).parameters()) == 5_315_351  # without the blocks that nothing uses


def test_cdsr_in_training_mode_and_its_contrast_match(official_weights, official_numbers):
    state = official_weights("cdsr", "CDSR_x2")
    net = read(state, CDSR).train()
    moco = MoCo(net.get_submodule("encoder"))
    moco.load_state_dict(state_of_moco(state))
    numbers = official_numbers("cdsr", "CDSR_x2/")
    query, key = (numbers["train_lr"] / 255).unbind(1)
    restored = net(query)
    logits = moco(net.get_submodule("encoder"), restored.embedding.projection, key)
    loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    assert error(255 * restored.image, numbers["train_sr"]) < LIMIT
    assert error(logits[:, :64], numbers["train_logits"]) < LIMIT
    torch.testing.assert_close(logits.logsumexp(1), numbers["train_logits_lse"], rtol=1e-5, atol=0)
    assert loss.item() == pytest.approx(numbers["train_loss"].item(), rel=1e-5)
    assert sum(p.numel() for m in (net, moco) for p in m.parameters()) == 16_167_150
