"""Properties of the networks that the official numbers do not show."""

import pytest
import torch
import torch.nn.functional as F

from model import build
from model.contrast import MoCo
from model.layer import depthwise

KDSR = {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1}


def test_depthwise_is_a_convolution_of_each_channel_with_its_own_kernel():
    x, kernel = torch.rand(2, 3, 9, 11, dtype=torch.float64), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    out = depthwise(x, kernel)
    for b in range(2):
        for c in range(3):
            expected = F.conv2d(x[b : b + 1, c : c + 1], kernel[b, c][None, None], padding=1)[0, 0]
            torch.testing.assert_close(out[b, c], expected)
    assert torch.autograd.gradcheck(depthwise, (x[:, :, :4, :4].requires_grad_(), kernel.requires_grad_()))


@pytest.mark.parametrize(("name", "config"), [("KDSR_S", KDSR), ("CDSR", {"n_blocks": 1})])
def test_images_of_a_batch_do_not_see_each_other(name, config):
    torch.manual_seed(0)
    net = build(name, scale=2, **config).eval()
    lr = torch.rand(3, 3, 24, 25)
    with torch.no_grad():
        together = net(lr)
        for i in range(3):
            alone = net(lr[i : i + 1])
            torch.testing.assert_close(alone.image, together.image[i : i + 1], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.embedding.code, together.embedding.code[i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "config"), [("KDSR_S", KDSR), ("KDSR_T", KDSR), ("CDSR", {"n_blocks": 1})])
def test_every_parameter_gets_a_gradient(name, config):
    torch.manual_seed(0)
    net = build(name, scale=2, **config)
    for parameter_name, p in net.named_parameters():
        if parameter_name.endswith("gamma"):
            torch.nn.init.ones_(p)  # starts at 0, and hides its branch
    restored = net(torch.rand(2, 3, 24, 24), torch.rand(2, 3, 48, 48))
    (restored.image.square().mean() + restored.embedding.projection.square().mean()).backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # q(f) is compared with k(B) in a softmax, which a bias common to all rows of B does not change
    assert set(dead) <= {"encoder.csc.key.bias"}


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
