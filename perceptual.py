"""LPIPS, from torchmetrics: an optional extra, `pip install torchmetrics torchvision`."""

from __future__ import annotations

from collections.abc import Callable

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
