"""Learned metrics: optional extras, from libraries that checked theirs against the authors' code.

LPIPS and DISTS: `pip install torchmetrics torchvision`. Metrics without a reference (MUSIQ, MANIQA, CLIP-IQA, ...):
`pip install pyiqa`. It is large, but the only library with all of those that real-world papers report. Its licence
(PolyForm Noncommercial, and S-Lab's for parts) allows no commercial use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_TORCHMETRICS = "pip install torchmetrics torchvision"
_PYIQA = "pip install pyiqa, whose licence allows no commercial use"


def lpips(features: str, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Load LPIPS (Zhang et al., 2018): a function of SR and HR, (B, 3, H, W) in [0, 1] each, to (B,).

    It is 0 for equal images. No border is cut.

    Args:
        features: "alex" for AlexNet's (CDSR's tables), or "vgg" for VGG16's (KDSR-GAN's). torchvision downloads their
            ImageNet weights once.
        device: where the network computes.

    Raises ValueError, saying what to do, if the library or the weights are missing.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # pyright: ignore
    except ImportError as error:
        raise ValueError(f"LPIPS needs a library: {_TORCHMETRICS} ({error})") from error
    network = _loaded("LPIPS", features, partial(LearnedPerceptualImagePatchSimilarity, features, normalize=True))
    network.to(device)

    def distance(sr: Tensor, hr: Tensor) -> Tensor:
        each = [network(a[None].float(), b[None].float()) for a, b in zip(sr, hr, strict=True)]
        network.reset()  # the library also keeps the mean of all calls
        return torch.stack(each)

    return distance


def dists(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Load DISTS (Ding et al., 2020): a function of SR and HR, (B, 3, H, W) in [0, 1] each, to (B,).

    It is 0 for equal images. No border is cut. torchvision downloads the ImageNet weights of VGG16.
    Raises ValueError, saying what to do, if the library or the weights are missing.
    """
    try:
        from torchmetrics.functional.image.dists import DISTSNetwork  # pyright: ignore
    except ImportError as error:
        raise ValueError(f"DISTS needs a library: {_TORCHMETRICS} ({error})") from error
    network = _loaded("DISTS", "vgg", DISTSNetwork).to(device)

    def distance(sr: Tensor, hr: Tensor) -> Tensor:
        return torch.stack([network(a[None].float(), b[None].float()) for a, b in zip(sr, hr, strict=True)])

    return distance


def _loaded(metric: str, features: str, create: Callable[[], nn.Module]) -> Any:
    """Return a network on features of torchvision. Raise ValueError if their weights are missing."""
    try:
        return create()
    except (OSError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"torchvision could not load the weights of its {features} network for {metric} ({error}). On a machine "
            "without the internet, copy them into ~/.cache/torch/hub/checkpoints from one that has it"
        ) from error


def no_reference(name: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Load a metric of pyiqa that needs no reference: a function of images (B, 3, H, W) in [0, 1] to (B,).

    Images are scored one by one. The function raises ValueError for an image that the metric cannot take.

    Raises ValueError, saying what to do, if pyiqa has no such metric, or it or its weights are missing.
    """
    known = pyiqa_metrics(name)
    if name not in known:
        raise ValueError(f"pyiqa has no {name}; without a reference it has {', '.join(known)}")
    import pyiqa  # pyright: ignore

    try:
        network = pyiqa.create_metric(name, device=device)
    except (OSError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"pyiqa could not load {name} or its weights ({error}). On a machine without the internet, copy "
            "~/.cache/torch/hub/pyiqa, and for CLIP ~/.cache/clip, from one that has it"
        ) from error

    def score(images: Tensor) -> Tensor:
        try:
            return torch.stack([network(image[None].float().to(device)).reshape(()) for image in images])
        except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
            size = " x ".join(map(str, images.shape[2:]))
            raise ValueError(f"{name} takes no image of {size} pixels ({error})") from error

    return score


def pyiqa_metrics(asked: str) -> Mapping[str, bool]:
    """Return the metrics of pyiqa without a reference: by name, True if a lower value is better.

    Raises ValueError, saying that `asked` needs it, if pyiqa is not installed.
    """
    try:
        from pyiqa.default_model_configs import DEFAULT_CONFIGS  # pyright: ignore
    except ImportError as error:
        raise ValueError(f"{asked} needs a library: {_PYIQA} ({error})") from error
    configs: Mapping[str, Mapping[str, Any]] = DEFAULT_CONFIGS
    return {name: bool(c.get("lower_better")) for name, c in sorted(configs.items()) if c["metric_mode"] == "NR"}
