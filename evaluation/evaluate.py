"""The one loop that scores a network (or anything else that upscales) on a test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from data.testset import Sample, TestSet
from evaluation import metric
from runtime.precision import ieee_products

Restore = Callable[[Tensor, Tensor], Tensor]  # LR (N, 3, H, W) and HR (N, 3, s·H, s·W, for teachers only) to SR
MAX_PIXELS = 2**20  # SR pixels restored at once, where an image has several LR images


class Score(NamedTuple):
    set: str
    protocol: str
    image: str
    case: str
    psnr: float  # dB
    ssim: float
    lpips: float | None = None  # where it was asked for


def evaluate(
    restore: Restore,
    benchmark: TestSet,
    *,
    scale: int,
    metric_protocol: str,
    device: torch.device,
    on_image: Callable[[Sample, Tensor], None] | None = None,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    first: int | None = None,
) -> list[Score]:
    """PSNR and SSIM by `metric_protocol` of every image under every case, with a border of `scale` pixels cut.

    Degradations and metrics are in float32 without TF32, and so is `restore` unless it enters another arithmetic
    itself (`Precision.autocast`): a score does not depend on the GPU. `on_image` gets each sample with its SR images
    (N, 3, s·H, s·W), clamped to [0, 1]. first: so many images only.
    """
    labels: list[tuple[str, str]] = []
    values: list[Tensor] = []  # read back once, at the end
    with torch.inference_mode(), ieee_products():
        for sample in islice(benchmark.samples(device), first):
            hr = sample.hr.expand(len(sample.lr), -1, -1, -1)
            at_once = max(1, MAX_PIXELS // (hr.shape[2] * hr.shape[3]))
            sr = torch.cat([restore(a, b) for a, b in zip(sample.lr.split(at_once), hr.split(at_once), strict=True)])
            sr = sr.float().clamp(0, 1)
            scores = [f(sr, hr, border=scale, protocol=metric_protocol) for f in (metric.psnr, metric.ssim)]
            if lpips is not None:
                scores.append(lpips(sr, hr).double())
            values.append(torch.stack(scores, 1))
            labels += [(sample.image, case) for case in sample.cases]
            if on_image is not None:
                on_image(sample, sr)
    rows = torch.cat(values).tolist() if values else []
    return [Score(benchmark.name, benchmark.protocol, *label, *row) for label, row in zip(labels, rows, strict=True)]


def mean(scores: Iterable[Score]) -> tuple[float, float]:
    """(PSNR, SSIM) over all of these."""
    rows = list(scores)
    return fmean(score.psnr for score in rows), fmean(score.ssim for score in rows)


def grouped(scores: Iterable[Score], *fields: str) -> dict[tuple[str, ...], list[Score]]:
    """The scores by the values of these fields, in their order."""
    groups: dict[tuple[str, ...], list[Score]] = {}
    for row in scores:
        groups.setdefault(tuple(getattr(row, field) for field in fields), []).append(row)
    return groups
