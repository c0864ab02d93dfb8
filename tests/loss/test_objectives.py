"""Each objective trains some parameters and leaves others alone."""

import pytest
import torch

from data import factory
from data.degradation import Params
from data.pairs import Batch
from loss import SFTMD, Contrast, Correction, Distillation, Pixel
from loss import factory as loss_factory
from loss.distillation import divergence
from model import DASR, IKC, NETWORKS, KDSRStudent, build, save_model
from tests.phases import losses_of

SMALL = {"scale": 2, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(4, 3, 24, 24), torch.rand(4, 3, 48, 48)


@pytest.fixture
def student():
    return build("KDSR_S", **SMALL)


@pytest.fixture(params=[("CDSR", {"n_blocks": 1}), ("DASR", {"n_feats": 8, "n_blocks": 1})], ids=lambda case: case[0])
def contrastive(request):
    name, config = request.param
    return build(name, scale=2, **config)


def trained(net, parts):
    parts["total"].backward()
    return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_pixel_trains_everything(student, images):
    parts = losses_of(Pixel(), student, *images)
    assert parts.keys() == {"l1", "total"}
    assert trained(student, parts) == {"estimator", "restoration"}


def test_the_teacher_learns_nothing_from_its_student(student, images):
    teacher = build("KDSR_T", **SMALL)
    objective = Distillation(teacher, kd_weight=0.5)
    parts = losses_of(objective, student, *images, step=0)
    torch.testing.assert_close(parts["total"], parts["l1"] + 0.5 * parts["kl"])
    assert trained(student, parts) == {"estimator", "restoration"}
    assert all(p.grad is None for p in teacher.parameters())
    assert not list(filter(lambda p: p.requires_grad, objective.parameters()))


def test_in_warm_up_the_estimator_learns_alone(student, images):
    objective = Distillation(build("KDSR_T", **SMALL), warmup_steps=3)
    assert trained(student, losses_of(objective, student, *images, step=2)) == {"estimator"}
    student.zero_grad()
    assert trained(student, losses_of(objective, student, *images, step=3)) == {"estimator", "restoration"}


@pytest.fixture
def coded(images):
    lr, hr = images
    params = factory.degradation("ikc", scale=2).sample(len(lr), generator=torch.Generator().manual_seed(0))
    return Batch(lr, hr, params)


def test_the_stages_of_ikc_train_their_parts(coded):
    net = IKC(scale=2, n_feats=8, n_blocks=2)
    expected = [{"restoration"}, {"predictor"}, *[{"corrector"}] * 7]
    for objective, parts in ((SFTMD(), expected[:1]), (Correction(), expected[1:])):
        found = []
        for phase in objective.phases(net, coded, 0):
            net.zero_grad()
            found.append(trained(net, {"total": phase.total}))
        assert found == parts
        assert objective.steps == len(parts)


def test_the_stages_of_ikc_need_the_codes_that_were_drawn(coded):
    net = IKC(scale=2, n_feats=8, n_blocks=2)
    for params in (None, Params(torch.ones(4, 2))):
        for objective in (SFTMD(), Correction()):
            with pytest.raises(ValueError, match="`degradation`: the true codes of kernels come with the recipe ikc"):
                next(objective.phases(net, coded._replace(params=params), 0))


def test_a_student_like_its_teacher_has_no_divergence():
    idr = torch.rand(4, 32)
    assert divergence(idr, idr, 0.15).item() == pytest.approx(0, abs=1e-6)
    assert divergence(idr, idr.flip(1), 0.15).item() > 0.01


def test_contrast_needs_an_encoder_and_two_crops(contrastive, images):
    with pytest.raises(ValueError, match="`net`: EDSR has no encoder to contrast"):
        Contrast(build("EDSR", scale=2, n_feats=8, n_blocks=1))  # pyright: ignore[reportArgumentType]
    batch = Batch(*(image[:3] for image in images))
    with pytest.raises(ValueError, match="`batch`: expected two crops of each image, got 3 crops"):
        list(Contrast(contrastive, queue=16).phases(contrastive, batch, 0))


def test_contrast_trains_both_then_the_restoration_alone(contrastive, images):
    objective = Contrast(contrastive, c_weight=2.0, freeze_step=1, queue=16)
    parts = losses_of(objective, contrastive, *images, step=0)
    torch.testing.assert_close(parts["total"], parts["l1"] + 2 * parts["contrast"])
    assert trained(contrastive, parts) == {"encoder", "restoration"}
    contrastive.zero_grad()
    parts = losses_of(objective, contrastive, *images, step=1)
    assert parts.keys() == {"l1", "total"}
    assert trained(contrastive, parts) == {"restoration"}


def test_a_frozen_encoder_normalises_with_the_batch_as_the_released_one_does(contrastive, images):
    lr, hr = images
    l1 = losses_of(Contrast(contrastive, freeze_step=0, queue=16), contrastive, lr, hr)["l1"]
    assert contrastive.encoder.training
    with torch.no_grad():
        code = contrastive.embed(lr[:2]).code
        expected = 255 * (contrastive.restore(lr[:2], code) - hr[:2]).abs().mean()
    torch.testing.assert_close(l1, expected)


def test_contrast_warm_up_trains_the_encoder_alone(contrastive, images):
    parts = losses_of(Contrast(contrastive, warmup_steps=1, queue=16), contrastive, *images)
    assert parts.keys() == {"contrast", "total"}
    assert trained(contrastive, parts) == {"encoder"}


def test_contrast_compares_with_the_first_crop_in_grey_levels(contrastive, images):
    lr, hr = images
    parts = losses_of(Contrast(contrastive, queue=16), contrastive, lr, hr)
    contrastive.train()
    expected = 255 * (contrastive(lr[:2]).image - hr[:2]).abs().mean()
    torch.testing.assert_close(parts["l1"], expected)


def test_the_log_says_where_averaged_weights_are_taken(tmp_path):
    teacher = build("KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    student = build("KDSR_S", **teacher.config)
    for ema in (None, teacher):
        save_model(teacher, path := tmp_path / "teacher.pt", ema=ema)
        takers = (
            lambda log, path=path: loss_factory.teacher(student, path, log),
            lambda log, path=path: loss_factory.network("KDSR_T", scale=2, sizes={}, pre_train=path, log=log),
            lambda log, path=path: loss_factory.network(
                "KDSR_S", scale=2, sizes={"n_feats": 8}, pre_train=path, warm_start=True, log=log
            ),
        )
        for take in takers:
            log: list[str] = []
            take(log.append)
            assert any("params_ema" in line for line in log) == (ema is not None)


def test_a_student_may_have_a_size_that_its_teacher_lacks(tmp_path, monkeypatch):
    class Gated(KDSRStudent):
        def __init__(self, *, scale: int, n_feats: int, n_blocks: int, n_resblocks: int, gate: bool = True):
            super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks, n_resblocks=n_resblocks)
            self.config["gate"] = gate

    monkeypatch.setitem(NETWORKS, "GATED", Gated)
    path = tmp_path / "teacher.pt"
    teacher = build("KDSR_T", **SMALL)
    save_model(teacher, path)
    started = loss_factory.network("GATED", scale=2, sizes={"gate": False}, pre_train=path, log=lambda line: None)
    assert started.config == {**SMALL, "gate": False}
    for name, weights in teacher.get_submodule("restoration").state_dict().items():
        assert torch.equal(started.state_dict()[f"restoration.{name}"], weights)
    for file in (path, None):
        assert loss_factory.teacher(started, file, lambda line: None).config == SMALL


def test_a_student_without_the_layers_of_its_teacher_is_told_which_it_needs(student):
    with pytest.raises(ValueError, match="EDSR and KDSR_S need a submodule `restoration` with the same layers"):
        loss_factory.take_restoration(build("EDSR", scale=2, n_feats=8, n_blocks=1), student)


def test_an_encoder_of_another_width_than_its_class_says_is_told():
    net = DASR(scale=2, n_feats=8, n_blocks=1)
    net.dim = 8
    contrast = Contrast(net, queue=16)
    batch = Batch(torch.rand(4, 3, 24, 24), torch.rand(4, 3, 48, 48))
    with pytest.raises(ValueError, match="its projection is 256 wide, and its class says `dim` = 8"):
        next(contrast.phases(net, batch, 0))
