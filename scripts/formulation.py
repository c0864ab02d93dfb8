"""The baseline of the benchmark: the work as the released code formulates it, written from its facts and not copied.

Degradations blur at full size in one grouped convolution, weigh gathered rows (bicubic), and compress with a transform
of four axes whose scales are passes of their own; they use the parameters that ours have drawn. Networks are ours with
one grouped convolution for all samples, an activation in place on a view, small layers one by one, and dense blocks
and upsamplers layer by layer. A patch is cut from a whole image that is read for it. Metrics take one image at a time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from importlib import import_module
from math import ceil, inf, log2, pi
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.degradation import SecondOrderParams
from data.degradation.kernel import gaussian_kernel, gaussian_profile, manet_kernel
from data.degradation.mixed import mixed_kernel
from data.degradation.params import Params
from data.degradation.resize import bicubic_taps
from data.degradation.second_order_params import PassParams
from data.sampler import Crop
from model import cdsr, layer, upsampler, winograd
from model.op import OPERATORS, depthwise

SIZE = 21  # side of the kernels, pixels


@contextmanager
def networks() -> Iterator[None]:
    """Let networks compute as the released ones in this block, backward passes included."""
    with ExitStack() as stack:
        for name in OPERATORS:
            part = import_module(f"model.op.{name}")
            stack.enter_context(mock.patch.object(part, "_has_kernel", new=_never))
        stack.enter_context(mock.patch.object(depthwise, "plain", new=_grouped))
        stack.enter_context(mock.patch.object(layer, "dense_maps", new=_maps_one_by_one))
        for part in (layer, cdsr):
            stack.enter_context(mock.patch.object(part, "apply_all", new=_one_by_one))
        for part, limit in ((upsampler, "FOLD_FROM"), (upsampler, "FOLD_FROM_ON_GPU"), (winograd, "PIXELS")):
            stack.enter_context(mock.patch.object(part, limit, new=inf))
        yield


def _never(*_: Tensor) -> bool:
    return False


def _maps_one_by_one(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]], slope: float) -> Tensor:
    for weight, bias in layers:
        x = torch.cat((x, F.leaky_relu_(F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2), slope)), 1)
    return x


def _grouped(x: Tensor, kernel: Tensor, slope: float) -> Tensor:
    b, c, h, w = x.shape
    kernel = kernel.reshape(b * c, 1, *kernel.shape[2:])
    y = F.conv2d(x.reshape(1, b * c, h, w), kernel, padding=kernel.shape[-1] // 2, groups=b * c).view(b, c, h, w)
    return y if slope == 1 else F.leaky_relu_(y, slope)


def _one_by_one(mlps: Sequence[Iterable[nn.Module]], x: Tensor) -> Tensor:
    inputs = x if x.ndim == 3 else [x] * len(mlps)
    return torch.stack([_apply(layers, each) for layers, each in zip(mlps, inputs, strict=True)])


def _apply(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for each in layers:
        x = each(x[..., None, None]).flatten(1) if isinstance(each, nn.Conv2d) else each(x)
    return x


def gaussian(hr: Tensor, params: Params, scale: int) -> Tensor:
    """Compute what `Gaussian.apply` does, without noise."""
    kernel = gaussian_kernel(params.width, params.theta, SIZE)
    rows = _shrink(_blur(hr, kernel, "reflect"), scale).mT  # (B, C, W, h)
    return _shrink(rows, scale).mT.mul(255).clamp(0, 255).round() / 255


def manet(levels: Tensor, params: Params, scale: int) -> Tensor:
    """Compute what `MANet.apply` does, from grey levels and without noise."""
    kernel = manet_kernel(params.width, params.theta, SIZE, scale)
    return _blur(levels, kernel, "replicate")[..., ::scale, ::scale].clamp(0, 255).round() / 255


def second_order(hr: Tensor, params: SecondOrderParams, scale: int, generator: torch.Generator) -> Tensor:
    """Compute what `SecondOrder.apply` does."""
    first, second = params.first, params.second
    height, width = (side // scale for side in hr.shape[-2:])
    x = F.interpolate(_blur(hr, mixed_kernel(first.kernel), "reflect"), scale_factor=first.factor, mode=first.mode)
    x = jpeg(_noisy(x, first, generator).clamp(0, 1), first.quality)
    x = _blur(x, mixed_kernel(second.kernel), "reflect") if second.blurred else x
    x = F.interpolate(x, (int(height * second.factor), int(width * second.factor)), mode=second.mode)
    x = _noisy(x, second, generator)
    if not params.jpeg_last:
        x = jpeg(x.clamp(0, 1), second.quality)
    x = _blur(F.interpolate(x, (height, width), mode=params.last_mode), mixed_kernel(params.last_filter), "reflect")
    if params.jpeg_last:
        x = jpeg(x.clamp(0, 1), second.quality)
    return (x * 255).round().clamp(0, 255) / 255


def sharpen(hr: Tensor) -> Tensor:
    """Compute what `data.degradation.sharpen` does, with one kernel of 51×51 for all planes."""
    profile = gaussian_profile(torch.tensor(8.0), 51)
    kernel = torch.outer(profile, profile).to(hr)[None, None]

    def soft(x: Tensor) -> Tensor:
        planes = F.pad(x, (25,) * 4, mode="reflect").flatten(0, 1)[:, None]
        return F.conv2d(planes, kernel).view(x.shape)

    residue = hr - soft(hr)
    mask = soft((residue.abs() * 255 > 10).float())
    return mask * (hr + 0.5 * residue).clamp(0, 1) + (1 - mask) * hr


def _blur(x: Tensor, kernel: Tensor, padding: str) -> Tensor:
    batch, channels, *size = x.shape
    padded = F.pad(x, (SIZE // 2,) * 4, mode=padding)
    weight = kernel.to(x)[:, None].repeat(1, channels, 1, 1).view(batch * channels, 1, SIZE, SIZE)
    y = F.conv2d(padded.reshape(1, batch * channels, *padded.shape[2:]), weight, groups=batch * channels)
    return y.view(batch, channels, *size)


def _shrink(x: Tensor, scale: int) -> Tensor:
    """Shrink the rows of (B, C, H, W) as MATLAB's bicubic does: gather the rows of every tap, weigh and add them."""
    length = x.shape[2]
    index, weight = bicubic_taps(length, length // scale, float(Fraction(1, scale)))
    index = index.to(x.device)
    return (x[:, :, index] * weight.to(x)[:, :, None]).sum(3)


def _noisy(x: Tensor, params: PassParams, generator: torch.Generator) -> Tensor:
    """Add noise, and compute grey noise too if any image of the batch has it."""
    grey, strength = (values.to(x)[:, None, None, None] for values in (params.grey, params.noise))
    if params.poisson:
        noise = _poisson(x, generator)
        if params.grey.any():
            weights = x.new_tensor([0.2989, 0.5870, 0.1140])[:, None, None]
            noise = noise * (1 - grey) + _poisson((x * weights).sum(1, keepdim=True), generator) * grey
        return (x + noise * strength).clamp(0, 1)
    noise = torch.randn(x.shape, generator=generator, device=x.device) * strength
    if params.grey.any():
        plane = torch.randn(x[:, :1].shape, generator=generator, device=x.device)
        noise = noise * (1 - grey) + plane * strength * grey
    return (x + noise).clamp(0, 1)


def _poisson(x: Tensor, generator: torch.Generator) -> Tensor:
    x = (x * 255).round().clamp(0, 255) / 255
    photons = x.new_tensor([2 ** ceil(log2(len(image.unique()))) for image in x])[:, None, None, None]
    return torch.poisson(x * photons, generator=generator) / photons - x


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Compress (B, 3, H, W) in [0, 1] with one table for luma and chroma, which costs what two cost."""
    height, width = x.shape[-2:]
    n = torch.arange(8.0, device=x.device)
    cosines = torch.cos((2 * n[:, None] + 1) * n * pi / 16)  # pixel, frequency
    product = torch.einsum("xu,yv->xyuv", cosines, cosines)
    alpha = torch.outer(*[torch.where(n == 0, 0.5**0.5, 1.0)] * 2)
    to_ycbcr = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]).to(x)
    offset = x.new_tensor([0.0, 128.0, 128.0])
    table = 1 + n[:, None] + n  # any
    quality = quality.to(x)
    steps = table * (torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100)[:, None, None, None]

    def lossy(plane: Tensor) -> Tensor:  # B H W
        batch, rows = plane.shape[:2]
        blocks = plane.view(batch, rows // 8, 8, -1, 8).permute(0, 1, 3, 2, 4).contiguous().view(batch, -1, 8, 8)
        coefficients = alpha / 4 * torch.tensordot(blocks - 128, product, dims=2)
        coefficients = (coefficients / steps).round() * steps * alpha
        blocks = torch.tensordot(coefficients, product.permute(2, 3, 0, 1), dims=2) / 4 + 128
        return blocks.view(batch, rows // 8, -1, 8, 8).permute(0, 1, 3, 2, 4).contiguous().view(plane.shape)

    x = F.pad(255 * x, (0, -width % 16, 0, -height % 16))
    image = torch.tensordot(x.permute(0, 2, 3, 1), to_ycbcr.T, dims=1) + offset  # B H W 3
    planes = image.permute(0, 3, 1, 2).clone()
    halved = [F.avg_pool2d(planes[:, i : i + 1], 2)[:, 0] for i in (1, 2)]
    chroma = [lossy(plane).repeat_interleave(2, 1).repeat_interleave(2, 2) for plane in halved]
    image = torch.stack([lossy(image[..., 0]), *chroma], 3) - offset
    x = torch.tensordot(image, to_ycbcr.inverse().T, dims=1).permute(0, 3, 1, 2)
    return torch.min(255 * torch.ones_like(x), torch.max(torch.zeros_like(x), x))[..., :height, :width] / 255


def patch(path: Path, crop: Crop, side: int) -> Tensor:
    """Read a whole image, pickled, and cut (3, side, side) grey levels out of it."""
    with path.open("rb") as file:
        pixels: np.ndarray = pickle.load(file)
    pixels = pixels[crop.top : crop.top + side, crop.left : crop.left + side]
    pixels = pixels.swapaxes(0, 1) if crop.transpose else pixels
    pixels = pixels[:: -1 if crop.flip_v else 1, :: -1 if crop.flip_h else 1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()


def scores(sr: Tensor, hr: Tensor, border: int) -> tuple[float, float]:
    """Return PSNR and SSIM of the luma of two images (1, 3, H, W) in [0, 1], with an 11×11 window."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=sr.device)
    weights = weights[:, None, None] / 255
    lumas = [(image.mul(255).round().double() * weights).sum(1, keepdim=True) + 16 for image in (sr, hr)]
    x, y = (luma[..., border:-border, border:-border] for luma in lumas)
    psnr = 10 * log2(255**2 / (x - y).square().mean().item()) / log2(10)
    profile = gaussian_profile(torch.tensor(1.5, device=x.device), 11)
    window = torch.fft.rfft2(torch.outer(profile, profile), s=x.shape[-2:]).conj()

    def mean(z: Tensor) -> Tensor:  # libraries filter with windows of this size in the Fourier domain
        return torch.fft.irfft2(torch.fft.rfft2(z) * window, s=z.shape[-2:])[..., :-10, :-10]

    mx, my, mxx, myy, mxy = (mean(z) for z in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * (mxy - mx * my) + c2) / (mxx - mx * mx + myy - my * my + c2)
    ssim = (2 * mx * my + c1) / (mx * mx + my * my + c1) * structure
    return psnr, ssim.mean().item()
