"""KDSRGAN-S, the last stage of real-world KDSR (ICLR 2023): the student also learns to deceive a discriminator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.degradation.sharpen import SMALLEST as SHARPENED
from data.degradation.sharpen import sharpen as sharpened
from data.pairs import Batch
from loss.distillation import divergence
from loss.objective import Objective, Phase
from loss.perceptual import Perceptual
from loss.pixel import PixelLoss
from model import BlindSR
from model.discriminator import UNetDiscriminator


class Criterion(NamedTuple):
    """Losses of logits, each a mean over all of them. The discriminator's loss is the sum of `real` and `fake`."""

    generator: Callable[[Tensor], Tensor]  # logits of SR, which should look real
    real: Callable[[Tensor], Tensor]  # logits of HR, which the discriminator should call real
    fake: Callable[[Tensor], Tensor]  # logits of SR, which the discriminator should call fake


GAN = {
    "vanilla": Criterion(  # binary cross entropy
        generator=lambda logits: F.softplus(-logits).mean(),
        real=lambda logits: F.softplus(-logits).mean(),
        fake=lambda logits: F.softplus(logits).mean(),
    ),
    "hinge": Criterion(
        generator=lambda logits: -logits.mean(),
        real=lambda logits: F.relu(1 - logits).mean(),
        fake=lambda logits: F.relu(1 + logits).mean(),
    ),
    "lsgan": Criterion(
        generator=lambda logits: (logits - 1).square().mean(),
        real=lambda logits: (logits - 1).square().mean(),
        fake=lambda logits: logits.square().mean(),
    ),
}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients in this block pass through the module to its input, but not into its parameters."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


class Adversarial(Objective[BlindSR]):
    """Pixel loss + perceptual + GAN + KL for the network, then d_real + d_fake for the discriminator.

    Three phases, one optimiser step at their end: the network's loss with the discriminator frozen, then the
    discriminator's on HR and on SR without gradient to the network. No trainable parameter is in both, so one Adam with
    two groups does what the released code does by turns: that, too, shows the discriminator the SR image from before
    the network's step. The discriminator's passes come in that code's order (SR for the network, HR, SR), each with one
    power iteration of its spectral norms.

    Args:
        discriminator: HR patches must have sides that are multiples of its `multiple`.
        perceptual: None leaves this part out.
        teacher: frozen; only its embedding is asked for. None leaves the KL part out: any network can be trained.
        gan: one of `GAN`.
        sharpen: compare L1 and perceptual loss with the USM-sharpened HR image (V2 of real-world KDSR). Teacher and
            discriminator always see the plain one. (The released V2 code sharpens only what the teacher sees; its
            options say that it is meant for the losses.)
        loss: the pixel loss, see `PixelLoss`.
        l1_weight, perceptual_weight, gan_weight, kd_weight: weights of the network's parts.
        temperature: τ of the KL part.
        rate_share: learning rate of the discriminator, relative to the network's.
    """

    takes_teacher: ClassVar[bool] = True
    ranked_by_psnr: ClassVar[bool] = False
    constant: ClassVar[tuple[str, ...]] = ("teacher", "perceptual")

    def __init__(
        self,
        discriminator: UNetDiscriminator,
        *,
        perceptual: Perceptual | None = None,
        teacher: BlindSR | None = None,
        gan: Criterion = GAN["vanilla"],
        sharpen: bool = False,
        loss: str = "1*L1",
        l1_weight: float = 1.0,
        perceptual_weight: float = 1.0,
        gan_weight: float = 1.0,
        kd_weight: float = 1.0,
        temperature: float = 0.15,
        rate_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.perceptual = perceptual
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.gan = gan
        self.sharpen = sharpen
        self.temperature = temperature
        self.rate_share = rate_share
        self.pixel = PixelLoss(loss)
        self.weights = {"pixel": l1_weight, "perceptual": perceptual_weight, "gan": gan_weight, "kl": kd_weight}

    @classmethod
    def check_patch(cls, side: int, flags: Mapping[str, Any]) -> None:
        """Raise ValueError for HR patches that discriminator, sharpening or perceptual loss cannot take."""
        multiple = UNetDiscriminator.multiple
        if side % multiple:
            raise ValueError(f"{side} pixels a side, and the discriminator takes multiples of {multiple}")
        least = {"sharpen": SHARPENED, "perceptual_weight": Perceptual.smallest}
        for name, needed in least.items():
            if flags.get(name) and side < needed:
                raise ValueError(f"{side} pixels a side, and `{name}` takes {needed} or more")

    @classmethod
    def from_flags(
        cls,
        *,
        teacher: BlindSR | None = None,
        d_feats: int = 64,
        gan: str = "vanilla",
        vgg: Path | None = None,
        pretrained: bool = True,
        perceptual_weight: float = 1.0,
        lr_sr: float,
        lr_d: float,
        sharpen: bool = False,
        loss: str = "1*L1",
        l1_weight: float = 1.0,
        gan_weight: float = 1.0,
        kd_weight: float = 1.0,
        temperature: float = 0.15,
    ) -> Adversarial:
        """Build the objective with its discriminator and, where it has a weight, the perceptual loss.

        Args:
            d_feats: channels of the discriminator.
            gan: a name in `GAN`.
            vgg: VGG19's weights; None: downloaded once.
            pretrained: False leaves VGG19's weights to `load_state_dict`.
            lr_sr, lr_d: learning rates of network and discriminator.
        """
        perceptual = Perceptual(weights=vgg, pretrained=pretrained) if perceptual_weight else None
        return cls(
            UNetDiscriminator(n_feats=d_feats),
            perceptual=perceptual,
            teacher=teacher,
            gan=GAN[gan],
            sharpen=sharpen,
            loss=loss,
            l1_weight=l1_weight,
            perceptual_weight=perceptual_weight,
            gan_weight=gan_weight,
            kd_weight=kd_weight,
            temperature=temperature,
            rate_share=lr_d / lr_sr,
        )

    def phases(self, net: BlindSR, batch: Batch, step: int) -> Iterator[Phase]:
        lr, hr, _ = batch
        # The network, judged by a discriminator that stays as it is.
        restored = net(lr, hr)
        sr = restored.image.float()
        target = sharpened(hr) if self.sharpen else hr
        difference = self.pixel(sr, target)
        losses: dict[str, Tensor] = {}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(sr, target)
        with frozen(self.discriminator):
            losses["gan"] = self.gan.generator(self._logits(sr))
        if self.teacher is not None:
            with torch.no_grad():
                known = self.teacher.embed(lr, hr).projection
            losses["kl"] = divergence(restored.embedding.projection, known, self.temperature)
        terms = {"pixel": difference.total, **losses}
        total = torch.stack([self.weights[name] * loss for name, loss in terms.items()]).sum()
        sr = sr.detach()
        del restored
        yield Phase({**difference.parts, **losses}, total, step=False)

        # The discriminator, on each kind of image alone: less memory than both at once.
        real = self.gan.real(self._logits(hr))
        yield Phase({"d_real": real}, real, step=False)
        fake = self.gan.fake(self._logits(sr))
        yield Phase({"d_fake": fake}, fake)

    def _logits(self, image: Tensor) -> Tensor:
        return self.discriminator(image).float()
