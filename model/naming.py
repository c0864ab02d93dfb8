"""Published weight files: how one network's files are recognised and how their names map to ours.

Each network keeps its formats in `BlindSR.foreign`; `foreign.py` reads and writes files with them. The helpers here
serve the formats of several networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

State = Mapping[str, Tensor]
Names = Iterator[tuple[str, str]]  # (our module or parameter, theirs)


class Foreign(NamedTuple):
    """A published file format of one network.

    Attributes:
        config: reads the constructor's arguments off the keys and shapes of a state dict. It must give some answer for
            every state dict, since each format is tried on each file.
        names: yields the pairs of module names for a config.
        mean_shifts: the file's fixed 1×1 convolutions that take the mean colour of DIV2K off and add it again, each
            with the sign and the white level of the images it works on. A file may lack them; others are refused.
        parts: names of the state dicts, one a file, that the network is published in; each is the first word of the
            keys that `config` and `names` see. () for a network that is published in one file.
        unused: yields, as `names` does, tensors that the files hold and nothing uses. They are skipped in reading, and
            written as copies of ours, since the authors' code refuses a file without them.
        factors: yields our modules whose weights are those of the file times a factor, which the file does not hold.
    """

    config: Callable[[State], dict[str, int]]
    names: Callable[[Mapping[str, int]], Names]
    mean_shifts: Mapping[str, float] = MappingProxyType({})
    parts: tuple[str, ...] = ()
    unused: Callable[[Mapping[str, int]], Names] | None = None
    factors: Callable[[Mapping[str, int]], Iterator[tuple[str, float]]] | None = None


def width(state: State, key: str, default: int) -> int:
    """Return the first dimension of a tensor, or `default` if the state dict lacks it.

    A file without the tensor is not refused here: the comparison of keys will name what it lacks.
    """
    return state[key].shape[0] if key in state and state[key].numel() and state[key].ndim else default


def count(state: State, pattern: str) -> int:
    """Return the number of keys that match a regular expression in full."""
    return sum(re.fullmatch(pattern, key) is not None for key in state)


def shuffle_scale(state: State, first: str, second: str, n_feats: int) -> int:
    """Read the scale off a pixel-shuffle upsampler, given the keys of its first and of its second convolution."""
    factor = width(state, first, 4 * n_feats) // n_feats  # 4 for x2, twice 4 for x4, 9 for x3
    return 3 if factor == 9 else 4 if second in state else 2


def trunk_config(state: State) -> dict[str, int]:
    """Read scale, width and blocks per group of an SR network of KDSR or DASR (KDSR has one group)."""
    n_feats = width(state, "G.head.0.weight", 64)
    return {
        "scale": shuffle_scale(state, "G.tail.0.0.weight", "G.tail.0.2.weight", n_feats),
        "n_feats": n_feats,
        "n_blocks": count(state, r"G\.body\.0\.body\.\d+\.conv1\.weight"),
    }


def trunk_names(config: Mapping[str, int]) -> Names:
    """Yield the names of what KDSR and DASR have before and after their blocks."""
    yield "restoration.head", "G.head.0"
    yield "restoration.upsample.0", "G.tail.0.0"
    if config["scale"] == 4:
        yield "restoration.upsample.2", "G.tail.0.2"
    yield "restoration.tail", "G.tail.1"


def da_names(ours: str, theirs: str) -> Names:
    """Yield the names of one degradation-aware convolution (DASR's, which CDSR's DQA extends)."""
    for i in (0, 2):
        yield f"{ours}.depthwise.kernel.{i}", f"{theirs}.kernel.{i}"
        yield f"{ours}.channel.{i}", f"{theirs}.ca.conv_du.{i}"
    yield f"{ours}.pointwise", f"{theirs}.conv"
