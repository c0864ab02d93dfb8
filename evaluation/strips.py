"""Pictures of a validation for trackers."""

from __future__ import annotations

import torch
from torch import Tensor

from data.testset import Sample, centre

SIDE, MOST = 96, 2  # of the centre crop of an image, HR pixels; images that are shown


class Strips:
    """The first images of a validation: the centre of LR (its pixels repeated), SR and HR image, side by side.

    Only the middle case of a protocol is shown.

    Examples:
        >>> strips = Strips()
        >>> sample = Sample("a", ["x2"], torch.zeros(1, 3, 8, 8), torch.ones(3, 16, 16))
        >>> strips("Set5", sample, torch.ones(1, 3, 16, 16))
        >>> {name: image.shape for name, image in strips.found.items()}
        {'Set5/a, x2': torch.Size([3, 16, 48])}
    """

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}  # (3, h, 3·h) in [0, 1] on the CPU, by set, image and case

    def __call__(self, test_set: str, sample: Sample, sr: Tensor) -> None:
        """Take the strip of a sample and its SR images (N, 3, s·H, s·W), if there are too few yet."""
        if len(self.found) == MOST:
            return
        case, scale = len(sr) // 2, sr.shape[2] // sample.lr.shape[2]
        side = min(SIDE // scale, *sample.lr.shape[2:])
        lr = centre(sample.lr[case], side=side).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        large = [centre(image, side=side, scale=scale) for image in (sr[case], sample.hr)]
        self.found[f"{test_set}/{sample.image}, {sample.cases[case]}"] = torch.cat([lr, *large], 2).cpu()
