"""RRDBNet, the generator of ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (ECCV Workshops 2018).

A reference that does not look for the degradation.
"""

from __future__ import annotations

from torch import Tensor, nn

from model.layer import RDB, BlindSR, conv, in_float32


class RRDB(nn.Module):
    """Residual in residual dense block: x + 0.2·RDB³(x)."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.rdbs = nn.Sequential(RDB(n_feats), RDB(n_feats), RDB(n_feats))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.rdbs(x)


class NearestUpsampler(nn.Sequential):
    """ESRGAN's: [nearest, conv, LReLU], twice for ×4. The published network is ×4; here ×2 and ×3 are one such step."""

    def __init__(self, scale: int, n_feats: int) -> None:
        factors = {2: (2,), 3: (3,), 4: (2, 2)}[scale]
        steps = ((nn.Upsample(scale_factor=r), conv(n_feats, n_feats), _act()) for r in factors)
        super().__init__(*(layer for step in steps for layer in step))


class RRDBNet(BlindSR):
    """The published network, whose dense blocks grow by 32 channels.

    scale: 2, 3 or 4. n_feats: channels, 64 as published. n_blocks: RRDBs, 23 as published.
    """

    def __init__(self, *, scale: int, n_feats: int = 64, n_blocks: int = 23) -> None:
        super().__init__(scale=scale, n_feats=n_feats, n_blocks=n_blocks)
        self.head = conv(3, n_feats)
        self.blocks = nn.Sequential(*(RRDB(n_feats) for _ in range(n_blocks)))
        self.fuse = conv(n_feats, n_feats)
        self.upsample = NearestUpsampler(scale, n_feats)
        self.tail = nn.Sequential(conv(n_feats, n_feats), _act(), conv(n_feats, 3))

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        head = in_float32(self.head, lr)
        x = self.upsample(head + self.fuse(self.blocks(head)))
        return in_float32(self.tail[-1], self.tail[:-1](x))


def _act() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)
