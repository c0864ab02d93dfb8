"""Scores as learned from what people see. Optional extras, from libraries that calibrated them on the authors' code.

LPIPS: `pip install torchmetrics torchvision`. Metrics without a reference (NIQE, MUSIQ, CLIP-IQA, ...):
`pip install pyiqa`, large, but the only one that has all those which real-world papers report.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


def lpips(features: str, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of SR and HR, (B, 3, H, W) in [0, 1] each, to (B,): 0 for equal images, whole images without a border.

    features: "alex", AlexNet's (CDSR's tables), or "vgg" (KDSR-GAN's). Their ImageNet weights come from torchvision,
    which loads them once. Raises ValueError, with what to do, where the library or the weights cannot be had.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # pyright: ignore
    except ImportError as error:
        raise ValueError(
            f"--lpips {features} needs a library: pip install torchmetrics torchvision ({error})"
        ) from error
    try:
        network = LearnedPerceptualImagePatchSimilarity(net_type=features, normalize=True).to(device)
    except (OSError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"--lpips {features}: torchvision could not load the weights of its {features} network ({error}). On a "
            "machine without the internet, copy them into ~/.cache/torch/hub/checkpoints from one that has it"
        ) from error

    def distance(sr: Tensor, hr: Tensor) -> Tensor:
        each = [network(a[None].float(), b[None].float()) for a, b in zip(sr, hr, strict=True)]
        network.reset()  # the library also keeps the mean of all calls
        return torch.stack(each)

    return distance


class Quality(NamedTuple):
    """A metric that needs no reference."""

    name: str
    lower_better: bool
    score: Callable[[Tensor], float]  # of an image (3, H, W) in [0, 1]; ValueError for one that it cannot take


def no_reference(asked: str, device: torch.device) -> list[Quality]:
    """Metrics by their names in pyiqa, joined by +, with which names may end too. Their weights are loaded once.

    Raises ValueError, with what to do, for an unknown name, or where the library or the weights cannot be had.
    """
    names = re.split(r"\+(?=[a-z])", asked)  # niqe+clipiqa++musiq: there is a clipiqa+
    try:
        import pyiqa  # pyright: ignore
    except ImportError as error:
        raise ValueError(f"--no_reference {asked} needs a library: pip install pyiqa ({error})") from error
    known = pyiqa.list_models("NR")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"--no_reference {asked}: pyiqa has no {' and no '.join(unknown)}; "
            f"without a reference it has {', '.join(known)}"
        )
    return [_quality(name, pyiqa.create_metric, device) for name in names]


def _quality(name: str, create: Callable[..., torch.nn.Module], device: torch.device) -> Quality:
    try:
        network = create(name, device=device)
    except (OSError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"--no_reference {name}: pyiqa could not load it or its weights ({error}). On a machine without the "
            "internet, copy ~/.cache/torch/hub/pyiqa, and for CLIP ~/.cache/clip, from one that has it"
        ) from error

    def score(image: Tensor) -> float:
        try:
            return float(network(image[None].to(device)))
        except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
            size = " x ".join(map(str, image.shape[1:]))
            raise ValueError(f"--no_reference {name} takes no image of {size} pixels ({error})") from error

    return Quality(name, bool(network.lower_better), score)
