"""KDSRGAN-S, the last stage of real-world KDSR: the student learns to deceive a discriminator, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.degradation.sharpen import sharpen as sharpened
from loss.distillation import divergence
from loss.objective import Objective
from loss.perceptual import Perceptual
from model import BlindSR
from model.discriminator import UNetDiscriminator


class Criterion(NamedTuple):
    """Losses of logits, each a mean over all of them. The discriminator's is the sum of its two."""

    generator: Callable[[Tensor], Tensor]  # of SR, which is to look real
    real: Callable[[Tensor], Tensor]  # of HR, which is to be told as real
    fake: Callable[[Tensor], Tensor]  # of SR, which is to be told as fake


def cross_entropy_real(logits: Tensor) -> Tensor:
    """Binary cross entropy with the label 1."""
    return F.softplus(-logits).mean()


def cross_entropy_fake(logits: Tensor) -> Tensor:
    """Binary cross entropy with the label 0."""
    return F.softplus(logits).mean()


def hinge_real(logits: Tensor) -> Tensor:
    return F.relu(1 - logits).mean()


def hinge_fake(logits: Tensor) -> Tensor:
    return F.relu(1 + logits).mean()


def minus_mean(logits: Tensor) -> Tensor:
    return -logits.mean()


def square_real(logits: Tensor) -> Tensor:
    return (logits - 1).square().mean()


def square_fake(logits: Tensor) -> Tensor:
    return logits.square().mean()


GAN = {
    "vanilla": Criterion(generator=cross_entropy_real, real=cross_entropy_real, fake=cross_entropy_fake),
    "hinge": Criterion(generator=minus_mean, real=hinge_real, fake=hinge_fake),
    "lsgan": Criterion(generator=square_real, real=square_real, fake=square_fake),
}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is recorded in this context gives the module's parameters no gradient, but its input."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


class Adversarial(Objective[BlindSR]):
    """L1 + perceptual + GAN + KL for the network, d_real + d_fake for the discriminator, in one total.

    The two sums share no trainable parameter: the discriminator is frozen in the first, SR is detached in the second.
    So one backward of the total gives each player the gradient of its own sum, and one optimiser of both, which
    `parameters()` offers the discriminator to, steps them at once. The released code steps them one after the other,
    but shows the discriminator the SR image of before the network's step: that is the same. The discriminator's passes
    come in the order of that code (SR for the network, HR, SR), each with one power iteration of its spectral norms.
    (PyTorch's parametrization updates the two vectors of an iteration in the other order than its older function,
    which that code uses: logits differ by some 1e-2 until the vectors have converged.)

    discriminator: its player; HR patches must have sides that are multiples of its `multiple`.
    perceptual: None leaves this part out.
    teacher: its embedding only is asked for; frozen. None leaves the KL part out, and any network can be trained.
    gan: one of `GAN`.
    sharpen: L1 and perceptual compare with the USM-sharpened HR image (V2 of real-world KDSR). The teacher and the
        discriminator always see the plain one. (The released V2 code sharpens only what the teacher sees; its options
        say that it is meant for the losses.)
    l1_weight, perceptual_weight, gan_weight, kd_weight: of the network's parts. temperature: τ of the KL part.
    """

    def __init__(
        self,
        discriminator: UNetDiscriminator,
        *,
        perceptual: Perceptual | None = None,
        teacher: BlindSR | None = None,
        gan: Criterion = GAN["vanilla"],
        sharpen: bool = False,
        l1_weight: float = 1.0,
        perceptual_weight: float = 1.0,
        gan_weight: float = 1.0,
        kd_weight: float = 1.0,
        temperature: float = 0.15,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.perceptual = perceptual
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.gan = gan
        self.sharpen = sharpen
        self.temperature = temperature
        self.weights = {
            "l1": l1_weight,
            "perceptual": perceptual_weight,
            "gan": gan_weight,
            "kl": kd_weight,
            "d_real": 1.0,
            "d_fake": 1.0,
        }

    def forward(self, net: BlindSR, lr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        restored = net(lr, hr)
        sr = restored.image.float()
        parts = self._pixels(sr, hr)
        with frozen(self.discriminator):
            parts["gan"] = self.gan.generator(self._logits(sr))
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher.embed(lr, hr).projection
            parts["kl"] = divergence(restored.embedding.projection, target, self.temperature)
        parts["d_real"] = self.gan.real(self._logits(hr))
        parts["d_fake"] = self.gan.fake(self._logits(sr.detach()))
        parts["total"] = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return parts

    def _pixels(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        target = sharpened(hr) if self.sharpen else hr
        parts = {"l1": F.l1_loss(sr, target)}
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(sr, target)
        return parts

    def _logits(self, image: Tensor) -> Tensor:
        return self.discriminator(image).float()
