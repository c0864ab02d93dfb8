"""The metrics by name, and PSNR and SSIM themselves.

To add a metric, write a function that makes it and enter it in `METRICS`; tables and files follow from the entry.

PSNR and SSIM compare planes of the images, cut by a border of `scale` pixels. `PLANES` names which:

`matlab`  CDSR's tables, and what MATLAB's rgb2ycbcr gives: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.
`kdsr`    KDSR's and DASR's tables: 65.738, 129.057, 25.064, over 256 for PSNR and over 255 (+ 16) for SSIM.
          PSNR is the same to 1e-5, SSIM moves by 1e-4 to 7e-4: never mix the two in a table.
`rgb`     The three channels alike: PSNR of their common mean squared error, SSIM as their mean.

They are computed in float64, on the device of the images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evaluation import learned
from evaluation.niqe import niqe

Compare = Callable[[Tensor, Tensor], Tensor]  # SR and HR, (B, 3, H, W) in [0, 1], to (B,)
Judge = Callable[[Tensor], Tensor]  # SR alone


class Metric(NamedTuple):
    """A kind of score: the function that makes it, and what tables show of it."""

    title: str
    create: Callable[..., Compare | Judge]  # called with device, planes and border by keyword; may load weights
    digits: int = 4  # after the point, in tables
    unit: str = ""
    lower_is_better: bool = False
    needs_reference: bool = True  # `create` gives a function of SR and HR; else of SR alone

    @property
    def heading(self) -> str:
        """The head of a table's column: title, unit and an arrow to the better end."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit} {'↓' if self.lower_is_better else '↑'}"


class Measure(NamedTuple):
    """A metric ready to be called, with its weights loaded."""

    name: str
    function: Compare | Judge
    needs_reference: bool

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score (B, 3, H, W) images in [0, 1]: (B,) float64.

        Raises ValueError if `hr` is needed and missing, or if the metric does not give a number for each image.
        """
        if self.needs_reference and hr is None:
            raise ValueError(f"{self.name} compares with an HR image, and there is none")
        values = self.function(*((sr, hr) if self.needs_reference else (sr,)))  # pyright: ignore[reportArgumentType]
        if values.shape != sr.shape[:1]:
            raise ValueError(f"{self.name}: expected ({len(sr)},) values, one an image, got {tuple(values.shape)}")
        return values.double()


def grey_levels(image: Tensor) -> Tensor:
    """Round (B, 3, H, W) in [0, 1] to 8 bits: 0..255 in float64."""
    return image.clamp(0, 1).double().mul_(255).round_()


class Luma(NamedTuple):
    """The plane (r, g, b) · RGB (0..255) / divisor + offset."""

    weights: tuple[float, float, float]
    divisor: float
    offset: float

    def __call__(self, image: Tensor) -> Tensor:
        """Return the luma of (B, 3, H, W) in [0, 1], rounded to 8 bits first: (B, 1, H, W) in 0..255, not rounded."""
        channels = grey_levels(image).split(1, 1)  # (B, 1, H, W) each
        luma = channels[0] * self.weights[0]
        for channel, weight in zip(channels[1:], self.weights[1:], strict=True):
            luma.add_(channel, alpha=weight)
        return luma.div_(self.divisor).add_(self.offset)


class Planes(NamedTuple):
    """Functions from images to the planes that are compared, (B, C, H, W) in 0..255."""

    psnr: Callable[[Tensor], Tensor]
    ssim: Callable[[Tensor], Tensor]


_MATLAB = Luma((65.481, 128.553, 24.966), 255.0, 16.0)
_KDSR = (65.738, 129.057, 25.064)
PLANES = {
    "matlab": Planes(psnr=_MATLAB, ssim=_MATLAB),
    "kdsr": Planes(psnr=Luma(_KDSR, 256.0, 0.0), ssim=Luma(_KDSR, 255.0, 16.0)),
    "rgb": Planes(psnr=grey_levels, ssim=grey_levels),
}


def psnr(sr: Tensor, hr: Tensor, *, border: int, planes: str = "matlab") -> Tensor:
    """Return the peak signal-to-noise ratio in dB: (B,) float64, infinite for equal images.

    Args:
        sr, hr: (B, 3, H, W) RGB in [0, 1]. Both are rounded to 8 bits first.
        border: pixels to cut on each side.
        planes: a name in `PLANES`.

    Raises ValueError for images that are no float tensors, whose shapes differ or that are too small, a border below 0,
    and unknown planes.

    Examples:
        >>> hr = torch.zeros(1, 3, 24, 24)
        >>> psnr(hr + 1 / 255, hr, border=4, planes="rgb")
        tensor([48.1308], dtype=torch.float64)
    """
    _check(sr, hr, border)
    to_planes = _planes(planes).psnr
    mse = (_cut(to_planes(sr), border) - _cut(to_planes(_distinct(hr)), border)).square_().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / mse)


def ssim(sr: Tensor, hr: Tensor, *, border: int, planes: str = "matlab") -> Tensor:
    """Return the structural similarity: (B,) float64, 1 for equal images. Arguments and errors are those of `psnr`.

    11×11 Gaussian window of σ 1.5, its valid region, constants (0.01·255)² and (0.03·255)² (Wang et al., 2004).

    Examples:
        >>> hr = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
        >>> ssim(hr, hr, border=4), ssim(hr.flip(3), hr, border=4) < 0.5
        (tensor([1.], dtype=torch.float64), tensor([True]))
    """
    _check(sr, hr, border)
    to_planes = _planes(planes).ssim
    x, y = (_cut(to_planes(image), border) for image in (sr, _distinct(hr)))  # (B, C, H, W) and (B or 1, C, H, W)
    mx, my, products = (_window_mean(z) for z in (x, y, x * y))
    sums = _window_mean(x * x) + _window_mean(y * y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mxy, squares = mx * my, mx * mx + my * my
    similarity = (2 * mxy + c1) * (2 * (products - mxy) + c2) / ((squares + c1) * (sums - squares + c2))
    return similarity.mean((1, 2, 3))


def _window_mean(x: Tensor) -> Tensor:
    """Average (..., H, W) under SSIM's window: (..., H - 10, W - 10).

    The window is separable and symmetric. Sums of shifted images are faster than a convolution, which in float64 has no
    kernel of its own.
    """
    weights = [math.exp(-(offset**2) / (2 * 1.5**2)) for offset in range(6)]
    total = weights[0] + 2 * sum(weights[1:])
    for dim in (-2, -1):
        size = x.shape[dim] - 10
        y = x.narrow(dim, 5, size) * (weights[0] / total)
        for offset in range(1, 6):
            pair = x.narrow(dim, 5 - offset, size) + x.narrow(dim, 5 + offset, size)
            y.add_(pair, alpha=weights[offset] / total)
        x = y
    return x


def _distinct(hr: Tensor) -> Tensor:
    """Return (1, C, H, W) for a batch that `expand` has made of one image, else the batch."""
    return hr[:1] if hr.stride(0) == 0 else hr


def smallest_side(border: int) -> int:
    """Return the smallest side of an image, in pixels, that leaves room for SSIM's window once the border is cut.

    Examples:
        >>> smallest_side(border=4)
        19
    """
    return 2 * border + 11


def _planes(name: str) -> Planes:
    if name not in PLANES:
        raise ValueError(f"`planes` {name} is none of {', '.join(PLANES)}")
    return PLANES[name]


def _check(sr: Tensor, hr: Tensor, border: int) -> None:
    for image in (sr, hr):
        if not isinstance(image, Tensor) or not image.is_floating_point():
            kind = image.dtype if hasattr(image, "dtype") else type(image).__name__
            raise ValueError(f"SR and HR must be float tensors in [0, 1], got {kind}; divide levels of 8 bits by 255")
    if border < 0:
        raise ValueError(f"`border` {border}: expected 0 or more pixels")
    if sr.shape != hr.shape or sr.ndim != 4 or sr.shape[1] != 3:
        raise ValueError(f"SR and HR must both be (B, 3, H, W): got {tuple(sr.shape)} and {tuple(hr.shape)}")
    if min(sr.shape[2:]) < smallest_side(border):
        raise ValueError(f"an image of {tuple(sr.shape[2:])} is too small to be measured with a border of {border}")


def _cut(x: Tensor, border: int) -> Tensor:
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


# ----------------------------------------------------------------------------------------------------- the table


def _compared(compare: Callable[..., Tensor], title: str, *, planes: str | None = None, **about: Any) -> Metric:
    """Return PSNR or SSIM as a metric: of `planes`, or, if that is None, of those that the test compares."""
    of_test = planes

    def create(*, device: torch.device, planes: str, border: int) -> Compare:
        return partial(compare, planes=of_test or planes, border=border)

    return Metric(title if of_test is None else f"{title} {of_test}", create, **about)


def _lpips(features: str) -> Metric:
    def create(*, device: torch.device, planes: str, border: int) -> Compare:
        return learned.lpips(features, device)

    return Metric(f"LPIPS {features}", create, lower_is_better=True)


def _dists(*, device: torch.device, planes: str, border: int) -> Compare:
    return learned.dists(device)


def _niqe(*, device: torch.device, planes: str, border: int) -> Judge:
    return lambda sr: niqe(_MATLAB(sr).round())


def _no_reference(name: str, title: str = "", *, lower_is_better: bool = False) -> Metric:
    def create(*, device: torch.device, planes: str, border: int) -> Judge:
        return learned.no_reference(name, device)

    return Metric(title or name, create, lower_is_better=lower_is_better, needs_reference=False)


ALL_PLANES = "all"  # as `planes`: PSNR and SSIM of each, side by side
METRICS: dict[str, Metric] = {
    "psnr": _compared(psnr, "PSNR", digits=3, unit="dB"),
    "ssim": _compared(ssim, "SSIM"),
    **{f"psnr_{planes}": _compared(psnr, "PSNR", planes=planes, digits=3, unit="dB") for planes in PLANES},
    **{f"ssim_{planes}": _compared(ssim, "SSIM", planes=planes) for planes in PLANES},
    "lpips_alex": _lpips("alex"),
    "lpips_vgg": _lpips("vgg"),
    "dists": Metric("DISTS", _dists, lower_is_better=True),
    "niqe": Metric("NIQE", _niqe, lower_is_better=True, needs_reference=False),
    "musiq": _no_reference("musiq", "MUSIQ"),
    "maniqa": _no_reference("maniqa", "MANIQA"),
    "clipiqa": _no_reference("clipiqa", "CLIP-IQA"),
}


def find(name: str) -> Metric:
    """Return the metric of this name: one of `METRICS`, or any that pyiqa has and that needs no reference.

    Loads no weights. Raises ValueError for an unknown name, or if pyiqa is not installed to ask.

    Examples:
        >>> find("psnr").heading, find("niqe").heading
        ('PSNR (dB) ↑', 'NIQE ↓')
    """
    if name in METRICS:
        return METRICS[name]
    others = learned.pyiqa_metrics(f"{name} is not one of {', '.join(METRICS)}, so it")
    if name not in others:
        raise ValueError(
            f"there is no metric {name}; there are {', '.join(METRICS)} and, of pyiqa, {', '.join(others)}"
        )
    return _no_reference(name, lower_is_better=others[name])


def make(name: str, *, device: torch.device, planes: str = "matlab", border: int = 0) -> Measure:
    """Return the metric of this name ready to be called, with its weights loaded onto `device`.

    Args:
        name: see `find`.
        device: where learned metrics compute.
        planes: which planes PSNR and SSIM compare, a name in `PLANES`.
        border: pixels that PSNR and SSIM cut on each side.

    Raises ValueError, saying what to do, if a library or weights are missing.

    Examples:
        >>> measure = make("psnr", device=torch.device("cpu"), border=2)
        >>> measure(torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)).round(decimals=2)
        tensor([1.3200, 1.3200], dtype=torch.float64)
    """
    metric = find(name)
    return Measure(name, metric.create(device=device, planes=planes, border=border), metric.needs_reference)


def side_by_side(names: Iterable[str]) -> list[str]:
    """Return the names with PSNR and SSIM once for each of `PLANES`.

    Examples:
        >>> side_by_side(["psnr", "niqe"])
        ['psnr_matlab', 'psnr_kdsr', 'psnr_rgb', 'niqe']
    """
    plain = ("psnr", "ssim")
    return [each for name in names for each in ([f"{name}_{p}" for p in PLANES] if name in plain else [name])]


def split_names(asked: str) -> list[str]:
    """Return the names in a list that is joined by +, which may also end a name. Raise ValueError for commas.

    Examples:
        >>> split_names("niqe+clipiqa++musiq")
        ['niqe', 'clipiqa+', 'musiq']
    """
    if "," in asked:
        raise ValueError(f"{asked}: names are joined by +")
    return re.split(r"\+(?=[a-z])", asked)
