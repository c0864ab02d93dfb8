"""MoCo: Momentum Contrast for Unsupervised Visual Representation Learning (CVPR 2020).

https://arxiv.org/abs/1911.05722

DASR and CDSR contrast two crops of one image, which share its degradation. Where several processes train, BatchNorm
takes its statistics over all of them instead of shuffling the samples between them as the paper does.
"""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .autocast import in_float32
from .layer import BlindSR, Embedding, Pool, global_mean


class ContrastiveSR(BlindSR):
    """Base class of networks whose embedding comes from an encoder of the LR image that contrast can train."""

    encoder: nn.Module  # (lr (B, 3, H, W) in [0, 1], pool) -> Embedding
    dim: int = 256  # width of the embedding and of its projection, as published

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        """Embed the degradation of (B, 3, H, W); `hr` is not used."""
        return self.encoder(lr, pool)


class MoCo(nn.Module):
    """The key side of momentum contrast: an encoder that slowly follows the trained one, and a queue of past keys.

    Args:
        encoder: the trained encoder, (B, 3, H, W) -> Embedding. It is copied.
        dim: width of its projection.
        queue: number of negatives.
        momentum: share of the key encoder's weights that each step keeps.
        temperature: divides the similarities.

    Examples:
        >>> from .cdsr import CDSR
        >>> net, images = CDSR(scale=2, n_feats=8, n_blocks=1), torch.rand(2, 3, 12, 12)
        >>> encoder = net.encoder
        >>> moco = MoCo(encoder, dim=net.dim, queue=8)
        >>> moco(encoder, encoder(images).projection, images).shape
        torch.Size([2, 9])
    """

    queue: Tensor
    pointer: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 256,
        queue: int = 8192,
        momentum: float = 0.999,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(dim, queue), dim=0))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    def forward(self, encoder: nn.Module, query: Tensor, key_image: Tensor) -> Tensor:
        """Return the logits and advance the key encoder and the queue.

        Where several processes train, the keys of all of them enter the queue, in the order of ranks.

        Args:
            encoder: the trained encoder.
            query: its projection of one crop, (B, dim).
            key_image: the other crop, (B, 3, H, W) in [0, 1].

        Returns:
            (B, 1 + queue), the positive first, in float32.

        Raises ValueError if the projection is not `dim` wide.
        """
        if query.shape[1] != len(self.queue):
            raise ValueError(
                f"`model`: its projection is {query.shape[1]} wide, and its class says `dim` = {len(self.queue)}"
            )
        query = F.normalize(query.float(), dim=1)  # (B, dim)
        with torch.no_grad():
            self._follow(encoder)
            key = F.normalize(self.encoder(key_image).projection.float(), dim=1)  # (B, dim)
            negatives = self.queue.clone()  # the queue changes before backward reads it
            self._enqueue(_gather(key))
        positive = (query * key).sum(1, keepdim=True)  # (B, 1)
        return torch.cat((positive, in_float32(torch.matmul, query, negatives)), 1) / self.temperature  # (B, 1 + queue)

    def _follow(self, encoder: nn.Module) -> None:
        average = get_ema_multi_avg_fn(self.momentum)
        average(list(self.encoder.parameters()), list(encoder.parameters()), None)

    def _enqueue(self, key: Tensor) -> None:
        size = self.queue.shape[1]
        slots = (self.pointer + torch.arange(len(key), device=key.device)) % size
        self.queue[:, slots] = key.T
        self.pointer.add_(len(key)).remainder_(size)


def _gather(key: Tensor) -> Tensor:
    """Return the keys of all ranks, (ranks · B, dim)."""
    if not (dist.is_available() and dist.is_initialized()):
        return key
    keys = [torch.empty_like(key) for _ in range(dist.get_world_size())]
    dist.all_gather(keys, key)
    return torch.cat(keys)
