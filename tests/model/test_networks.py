"""Properties of the networks that the official numbers do not show."""

from typing import cast

import pytest
import torch

from data.degradation.resize import bicubic
from loss.contrast import Contrast
from model import CDSR, build
from model.ikc import STEPS
from model.layer import DIV2K_MEAN, Trunk
from model.moco import MoCo

SMALL = {
    "KDSR_T": {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1},
    "KDSR_S": {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1},
    "CDSR": {"n_feats": 8, "n_blocks": 1},
    "DASR": {"n_feats": 8, "n_blocks": 2},
    "IKC": {"n_feats": 8, "n_blocks": 2},
    "EDSR": {"n_feats": 8, "n_blocks": 2},
    "RRDB": {"n_feats": 8, "n_blocks": 2},
}


@pytest.mark.parametrize("name", SMALL)
def test_images_of_a_batch_do_not_see_each_other(name):
    torch.manual_seed(0)
    net = build(name, scale=2, **SMALL[name]).eval()
    lr, hr = torch.rand(3, 3, 24, 25), torch.rand(3, 3, 48, 50)
    with torch.no_grad():
        together = net(lr, hr)
        for i in range(3):
            alone = net(lr[i : i + 1], hr[i : i + 1])
            torch.testing.assert_close(alone.image, together.image[i : i + 1], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.embedding.code, together.embedding.code[i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    net = build(name, scale=2, **SMALL[name])
    for parameter_name, p in net.named_parameters():
        if parameter_name.endswith("gamma"):
            torch.nn.init.ones_(p)  # starts at 0, and hides its branch
    restored = net(torch.rand(2, 3, 24, 24), torch.rand(2, 3, 48, 48))
    (restored.image.square().mean() + restored.embedding.projection.square().sum()).backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # q(f) is compared with k(B) in a softmax, which a bias common to all rows of B does not change
    assert set(dead) <= {"encoder.csc.key.bias"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_recomputed_maps_change_no_gradient(name, precision):
    """Compare several groups of blocks, to the bit; each block runs twice."""
    torch.manual_seed(0)
    net = build(name, scale=2, **SMALL[name] | {"n_blocks": 3})
    lr, hr, results, runs = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 48, 48), [], []
    trunks = [module for module in net.modules() if isinstance(module, Trunk)]
    assert len(trunks) > 0
    for trunk in trunks:
        trunk.group = 2
        trunk[0].register_forward_hook(lambda *_: runs.append(1))
    for recompute in (False, True):
        net.recompute(recompute)
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            restored = net(lr, hr)
        (restored.image.float().square().mean() + restored.embedding.projection.square().sum()).backward()
        results.append([restored.image.detach(), *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(runs) == 3 * len(trunks) * (STEPS if name == "IKC" else 1)
    for kept, recomputed in zip(*results, strict=True):
        assert torch.equal(kept, recomputed)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", SMALL)
def test_every_scale(name, scale):
    net = build(name, scale=scale, **SMALL[name]).eval()
    with torch.no_grad():
        restored = net(torch.rand(1, 3, 12, 14), torch.rand(1, 3, 12 * scale, 14 * scale))
    assert restored.image.shape == (1, 3, 12 * scale, 14 * scale)


@pytest.mark.parametrize("name", ["EDSR", "RRDB"])
def test_a_network_that_is_not_blind_knows_nothing_of_the_degradation(name):
    net = build(name, scale=2, **SMALL[name])
    for embedding in (net.embed(torch.rand(3, 3, 8, 8)), net(torch.rand(3, 3, 8, 8)).embedding):
        assert embedding.code.shape == embedding.projection.shape == (3, 0)


@pytest.mark.parametrize("name", ["DASR", "EDSR"])
def test_a_network_whose_residual_is_nothing_gives_the_mean_colour(name):
    net = build(name, scale=2, **SMALL[name]).eval()
    for parameter_name, p in net.named_parameters():
        if "tail" in parameter_name:
            torch.nn.init.zeros_(p)
    with torch.no_grad():
        image = net(torch.rand(1, 3, 8, 8)).image
    torch.testing.assert_close(image, torch.tensor(DIV2K_MEAN).view(3, 1, 1).expand_as(image))


@pytest.mark.parametrize("n_feats", [3, 8, 20])
def test_dasr_of_any_width(n_feats):
    """Also where an eighth of the channels is less than one."""
    net = build("DASR", scale=2, n_feats=n_feats, n_blocks=1)
    assert net(torch.rand(2, 3, 8, 8)).image.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (31, 24), (5, 700)])
def test_bicubic_is_that_of_the_degradations(scale, size):
    torch.manual_seed(0)
    lr = torch.rand(2, 3, *size)
    sr = build("BICUBIC", scale=scale)(lr).image
    torch.testing.assert_close(sr, bicubic(lr, scale), rtol=0, atol=2e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(build("BICUBIC", scale=scale)(lr).image, sr)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build("CDSR", scale=2, n_blocks=1).get_submodule("encoder")


def test_the_key_encoder_follows_slowly(encoder):
    moco = MoCo(encoder, queue=8, momentum=0.9)
    before = [p.clone() for p in moco.encoder.parameters()]
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1)
    images = torch.rand(2, 3, 24, 24)
    moco(encoder, encoder(images).projection, images)
    for old, new, target in zip(before, moco.encoder.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * target)
        assert not new.requires_grad


def test_the_queue_holds_the_newest_keys_in_order_and_wraps(encoder):
    moco = MoCo(encoder, queue=5)
    start = moco.queue.clone()
    images = torch.rand(2, 3, 24, 24)
    for _ in range(3):
        logits = moco(encoder, encoder(images).projection, images)
    assert logits.shape == (2, 6)
    assert moco.pointer.item() == 6 % 5
    torch.testing.assert_close(moco.queue.norm(dim=0), torch.ones(5))
    assert not torch.isclose(moco.queue, start).all(0).any()  # all five were replaced


def test_the_positive_of_equal_crops_wins(encoder):
    moco = MoCo(encoder, queue=64, momentum=1.0, temperature=0.07)
    encoder.train()
    images = torch.rand(4, 3, 24, 24)
    logits = moco(encoder, encoder(images).projection, images)  # the same weights, the same crops
    torch.testing.assert_close(logits[:, 0], torch.full((4,), 1 / 0.07))
    assert (logits.argmax(1) == 0).all()


def test_a_narrow_cdsr_has_a_narrow_embedding():
    net = cast(CDSR, build("CDSR", scale=2, n_feats=12, n_blocks=1))
    embedding = net.embed(torch.rand(2, 3, 24, 24))
    assert embedding.code.shape == embedding.projection.shape == (2, net.dim) == (2, 48)
    assert Contrast(net, queue=4).moco.queue.shape == (48, 4)
