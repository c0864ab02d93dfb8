"""Momentum contrast (He et al., CVPR 2020) between crops of one image: same image, same degradation."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.layer import BlindSR, Embedding, Pool, global_mean, in_float32


class ContrastiveSR(BlindSR):
    """A network whose embedding is that of an encoder of the LR image, which contrast can train."""

    encoder: nn.Module  # (B, 3, H, W) in [0, 1] and a `Pool` -> Embedding

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        return self.encoder(lr, pool)


class MoCo(nn.Module):
    """The key side of momentum contrast: an encoder that follows the trained one slowly, and a queue of past keys.

    encoder: the trained encoder, (B, 3, H, W) -> Embedding; copied, not kept.
    dim: width of its projection. queue: number of negatives. momentum: share the key encoder keeps of itself each step.
    temperature: divides the similarities.
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
        """Logits (B, 1 + queue), the positive first, in float32; advances the key encoder and the queue.

        Where several processes train, the keys of all go into the queue, in the order of their ranks. That their
        BatchNorm takes its statistics over all of them stands for the shuffling of the paper.

        encoder: the trained encoder. query: its projection of one crop, (B, dim). key_image: the other crop.
        """
        query = F.normalize(query.float(), dim=1)
        with torch.no_grad():
            self._follow(encoder)
            key = F.normalize(self.encoder(key_image).projection.float(), dim=1)
            negatives = self.queue.clone()  # the queue moves on before backward reads it
            self._enqueue(_of_all_ranks(key))
        positive = (query * key).sum(1, keepdim=True)
        return torch.cat((positive, in_float32(torch.matmul, query, negatives)), 1) / self.temperature

    def _follow(self, encoder: nn.Module) -> None:
        average = get_ema_multi_avg_fn(self.momentum)
        average(list(self.encoder.parameters()), list(encoder.parameters()), None)

    def _enqueue(self, key: Tensor) -> None:
        size = self.queue.shape[1]
        slots = (self.pointer + torch.arange(len(key), device=key.device)) % size
        self.queue[:, slots] = key.T
        self.pointer.add_(len(key)).remainder_(size)


def _of_all_ranks(key: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return key
    keys = [torch.empty_like(key) for _ in range(dist.get_world_size())]
    dist.all_gather(keys, key)
    return torch.cat(keys)
