"""EDSR by the names of EDSR-PyTorch and of BasicSR, beside networks built as those are; files that fit none."""

import pytest
import torch
from torch import nn

from model import build, edsr, foreign, load_model
from model.checkpoint import from_published

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])
C, N = 8, 3  # channels and blocks


def conv(ins: int, outs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, size, padding=size // 2)


def upsampler(scale: int) -> nn.Sequential:
    steps = [3] if scale == 3 else [2] * (scale // 2)
    return nn.Sequential(*(layer for r in steps for layer in (conv(C, r * r * C), nn.PixelShuffle(r))))


class Block(nn.Module):
    def __init__(self, res_scale: float) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.body = nn.Sequential(conv(C, C), nn.ReLU(), conv(C, C))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) * self.res_scale + x


class NamedBlock(nn.Module):
    def __init__(self, res_scale: float) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.conv1, self.conv2 = conv(C, C), conv(C, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.conv1(x).relu()) * self.res_scale


class LikeEDSRPyTorch(nn.Module):
    """Its images are in 0..255, and 1×1 convolutions shift their mean."""

    def __init__(self, scale: int, res_scale: float) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = conv(3, 3, 1), conv(3, 3, 1)
        self.head = nn.Sequential(conv(3, C))
        self.body = nn.Sequential(*(Block(res_scale) for _ in range(N)), conv(C, C))
        self.tail = nn.Sequential(upsampler(scale), conv(C, 3))

    def shift(self, levels: float) -> None:
        for layer, sign in ((self.sub_mean, -1), (self.add_mean, 1)):
            layer.weight.data = torch.eye(3)[:, :, None, None]
            layer.bias = nn.Parameter(sign * levels * MEAN)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        x = self.head(self.sub_mean(255 * lr))
        return self.add_mean(self.tail(self.body(x) + x)) / 255


class LikeBasicSR(nn.Module):
    """Its images are in 0..1, and get the range of 255 once their mean is gone."""

    def __init__(self, scale: int, res_scale: float) -> None:
        super().__init__()
        self.conv_first = conv(3, C)
        self.body = nn.Sequential(*(NamedBlock(res_scale) for _ in range(N)))
        self.conv_after_body = conv(C, C)
        self.upsample = upsampler(scale)
        self.conv_last = conv(C, 3)

    def shift(self, levels: float) -> None:
        """Do nothing: no file has its mean."""

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        mean = MEAN[:, None, None]
        x = self.conv_first((lr - mean) * 255)
        return self.conv_last(self.upsample(self.conv_after_body(self.body(x)) + x)) / 255 + mean


def theirs(network: type[LikeEDSRPyTorch | LikeBasicSR], scale: int, res_scale: float = 1.0) -> nn.Module:
    torch.manual_seed(scale)
    net = network(scale, res_scale)
    net.shift(255)
    return net.eval()


@pytest.fixture(params=[LikeEDSRPyTorch, LikeBasicSR])
def network(request):
    return request.param


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_gives_the_images_of_the_code_that_its_weights_are_from(network, scale, tmp_path):
    net = theirs(network, scale)
    torch.save({"params": net.state_dict()}, tmp_path / "theirs.pth")
    loaded = load_model(tmp_path / "theirs.pth")
    assert loaded.config == {"scale": scale, "n_feats": C, "n_blocks": N}
    lr = torch.rand(2, 3, 11, 14)
    torch.testing.assert_close(loaded(lr).image, net(lr), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_is_written_as_edsr_pytorch_reads_it(scale):
    torch.manual_seed(0)
    net, other = build("EDSR", scale=scale, n_feats=C, n_blocks=N), LikeEDSRPyTorch(scale, 1.0)
    other.load_state_dict(foreign.write(net))  # strict
    lr = torch.rand(2, 3, 11, 14)
    torch.testing.assert_close(net(lr).image, other(lr), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_large_edsr_gets_its_residual_scaling(network, dtype, monkeypatch):
    monkeypatch.setattr(edsr, "LARGE", {"n_feats": C, "n_blocks": N})
    net = theirs(network, 2, edsr.RES_SCALE).to(dtype).float()
    loaded = from_published({key: value.to(dtype) for key, value in net.state_dict().items()}, "large.pt")
    lr = torch.rand(2, 3, 11, 14)
    rounding = 1e-5 if dtype == torch.float32 else 1e-3  # the mean of the file is in float16, ours is not
    torch.testing.assert_close(loaded(lr).image, net(lr), rtol=0, atol=rounding)


def test_the_large_edsr_is_written_without_its_residual_scaling(monkeypatch):
    monkeypatch.setattr(edsr, "LARGE", {"n_feats": C, "n_blocks": N})
    state = theirs(LikeEDSRPyTorch, 2, edsr.RES_SCALE).state_dict()
    written = foreign.write(from_published(state, "large.pt"))
    assert written.keys() == state.keys()
    torch.testing.assert_close(written, dict(state), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n_feats", "n_blocks", "factor"), [(256, 32, 0.1), (256, 16, 1), (128, 32, 1), (64, 16, 1)])
@pytest.mark.parametrize("fmt", edsr.EDSR.foreign)
def test_which_edsr_scales_its_residuals(fmt, n_feats, n_blocks, factor):
    assert fmt.factors is not None
    factors = dict(fmt.factors({"scale": 4, "n_feats": n_feats, "n_blocks": n_blocks}))
    expected = {f"blocks.{i}.body.2": factor for i in range(n_blocks)}
    assert factors == (expected if factor != 1 else {})


def test_images_of_another_range_are_refused():
    net = LikeEDSRPyTorch(2, 1.0)
    net.shift(1)
    with pytest.raises(ValueError, match=r"sub_mean\.bias with -0\.4488, -0\.4371, -0\.404 instead of -114\.4"):
        from_published(net.state_dict(), "range1.pt")


def test_mean_shifts_may_be_missing():
    state = theirs(LikeEDSRPyTorch, 2).state_dict()
    kept = {key: value for key, value in state.items() if "_mean." not in key}
    assert from_published(kept, "net.pt").config == {"scale": 2, "n_feats": C, "n_blocks": N}


def test_another_shape_is_named_with_that_expected():
    """As in RealESRGAN_x2plus, whose network sees four LR pixels as one."""
    names = {"RRDB_trunk": "body", "RDB": "rdb", "trunk_conv": "conv_body", "upconv": "conv_up", "HRconv": "conv_hr"}
    state = foreign.write(build("RRDB", scale=4, n_feats=C, n_blocks=1))
    for ours, basicsr in names.items():
        state = {key.replace(ours, basicsr): value for key, value in state.items()}
    state["conv_first.weight"] = torch.zeros(C, 12, 3, 3)
    shapes = r"conv_first\.weight with shape \(8, 12, 3, 3\) instead of \(8, 3, 3, 3\)"
    with pytest.raises(ValueError, match=rf"x2plus\.pth fits no network\. The nearest is RRDB .*{shapes}; .* nothing"):
        from_published(state, "x2plus.pth")


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("EDSR", "EDSR or RRDB"),
        ("RRDB", "EDSR or RRDB"),
        ("KDSR_S", "KDSR_T or KDSR_S"),
        ("CDSR", "CDSR or DASR"),
        ("IKC", "IKC"),
    ],
)
def test_our_keys_without_our_sizes(name, alike):
    state = build(name, scale=4, n_blocks=2).state_dict()
    with pytest.raises(ValueError, match=f"those of our {alike}, it lacks the sizes: write it with `save_model`"):
        from_published(state, "net.pt")


@pytest.mark.parametrize("keys", [[], ["layer1.0.conv1.weight", "fc.bias"], ["conv_first.weight", "layers.0.a", "b"]])
def test_keys_of_something_else(keys):
    known = "Known are KDSR_T, KDSR_S, CDSR, DASR, IKC, EDSR, RRDB. Of other files `warm_start` takes the layers"
    with pytest.raises(ValueError, match=known) as caught:
        from_published({key: torch.zeros(2, 2) for key in keys}, "net.pt")
    assert "save_model" not in str(caught.value)
