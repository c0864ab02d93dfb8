"""The GAN objective: its criteria, who gets which gradient, and that it is the alternating training of the paper."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from data.degradation.sharpen import sharpen
from data.pairs import Batch
from loss.adversarial import GAN, Adversarial, frozen
from loss.distillation import divergence
from loss.learner import Learner
from loss.perceptual import Perceptual
from model import build
from model.discriminator import UNetDiscriminator
from tests.phases import losses_of

TINY = {"scale": 2, "n_feats": 8, "n_blocks": 1, "n_resblocks": 1}


@pytest.fixture(scope="module")
def perceptual():
    torch.manual_seed(3)
    perceptual = Perceptual(pretrained=False)
    for layer in perceptual.vgg:
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    return perceptual


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)


@pytest.fixture
def student(seed):
    return build("KDSR_S", **TINY)


@pytest.fixture
def teacher(seed):
    return build("KDSR_T", **TINY)


@pytest.fixture
def discriminator(seed):
    return UNetDiscriminator(n_feats=4)


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------------------------------------- criteria


def test_vanilla_is_cross_entropy():
    criterion, logits = GAN["vanilla"], torch.linspace(-9, 9, 25).view(1, 1, 5, 5)
    real = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    fake = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    torch.testing.assert_close(criterion.real(logits), real)
    torch.testing.assert_close(criterion.generator(logits), real)
    torch.testing.assert_close(criterion.fake(logits), fake)
    assert [loss(torch.zeros(3)).item() for loss in criterion] == pytest.approx([math.log(2)] * 3)


@pytest.mark.parametrize(
    ("name", "logits", "generator", "real", "fake"),
    [
        ("hinge", [1.0, 3.0], -2.0, 0.0, 3.0),  # beyond the margin, real costs nothing
        ("hinge", [-1.0, -3.0], 2.0, 3.0, 0.0),
        ("hinge", [0.0, 0.5], -0.25, 0.75, 1.25),
        ("lsgan", [1.0, 3.0], 2.0, 2.0, 5.0),
        ("lsgan", [0.0, 0.5], 0.625, 0.625, 0.125),
    ],
)
def test_hinge_and_least_squares(name, logits, generator, real, fake):
    assert [loss(torch.tensor(logits)).item() for loss in GAN[name]] == pytest.approx([generator, real, fake])


# -------------------------------------------------------------------------------------------------- the sum


def test_the_parts_and_their_weights(student, teacher, discriminator, perceptual, images):
    objective = Adversarial(
        discriminator,
        perceptual=perceptual,
        teacher=teacher,
        l1_weight=2,
        perceptual_weight=3,
        gan_weight=5,
        kd_weight=7,
    )
    lr, hr = images
    parts = losses_of(objective, student, lr, hr, step=0)
    assert list(parts) == ["l1", "perceptual", "gan", "kl", "d_real", "d_fake", "total"]
    restored = student(lr)
    torch.testing.assert_close(parts["l1"], (restored.image - hr).abs().mean())
    torch.testing.assert_close(parts["perceptual"], perceptual(restored.image, hr))
    kl = divergence(restored.embedding.projection, teacher.embed(lr, hr).projection, 0.15)
    torch.testing.assert_close(parts["kl"], kl)
    network = 2 * parts["l1"] + 3 * parts["perceptual"] + 5 * parts["gan"] + 7 * parts["kl"]
    torch.testing.assert_close(parts["total"], network + parts["d_real"] + parts["d_fake"])


@pytest.mark.parametrize("name", ["KDSR_T", "EDSR"])
def test_without_teacher_and_vgg_any_network_can_be_trained(name, discriminator, images):
    net = build(name, **({"scale": 2, "n_feats": 8, "n_blocks": 1} if name == "EDSR" else TINY))
    parts = losses_of(Adversarial(discriminator), net, *images, step=0)
    assert list(parts) == ["l1", "gan", "d_real", "d_fake", "total"]
    parts["total"].backward()
    assert gradients(net).keys() == dict(net.named_parameters()).keys()


def test_sharpening_is_for_l1_and_perceptual_alone(student, teacher, discriminator, perceptual, photo):
    hr = torch.from_numpy(photo[64:128, 64:128]).permute(2, 0, 1)[None].float() / 255
    lr = F.avg_pool2d(hr, 2)
    settings = {"perceptual": perceptual, "teacher": teacher}
    plain, sharp = (
        losses_of(Adversarial(copy.deepcopy(discriminator), sharpen=wanted, **settings), student, lr, hr)
        for wanted in (False, True)
    )
    changed = {name for name in plain if not torch.equal(plain[name], sharp[name])}
    assert changed == {"l1", "perceptual", "total"}
    torch.testing.assert_close(sharp["l1"], (student(lr).image - sharpen(hr)).abs().mean())


def test_a_patch_that_does_not_fit(student, discriminator):
    with pytest.raises(ValueError, match=r"multiples of 8, got \(1, 3, 28, 28\)"):
        losses_of(Adversarial(discriminator), student, torch.rand(1, 3, 14, 14), torch.rand(1, 3, 28, 28))


def test_its_state_is_all_that_a_resumed_run_needs(student, teacher, discriminator, perceptual, images):
    objective = Adversarial(discriminator, perceptual=perceptual, teacher=teacher)
    losses_of(objective, student, *images, step=0)  # moves the vectors of the spectral norms
    empty = Perceptual(pretrained=False), build("KDSR_T", **TINY), UNetDiscriminator(n_feats=4)
    resumed = Adversarial(empty[2], perceptual=empty[0], teacher=empty[1])
    resumed.load_state_dict(objective.state_dict())
    assert losses_of(resumed, student, *images, step=1) == losses_of(objective, student, *images, step=1)


# ----------------------------------------------------------------------------------------------- who learns


def test_frozen_lets_the_gradient_through_and_puts_back_what_was(discriminator):
    discriminator.head.bias.requires_grad_(False)
    before = [p.requires_grad for p in discriminator.parameters()]
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    with frozen(discriminator):
        logits = discriminator(x)
    logits.mean().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not gradients(discriminator)
    with pytest.raises(ValueError, match="got"), frozen(discriminator):
        discriminator(torch.rand(1, 3, 9, 9))
    assert [p.requires_grad for p in discriminator.parameters()] == before


def test_only_the_discriminator_is_offered_to_the_optimiser(discriminator, teacher, perceptual):
    objective = Adversarial(discriminator, perceptual=perceptual, teacher=teacher)
    wanted = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert wanted == {f"discriminator.{name}" for name, _ in discriminator.named_parameters()}


@pytest.mark.parametrize("part", ["l1", "gan", "kl", "d_real", "d_fake"])
def test_each_part_trains_one_player(part, student, teacher, discriminator, images):
    parts = losses_of(Adversarial(discriminator, teacher=teacher), student, *images)
    parts[part].backward()
    assert bool(gradients(student)) == (part in ("l1", "gan", "kl"))
    assert bool(gradients(discriminator)) == (part in ("d_real", "d_fake"))
    assert not gradients(teacher)


def alternate(student, discriminator, teacher, perceptual, criterion, lr, hr, optimizers):
    """A step as the released code takes it: the network, then the discriminator, with an optimiser each."""
    discriminator.requires_grad_(False)
    restored = student(lr)
    kl = divergence(restored.embedding.projection, teacher.embed(lr, hr).projection.detach(), 0.15)
    pixels = F.l1_loss(restored.image, hr) + perceptual(restored.image, hr)
    optimizers[0].zero_grad()
    (pixels + criterion.generator(discriminator(restored.image)) + kl).backward()
    optimizers[0].step()
    discriminator.requires_grad_(True)
    optimizers[1].zero_grad()
    criterion.real(discriminator(hr)).backward()
    criterion.fake(discriminator(restored.image.detach())).backward()
    optimizers[1].step()


@pytest.mark.parametrize("gan", GAN)
def test_one_backward_is_the_alternating_training(gan, student, teacher, discriminator, perceptual, images):
    lr, hr = images
    other, rival = copy.deepcopy(student), copy.deepcopy(discriminator)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9) for module in (other, rival)]
    objective = Adversarial(discriminator, perceptual=perceptual, teacher=teacher, gan=GAN[gan])
    groups = [{"params": student.parameters()}, {"params": [p for p in objective.parameters() if p.requires_grad]}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for step in range(3):
        alternate(other, rival, teacher, perceptual, GAN[gan], lr, hr, optimizers)
        optimizer.zero_grad()
        losses_of(objective, student, lr, hr, step=step)["total"].backward()
        optimizer.step()
        for ours, theirs in ((student, other), (discriminator, rival)):
            assert gradients(ours).keys() == dict(ours.named_parameters()).keys()
            torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-6, atol=1e-6)
            # the power iterations of the spectral norms included
            torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gan", GAN)
def test_three_phases_and_one_adam_are_the_alternating_training(
    gan, student, teacher, discriminator, perceptual, images
):
    """The steps of the learner, to the bit: the released code has an Adam for each player and steps them by turns."""
    lr, hr = images
    rate = 1e-3
    other, rival = copy.deepcopy(student), copy.deepcopy(discriminator)
    optimizers = [
        torch.optim.Adam(other.parameters(), lr=rate, betas=(0.9, 0.99)),
        torch.optim.Adam(rival.parameters(), lr=rate / 4, betas=(0.9, 0.99)),
    ]
    objective = Adversarial(discriminator, perceptual=perceptual, teacher=teacher, gan=GAN[gan], rate_share=0.25)
    learner = Learner(student, objective, beta2=0.99, device=torch.device("cpu"))
    for step in range(3):
        alternate(other, rival, teacher, perceptual, GAN[gan], lr, hr, optimizers)
        losses = learner.step(Batch(lr, hr, None), step, rate)
        assert losses.keys() == {"l1", "perceptual", "gan", "kl", "d_real", "d_fake", "total", "gradient"}
        for ours, theirs in ((student, other), (discriminator, rival)):
            for name, value in theirs.state_dict().items():
                assert torch.equal(ours.state_dict()[name], value), (step, name)


# ------------------------------------------------------------------------------------------ a toy problem


@pytest.fixture
def toy(photo):
    """LR and HR of 4 patches of a photograph."""
    pixels = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    hr = torch.stack([pixels[:, y : y + 32, x : x + 32] for y in (60, 100) for x in (180, 220)])
    return F.avg_pool2d(hr, 2), hr


def train(objective, net, players, images, steps):
    optimizer = torch.optim.Adam([p for player in players for p in player.parameters()], lr=2e-3)
    rows = []
    for step in range(steps):
        parts = losses_of(objective, net, *images, step=step)
        optimizer.zero_grad()
        parts["total"].backward()
        optimizer.step()
        rows.append({name: part.item() for name, part in parts.items()})
    return rows


@pytest.mark.parametrize("gan", GAN)
def test_each_player_learns_while_the_other_waits(gan, student, discriminator, toy):
    objective = Adversarial(discriminator, gan=GAN[gan])
    rows = train(objective, student, [discriminator], toy, 25)
    first, last = (row["d_real"] + row["d_fake"] for row in (rows[0], rows[-1]))
    assert last < 0.8 * first
    gain = rows[-1]["gan"] - train(objective, student, [student], toy, 25)[-1]["gan"]
    assert gain > 0.2


def test_both_learn_together(student, discriminator, toy):
    rows = train(Adversarial(discriminator), student, [student, discriminator], toy, 40)
    assert rows[-1]["l1"] < 0.7 * rows[0]["l1"]
    assert rows[-1]["d_real"] + rows[-1]["d_fake"] < rows[0]["d_real"] + rows[0]["d_fake"]
