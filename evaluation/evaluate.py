"""The loop that scores a network, or anything else that upscales, on a test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from data.testset import Sample, TestSet
from evaluation import metric
from evaluation.metric import Measure
from model import IKC, BlindSR
from runtime.precision import ieee_products

Restore = Callable[[Tensor, Tensor], Tensor]  # LR (N, 3, H, W) and HR (N, 3, s·H, s·W, for teachers only) to SR
MAX_PIXELS = 2**20  # SR pixels restored at once on a GPU, where an image has several LR images


class Score(NamedTuple):
    """The values of all metrics for one SR image."""

    set: str
    protocol: str
    image: str
    case: str  # of the protocol: the kernel
    values: dict[str, float]  # by the metric's name


def evaluate(
    restore: Restore,
    test_set: TestSet,
    *,
    scale: int,
    planes: str,
    device: torch.device,
    metrics: Sequence[str | Measure] = ("psnr", "ssim"),
    on_image: Callable[[Sample, Tensor], None] | None = None,
    first: int | None = None,
) -> list[Score]:
    """Restore and score every image of a test set under every case of its protocol.

    Degradations and metrics are computed in float32 or better, without TF32; so is `restore`, unless it enters another
    precision itself (`Precision.autocast`). A score therefore does not depend on the GPU.

    Args:
        restore: called with LR and HR images in [0, 1], on `device`. Its result is clamped to [0, 1].
        test_set: its images, with LR images of 1 / `scale` of their size.
        scale: also the border that PSNR and SSIM cut, in pixels.
        planes: what PSNR and SSIM compare, a name in `metric.PLANES`.
        device: where everything is computed.
        metrics: names, or metrics from `metric.make`. For several test sets, make those with weights only once.
        on_image: called with each sample and its SR images (N, 3, s·H, s·W).
        first: score only so many images.

    Examples:
        >>> class Grey:  # a test set of one image, under one case
        ...     name, protocol = "grey", "nearest"
        ...     def samples(self, device):
        ...         yield Sample("a", ["x2"], torch.full((1, 3, 8, 8), 0.5), torch.full((3, 16, 16), 0.5))
        >>> nearest = torch.nn.Upsample(scale_factor=2)
        >>> evaluate(lambda lr, hr: nearest(lr), Grey(), scale=2, planes="rgb", device=torch.device("cpu"))
        [Score(set='grey', protocol='nearest', image='a', case='x2', values={'psnr': inf, 'ssim': 1.0})]
    """
    measures = [
        m if isinstance(m, Measure) else metric.make(m, device=device, planes=planes, border=scale) for m in metrics
    ]
    labels: list[tuple[str, str]] = []
    values: list[Tensor] = []  # read back once, at the end
    with torch.inference_mode(), ieee_products():
        for sample in islice(test_set.samples(device), first):
            hr = sample.hr.expand(len(sample.lr), -1, -1, -1)
            # A CPU is faster with one image at a time: its maps stay in the cache.
            at_once = 1 if device.type == "cpu" else max(1, MAX_PIXELS // (hr.shape[2] * hr.shape[3]))
            sr = torch.cat([restore(a, b) for a, b in zip(sample.lr.split(at_once), hr.split(at_once), strict=True)])
            sr = sr.float().clamp(0, 1)
            try:
                values.append(torch.stack([measure(sr, hr) for measure in measures], 1))  # N, metrics
            except ValueError as error:  # such as an image that is too small for a metric
                raise ValueError(f"{test_set.name}, {sample.image}: {error}") from error
            labels += [(sample.image, case) for case in sample.cases]
            if on_image is not None:
                on_image(sample, sr)
    names = [measure.name for measure in measures]
    rows = torch.cat(values).tolist() if values else []
    return [
        Score(test_set.name, test_set.protocol, *label, dict(zip(names, row, strict=True)))
        for label, row in zip(labels, rows, strict=True)
    ]


def best_step(net: IKC, lr: Tensor, hr: Tensor) -> Tensor:
    """Return for each image the one of IKC's seven SR images that is nearest to the HR image: an oracle.

    The released test of IKC reports it. Nearest means the highest PSNR over RGB without a border of `scale` pixels.

    Args:
        net: the network.
        lr, hr: (N, 3, H, W) and (N, 3, s·H, s·W) in [0, 1].

    Examples:
        >>> from model import build
        >>> net = build("IKC", scale=2, n_feats=8, n_blocks=1)
        >>> best_step(net, torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """
    images = torch.stack([step.image for step in net.steps(lr)])  # (7, N, 3, s·H, s·W)
    psnr = torch.stack([metric.psnr(image, hr, border=net.scale, planes="rgb") for image in images])  # (7, N)
    return images[psnr.argmax(0), torch.arange(len(lr), device=images.device)]


def smallest_hr(net: BlindSR) -> int:
    """Return the smallest side, in HR pixels, of an image that this network can restore and PSNR and SSIM can measure.

    Examples:
        >>> from model import build
        >>> smallest_hr(build("CDSR", scale=4, n_blocks=1)), smallest_hr(build("EDSR", scale=4, n_blocks=1))
        (48, 19)
    """
    return max(net.scale * net.min_size, metric.smallest_side(net.scale))


def score_image(image: Tensor, measures: Iterable[Measure]) -> dict[str, float]:
    """Return the values of metrics without a reference for one (3, H, W) image in [0, 1], by the metrics' names.

    Raises ValueError if a metric needs a reference, or cannot take an image of this size.

    Examples:
        >>> brightness = Measure("brightness", lambda images: images.mean((1, 2, 3)), needs_reference=False)
        >>> score_image(torch.full((3, 4, 4), 0.25), [brightness])
        {'brightness': 0.25}
    """
    with torch.inference_mode(), ieee_products():
        return {measure.name: measure(image[None]).item() for measure in measures}


def mean(scores: Iterable[Score]) -> dict[str, float]:
    """Return the mean over all scores of each metric.

    Examples:
        >>> mean([Score("Set5", "bicubic", image, "x4", {"psnr": psnr}) for image, psnr in (("a", 30.0), ("b", 20.0))])
        {'psnr': 25.0}
    """
    values = [score.values for score in scores]
    return {name: fmean(of_image[name] for of_image in values) for name in values[0]}


def grouped(scores: Iterable[Score], *fields: str) -> dict[tuple[str, ...], list[Score]]:
    """Return the scores grouped by the values of these fields; groups and scores keep their order.

    Examples:
        >>> scores = [Score("Set5", "bicubic", image, "x4", {}) for image in ("a", "b")]
        >>> {key: len(group) for key, group in grouped(scores, "set", "case").items()}
        {('Set5', 'x4'): 2}
    """
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        groups.setdefault(tuple(getattr(score, field) for field in fields), []).append(score)
    return groups
