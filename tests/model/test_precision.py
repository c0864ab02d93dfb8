"""Autocast rounds some of the networks' arithmetic, and must not round the rest."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import build
from model.autocast import add_scaled, convolve_in_float32, in_float32, keep_and_round, spatial_mean, to_autocast
from model.cdsr import ContentQuery
from model.convolution import Conv2d, rounds_weights_once
from model.discriminator import UNetDiscriminator
from model.layer import RDB
from model.moco import MoCo

SMALL = {
    "KDSR_T": {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1},
    "KDSR_S": {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1},
    "CDSR": {"n_blocks": 1},
    "DASR": {"n_feats": 8, "n_blocks": 2},
    "IKC": {"n_feats": 8, "n_blocks": 2},
    "EDSR": {"n_feats": 8, "n_blocks": 2},
    "RRDB": {"n_feats": 8, "n_blocks": 2},
}
HEADS = {"IKC": [f"restoration.head.{i}" for i in (0, 2, 4)], "EDSR": ["head"], "RRDB": ["head"]}
LAST = {"CDSR": "restoration.tail.0", "RRDB": "tail.2", "EDSR": "tail"}  # of the others restoration.tail


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def autocast(dtype=torch.bfloat16):
    return torch.autocast("cpu", dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SMALL)
def test_only_maps_are_rounded(name, dtype):
    net = build(name, scale=2, **SMALL[name]).train()
    paths, put_out = {module: path for path, module in net.named_modules()}, {}

    def look(module, inputs, named, output):
        summed = named.get("add_to") is not None  # as float32, if what it is added to is
        put_out[paths[module]] = (inputs[0].dtype, dtype if summed else output.dtype, output.shape[2:])

    for module in paths:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(look, with_kwargs=True)
    with autocast(dtype):
        restored = net(torch.rand(2, 3, 24, 24), torch.rand(2, 3, 48, 48))
    assert restored.image.dtype == restored.embedding.code.dtype == restored.embedding.projection.dtype == torch.float32
    last = LAST.get(name, "restoration.tail")
    exact = {*HEADS.get(name, ["restoration.head"]), last}
    for path, (into, out, size) in put_out.items():
        of_a_map = len(size) > 0 and size != (1, 1)
        if of_a_map and path not in exact:
            assert out == dtype, path
        else:
            assert into == out == torch.float32, path
    assert exact <= put_out.keys()


@pytest.mark.parametrize("name", SMALL)
def test_blocks_add_to_a_float32_trunk(name):
    net = build(name, scale=2, **SMALL[name])
    fuse = net.get_submodule("restoration.fuse" if hasattr(net, "restoration") else "fuse")
    seen = []
    fuse.register_forward_hook(lambda module, x, y: seen.append(x[0].dtype))
    with autocast():
        net(torch.rand(1, 3, 24, 24), torch.rand(1, 3, 48, 48))
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dense_blocks_keep_rounded_maps(dtype):
    block, seen = RDB(8), []
    block.convs[-1].register_forward_hook(lambda module, x, y: seen.append(x[0].dtype))
    with autocast(dtype):
        assert block(torch.rand(1, 8, 8, 8)).dtype == torch.float32
    assert seen == [dtype]


@pytest.mark.parametrize("name", ["CDSR", "DASR"])
def test_statistics_stay_float32(name):
    net = build(name, scale=2, **SMALL[name]).train()
    before = {path: value.clone() for path, value in net.named_buffers()}
    with autocast():
        net(torch.rand(2, 3, 24, 24))
    running = {path: value for path, value in net.named_buffers() if "running" in path}
    assert len(running) > 0
    for path, value in running.items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[path])


def test_means_over_pixels_are_summed_in_float32():
    x = 1 + torch.rand(2, 3, 64, 64).bfloat16()
    with autocast():
        mean = spatial_mean(x)
    torch.testing.assert_close(mean, x.float().mean((2, 3)), rtol=1e-6, atol=0)
    assert spatial_mean(x.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_of_a_mean_is_that_of_pytorch(dtype):
    x, weight = torch.rand(2, 4, 5, 6).to(dtype).requires_grad_(), torch.rand(2, 4)
    with autocast():
        (spatial_mean(x) * weight).sum().backward()
    (expected,) = torch.autograd.grad((x.mean((2, 3), dtype=torch.float32) * weight).sum(), x)
    assert x.grad is not None
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("at_once", [1, 40, 2**18])  # pixels: samples one by one, two by two, all together
def test_the_last_convolution_is_float32_and_so_are_its_gradients(at_once, monkeypatch):
    monkeypatch.setattr("model.autocast.AT_ONCE", at_once)
    torch.manual_seed(0)
    conv, x = Conv2d(6, 3, 3, padding=1), torch.randn(5, 6, 4, 5).bfloat16()
    results = []
    for convolve in (in_float32, convolve_in_float32):
        conv.zero_grad()
        maps = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = convolve(conv, maps)
        y.square().sum().backward()
        assert conv.bias is not None
        results.append((y, maps.grad, conv.weight.grad, conv.bias.grad))
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=1e-5 if found.dtype == torch.float32 else 1e-2, atol=1e-5)


def test_the_last_convolution_differentiates_what_is_asked_for():
    conv, x = Conv2d(6, 3, 3, padding=1).requires_grad_(False), torch.randn(2, 6, 4, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert not convolve_in_float32(conv, x).requires_grad
        convolve_in_float32(conv, x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is None


def test_a_rounded_branch_beside_the_trunk_gets_and_gives_what_autocast_does():
    """To the bit, gradients too, at each of its ends."""
    results = []
    start, scale = torch.randn(2, 4, 5, 6), torch.rand(2, 4, 5, 6)
    for fused in (False, True):
        x = start.clone().requires_grad_()
        with autocast():
            trunk, rounded = keep_and_round(x) if fused else (x, to_autocast(x))
            branch = rounded * scale.bfloat16()
            y = add_scaled(trunk, branch, 0.2) if fused else torch.add(trunk, branch, alpha=0.2)
        (y * scale).sum().backward()
        assert (rounded.dtype, y.dtype) == (torch.bfloat16, torch.float32)
        results.append((y.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert keep_and_round(start)[1] is start


def test_attention_between_channels_is_that_without_autocast():
    query = ContentQuery(16)
    nn.init.ones_(query.gamma)
    x, of_code = torch.randn(2, 16, 8, 8), torch.randn(3, 2, 16)
    with autocast():
        rounded = query(x, *of_code)
    assert torch.equal(rounded, query(x, *of_code))


def test_the_codebook_is_that_without_autocast():
    net = build("CDSR", scale=2, n_blocks=1)
    csc, seen = net.get_submodule("encoder.csc"), []
    hook = csc.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with autocast():
        net.embed(torch.rand(2, 3, 24, 24))
    hook.remove()
    ((f, code),) = seen
    assert torch.equal(code, csc(f))


def test_logits_of_the_contrast_are_float32():
    encoder = build("CDSR", scale=2, n_blocks=1).get_submodule("encoder")
    moco = MoCo(encoder, queue=16)
    queue, images = moco.queue.clone(), torch.rand(2, 3, 24, 24)
    with autocast():
        query = encoder(images).projection
        logits = moco(encoder, query, images)
    assert torch.equal(logits[:, 1:], F.normalize(query) @ queue / moco.temperature)
    assert moco.queue.dtype == torch.float32


def test_spectral_norms_are_those_without_autocast():
    """Power iterations are products of matrices and vectors, which autocast rounds."""
    nets = []
    for reduced in (False, True):
        torch.manual_seed(0)
        net = UNetDiscriminator(n_feats=4).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            logits = net(torch.rand(1, 3, 16, 16))
        assert logits.dtype == torch.float32
        logits.mean().backward()
        nets.append(net)
    states = [net.state_dict() for net in nets]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    normed = [net.get_submodule("down.0").weight for net in nets]
    assert torch.equal(*normed)


def test_nothing_is_converted_without_autocast():
    linear = nn.Linear(4, 4).double()
    assert in_float32(linear, torch.rand(1, 4).double()).dtype == torch.float64
    assert in_float32(linear.bfloat16(), torch.rand(1, 4).bfloat16()).dtype == torch.bfloat16
    assert spatial_mean(torch.rand(1, 4, 2, 2).bfloat16()).dtype == torch.bfloat16


def test_weights_rounded_together_are_those_that_autocast_rounds():
    """Image, gradients and all: to the bit, and left behind as they were."""
    results = []
    x = torch.rand(2, 3, 24, 24)
    for convolution in (Conv2d, nn.Conv2d):
        torch.manual_seed(0)
        body = nn.Sequential(convolution(3, 4, 3), nn.PReLU(), convolution(4, 4, 3, bias=False), nn.BatchNorm2d(4))
        with autocast():
            y = rounds_weights_once(lambda module, x: module(x))(body, x)
        y.square().mean().backward()
        results.append((y, *(p.grad for p in body.parameters())))
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in body.parameters())
        assert all(getattr(layer, "rounded", None) is None for layer in body)
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_weights_are_rounded_anew_at_each_pass():
    layer = Conv2d(3, 4, 1)
    forward = rounds_weights_once(lambda module, x: module(x))
    x = torch.rand(1, 3, 4, 4)
    with autocast(), torch.no_grad():
        before = forward(layer, x)
        layer.weight.mul_(2)
        layer.bias.mul_(2)  # pyright: ignore
        torch.testing.assert_close(forward(layer, x), 2 * before)
