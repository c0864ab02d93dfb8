"""NIQE: how far the statistics of an image lie from those of sharp, undistorted photographs.

Mittal, Soundararajan, Bovik: Making a "completely blind" image quality analyzer. IEEE Signal Processing Letters, 2013.
http://live.ece.utexas.edu/research/quality/niqe_release.zip

The luma is normalised by its local mean and deviation, at full and at half size. Blocks of 96 × 96 pixels are described
by generalised Gaussians of the result and of products of neighbours: 36 features. NIQE is the distance between the
Gaussian of these features and that of 125 photographs, which the authors published. `niqe.npz` holds their mean and
covariance; `niqe_notice.txt` says where they are from and under which terms.

BasicSR's NIQE and, on the same luma, pyiqa's agree with this one to 1e-3. They differ from each other, by 0.06 on a
photograph with a black background, where clipped areas let the sign of a rounding error decide. pyiqa's `niqe` looks at
another luma (YIQ), which moves its values by 0.05 to 0.15.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 96  # pixels a side, at full size
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to the right, below, and along both diagonals


def niqe(luma: Tensor) -> Tensor:
    """Return the NIQE of images; lower is better.

    Pixels at the right and bottom that fill no whole block of 96 × 96 are ignored.

    Args:
        luma: (B, 1, H, W), 0..255: MATLAB's Y, rounded to whole levels.

    Returns:
        (B,) float64. It is nan for an image with fewer than two blocks that are not flat.

    Raises ValueError for an image of fewer than two blocks.

    Examples:
        >>> noise = 255 * torch.rand(1, 1, 96, 192, generator=torch.Generator().manual_seed(0))
        >>> niqe(noise.round()) > 10
        tensor([True])
    """
    rows, columns = luma.shape[2] // BLOCK, luma.shape[3] // BLOCK
    if rows * columns < 2:
        raise ValueError(
            f"niqe needs two blocks of {BLOCK} x {BLOCK} pixels at least; the image has {luma.shape[2]} x "
            f"{luma.shape[3]} pixels"
        )
    image = luma.double()[..., : rows * BLOCK, : columns * BLOCK]
    features = torch.cat([_features(image, BLOCK), _features(_halve(image), BLOCK // 2)], -1)  # B N 36
    return torch.stack([_distance(of_image) for of_image in features])


def _distance(features: Tensor) -> Tensor:
    """Return the distance of the (N, 36) features of an image from those of the photographs."""
    sound = features[features.isfinite().all(1)]  # a flat block has no statistics
    if len(sound) < 2:
        return features.new_tensor(torch.nan)
    mean, covariance = (value.to(features.device) for value in _photographs())
    difference = features.nanmean(0) - mean
    return (difference @ torch.linalg.pinv((covariance + sound.T.cov()) / 2) @ difference).sqrt()


@cache
@torch.inference_mode(False)
def _photographs() -> tuple[Tensor, Tensor]:
    """Return the mean (36,) and covariance (36, 36) of the features of undistorted photographs."""
    with np.load(Path(__file__).with_suffix(".npz")) as file:
        return torch.from_numpy(file["mean"]), torch.from_numpy(file["covariance"])


def _features(image: Tensor, side: int) -> Tensor:
    """Return the 18 features of each block, `side` pixels a side, of (B, 1, H, W): (B, N, 18)."""
    contrast = _normalise(image)
    blocks = contrast.unfold(2, side, side).unfold(3, side, side).flatten(0, 3)  # B·N h w
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = _fit(blocks * blocks.roll(shift, (1, 2)))
        mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        features += [shape, mean, left, right]
    return torch.stack(features, 1).unflatten(0, (len(image), -1))


def _normalise(image: Tensor) -> Tensor:
    """Return (image − mean) / (deviation + 1), both of a Gaussian window of 7 × 7 pixels and σ 7/6."""
    window = torch.exp(-torch.arange(-3, 4, dtype=image.dtype, device=image.device).square() / (2 * (7 / 6) ** 2))
    window = torch.outer(window, window)[None, None] / window.sum() ** 2

    def average(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (3, 3, 3, 3), "replicate"), window)

    mean = average(image)
    return (image - mean) / ((average(image.square()) - mean.square()).abs().sqrt() + 1)


def _halve(image: Tensor) -> Tensor:
    """Shrink (B, 1, H, W) to half its size as MATLAB's `imresize` does: a cubic of 8 taps, mirrored edges."""
    taps = image.new_tensor([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
    taps = torch.cat([taps, taps.flip(0)])
    for axis in (2, 3):
        first, last = image.narrow(axis, 0, 3).flip(axis), image.narrow(axis, image.shape[axis] - 3, 3).flip(axis)
        windows = torch.cat([first, image, last], axis).unfold(axis, 8, 2)  # … 8
        image = windows @ taps
    return image


@cache
@torch.inference_mode(False)
def _shapes() -> tuple[Tensor, Tensor]:
    """Return the shapes to choose from, and the ratio E|x|² / E x² of a generalised Gaussian of each."""
    shapes = torch.arange(200, 10001, dtype=torch.float64) / 1000
    ratios = torch.exp(2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes))
    return shapes, ratios


def _fit(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit an asymmetric generalised Gaussian to each block of (N, h, w) by moments: its shape, left and right scale."""
    x = blocks.flatten(1)
    squares = x.square()
    below, above = x < 0, x > 0
    left, right = ((squares * side).sum(1) / side.sum(1) for side in (below, above))
    left, right = left.sqrt(), right.sqrt()
    skew = left / right
    ratio = x.abs().mean(1).square() / squares.mean(1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1).square()
    shapes, ratios = (values.to(x.device) for values in _shapes())
    after = torch.searchsorted(ratios, ratio).clamp(1, len(ratios) - 1)  # ratios rise with the shape
    nearest = torch.where(ratio - ratios[after - 1] <= ratios[after] - ratio, after - 1, after)
    shape = torch.where(ratio.isfinite(), shapes[nearest], shapes[0])  # of a flat block, as in the released code
    spread = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return shape, left * spread, right * spread
