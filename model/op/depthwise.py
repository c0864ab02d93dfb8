"""Depthwise convolution of each sample with its own kernels, and the LeakyReLU that follows it everywhere."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dynamic_depthwise(x: Tensor, kernel: Tensor, slope: float = 1.0) -> Tensor:
    """Correlate each channel of each sample with its own k×k kernel, zero padding k//2; then apply LeakyReLU.

    Args:
        x: (B, C, H, W).
        kernel: (B, C, k, k), k odd.
        slope: of LeakyReLU below 0, positive; 1 leaves the correlation as it is.

    Examples:
        >>> import torch
        >>> kernel = torch.zeros(2, 4, 3, 3)
        >>> kernel[:, :, 1, 1] = 1  # the identity
        >>> x = torch.rand(2, 4, 5, 6) - 0.5
        >>> torch.equal(dynamic_depthwise(x, kernel), x)
        True
        >>> torch.equal(dynamic_depthwise(x, kernel, 0.1), torch.nn.functional.leaky_relu(x, 0.1))
        True
    """
    b, c, h, w = x.shape
    k = kernel.shape[-1]
    maps, kernels = x.reshape(1, b * c, h, w), kernel.reshape(b * c, 1, k, k)  # one group per sample and channel
    y = F.conv2d(maps, kernels, padding=k // 2, groups=b * c)  # (1, B·C, H, W)
    # Before `view`: in-place on a view, autograd would copy the whole map three times.
    y = y if slope == 1 else F.leaky_relu_(y, slope)
    return y.view(b, c, h, w)  # (B, C, H, W)
