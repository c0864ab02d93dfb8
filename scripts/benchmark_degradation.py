"""Measure the degradations against the released code's formulation, on one CPU thread.

    python scripts/benchmark_degradation.py [--rounds 5] [--runs 2]

Both run by turns in one process on the same images and parameters; times are those of the processor, figures are
medians over the rounds. The baseline computes as the official code does, but is not that code: it blurs at full size in
one grouped convolution, then takes every s-th pixel or weighs gathered pixels (bicubic), and transforms the blocks of
JPEG by products of four axes. Parameters are drawn beforehand, and there is no noise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import pi
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.degradation import Gaussian, MANet
from data.degradation.jpeg import jpeg
from data.degradation.kernel import gaussian_kernel, manet_kernel
from data.degradation.resize import bicubic_matrix
from scripts.program import program, whole

SCALE = 4
Work = Callable[[], Tensor]


def convolve(x: Tensor, kernel: Tensor, padding: str) -> Tensor:
    """Blur (B, C, H, W) at full size by one grouped convolution for all images."""
    batch, channels = x.shape[:2]
    padded = F.pad(x, (kernel.shape[-1] // 2,) * 4, mode=padding)
    weight = kernel.to(x).repeat_interleave(channels, 0)[:, None]
    groups = batch * channels
    return F.conv2d(padded.view(1, groups, *padded.shape[2:]), weight, groups=groups).view(x.shape)


def gather_bicubic(x: Tensor) -> Tensor:
    """Shrink the last axis as MATLAB does: gather the pixels of every tap, weigh and add them."""
    matrix = bicubic_matrix(x.shape[-1], Fraction(1, SCALE), device=x.device, dtype=x.dtype)
    taps = matrix.abs().topk(4 * SCALE, dim=1).indices
    return (x[..., taps] * matrix.gather(1, taps)).sum(-1)


def official_jpeg(x: Tensor, quality: Tensor, table: Tensor) -> Tensor:
    """Compress (B, 3, H, W) with one table for luma and chroma, which costs what two cost."""
    n = torch.arange(8.0)
    cosines = torch.cos((2 * n[:, None] + 1) * n * pi / 16) * torch.where(n == 0, 0.5**0.5, 1.0) / 2  # pixel, frequency
    product = torch.einsum("xu,yv->xyuv", cosines, cosines)
    to_ycbcr = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    steps = (torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100)[:, None, None, None] * table

    def lossy(plane: Tensor) -> Tensor:  # B H W
        batch, height = plane.shape[:2]
        blocks = plane.view(batch, height // 8, 8, -1, 8).permute(0, 1, 3, 2, 4).reshape(batch, -1, 8, 8)
        coefficients = (torch.tensordot(blocks - 128, product, dims=2) / steps).round() * steps
        blocks = torch.tensordot(coefficients, product.permute(2, 3, 0, 1), dims=2) + 128
        return blocks.view(batch, height // 8, -1, 8, 8).permute(0, 1, 3, 2, 4).reshape(plane.shape)

    image = torch.tensordot(255 * x.permute(0, 2, 3, 1), to_ycbcr.T, dims=1)  # B H W 3
    image = image + torch.tensor([0.0, 128.0, 128.0])
    halved = F.avg_pool2d(image[..., 1:].permute(0, 3, 1, 2), 2)
    chroma = [lossy(plane).repeat_interleave(2, 1).repeat_interleave(2, 2) for plane in halved.unbind(1)]
    image = torch.stack([lossy(image[..., 0]), *chroma], 3) - torch.tensor([0.0, 128.0, 128.0])
    return torch.tensordot(image, to_ycbcr.inverse().T, dims=1).clamp(0, 255).permute(0, 3, 1, 2) / 255


def works() -> dict[str, tuple[Work, Work]]:
    """Return for each row of the table the released formulation and ours."""
    generator = torch.Generator().manual_seed(0)
    gaussian = Gaussian(scale=SCALE, iso=False, width=(0.2, 4.0))
    manet = MANet(scale=SCALE, iso=False, width=(0.7**0.5, 10**0.5))
    hr, views = (
        torch.rand(size, generator=generator).mul(255).round() / 255 for size in ((16, 3, 256, 256), (32, 3, 192, 192))
    )
    blurs, shapes = gaussian.sample(16, generator=generator), manet.sample(32, generator=generator)
    quality = 30 + 65 * torch.rand(16, generator=generator)
    table = 1 + 99 * torch.rand(8, 8, generator=generator)

    def official_gaussian() -> Tensor:
        x = gather_bicubic(convolve(hr, gaussian_kernel(blurs.width, blurs.theta, 21), "reflect"))
        return gather_bicubic(x.mT).mT.mul(255).clamp(0, 255).round() / 255

    def official_manet() -> Tensor:
        kernel = manet_kernel(shapes.width, shapes.theta, 21, SCALE)
        return convolve(255 * views, kernel, "replicate")[..., ::SCALE, ::SCALE].clamp(0, 255).round() / 255

    return {
        "aniso, 16 of 256": (official_gaussian, lambda: gaussian.apply(hr, blurs, generator=generator)),
        "manet, 32 of 192": (official_manet, lambda: manet.apply(views, shapes, generator=generator)),
        "JPEG, 16 of 256": (lambda: official_jpeg(hr, quality, table), lambda: jpeg(hr, quality)),
    }


def milliseconds(work: Work, runs: int) -> float:
    """Return the processor's time for one run."""
    start = time.process_time()
    for _ in range(runs):
        work()
    return 1000 * (time.process_time() - start) / runs


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--rounds", type=whole(1), default=5, help="(default: %(default)s)")
    parser.add_argument("--runs", type=whole(1), default=2, help="runs in a round (default: %(default)s)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"PyTorch {torch.__version__}, one thread; {given.rounds} rounds of {given.runs}, scale {SCALE}")
    for name, pair in works().items():
        for work in pair:
            work()
        times = [[milliseconds(work, given.runs) for work in pair] for _ in range(given.rounds)]
        theirs, ours = (median(column) for column in zip(*times, strict=True))
        ratio = median(a / b for a, b in times)
        print(f"  {name:<18}{theirs:9.1f} ms{ours:9.1f} ms{ratio:8.2f}x", flush=True)


if __name__ == "__main__":
    main()
