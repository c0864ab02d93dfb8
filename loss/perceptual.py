"""The perceptual loss of ESRGAN: L1 between features of VGG19 (ICLR 2015) before they are rectified."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import read_file
from utility import argument

# Of torchvision's `features`: the convolutions that are compared, conv1_2, conv2_2, conv3_4, conv4_4, conv5_4.
WEIGHTS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"  # torchvision's VGG19_Weights.IMAGENET1K_V1
SHA256 = "dcbb9e9d"  # the first digits of the file's hash, which its name holds
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB, range [0, 1]


def vgg19() -> nn.Sequential:
    """Return VGG19 up to conv5_4, its weights 0, its layers numbered as torchvision's `features`."""
    layers: list[nn.Module] = []
    planes = 3
    for width, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            # Not in place: what stands before the ReLU is compared.
            layers += [nn.Conv2d(planes, width, 3, padding=1), nn.ReLU()]
            planes = width
        layers.append(nn.MaxPool2d(2, 2))
    network = nn.Sequential(*layers[: max(WEIGHTS) + 1])
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def load_vgg19(vgg: nn.Sequential, path: Path | None) -> None:
    """Fill `vgg19()` from a file with torchvision's state dict; None downloads that once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing can be downloaded, or the file is damaged or of another network.
    """
    path = path or _download()
    with argument("vgg"):
        contents, state, wrong = read_file(path), {}, []
        if path.name == Path(URL).name and not _sha256(path).startswith(SHA256):
            raise ValueError(f"{path} is damaged: its SHA-256 does not begin with {SHA256}. Get it again from {URL}")
    for name, expected in vgg.state_dict().items():
        state[name] = value = contents.get(f"features.{name}")
        found = tuple(value.shape) if isinstance(value, Tensor) else "missing"
        if found != expected.shape:
            wrong.append(f"features.{name} is {found}, not {tuple(expected.shape)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"`vgg`: {path} is no state dict of torchvision's VGG19: {'; '.join(wrong[:3])}{more}. "
            f"The right file is {URL}"
        )
    vgg.load_state_dict(state)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _download() -> Path:
    """Return the file where PyTorch keeps it; fetch it first where it is not there yet."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(URL).name)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256)
    except (OSError, RuntimeError) as error:  # no internet, no room; a broken download
        raise ValueError(
            f"`vgg`: the perceptual loss needs VGG19's weights, which cannot be downloaded ({error}). Get {URL} "
            f"on another machine and put it at {path}, or name it with `vgg`"
        ) from error
    return path


class Perceptual(nn.Module):
    """Σ weight · L1(features of SR, features of HR), each a mean. The network is frozen, and float32 under autocast.

    Args:
        weights: a file of torchvision's VGG19 state dict; None: downloaded once.
        pretrained: False leaves the weights 0, for `load_state_dict` to fill.
    """

    smallest: ClassVar[int] = 16  # pixels a side, for four poolings

    mean: Tensor
    std: Tensor

    def __init__(self, *, weights: Path | None = None, pretrained: bool = True) -> None:
        super().__init__()
        self.vgg = vgg19()
        if pretrained:
            load_vgg19(self.vgg, weights)
        self.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def features(self, image: Tensor) -> dict[int, Tensor]:
        """Return the outputs of the layers of `WEIGHTS` by index; (B, 3, H, W) in [0, 1], 16 pixels a side or more."""
        kept = {}
        x = (image - self.mean) / self.std
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index in WEIGHTS:
                kept[index] = x
        return kept

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Return the loss of (B, 3, H, W) in [0, 1], a scalar; no gradient reaches the targets."""
        with torch.autocast(sr.device.type, enabled=False):
            with torch.no_grad():
                target = self.features(hr.float())
            found = self.features(sr.float())
            losses = [weight * F.l1_loss(found[index], target[index]) for index, weight in WEIGHTS.items()]
        return torch.stack(losses).sum()
