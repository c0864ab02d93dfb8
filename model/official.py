"""The key names of the papers' published checkpoints, to and from ours.

A published file is a state dict, or `{"params": ..., "params_ema": ...}`; keys may carry `module.`. Its network, size
and scale are read off the keys and shapes. RRDB is also known by the names of BasicSR (Real-ESRGAN), and published ×4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from model.cdsr import CDSR
from model.dasr import DASR, N_GROUPS
from model.kdsr import KDSRStudent, KDSRTeacher
from model.layer import DIV2K_MEAN, BlindSR
from model.rrdb import RRDBNet

State = Mapping[str, Tensor]
Names = Iterator[tuple[str, str]]  # (our module, their module)

# What published files hold beside the network: the momentum encoder and queue of CDSR and DASR, the fixed mean-shift
# convolutions of KDSR and DASR.
MOMENTUM = ("E.encoder_k.", "E.queue", "E.queue_ptr")
MEAN_SHIFT = ("G.sub_mean.", "G.add_mean.")


class Format(NamedTuple):
    network: type[BlindSR]
    config: Callable[[State], dict[str, int]]
    names: Callable[[Mapping[str, int]], Names]
    peak: float | None  # white in their images, in whose range their mean-shift convolutions are; None: there are none


def _side(state: State, key: str, default: int) -> int:
    """The first dimension of a tensor; a file may lack it, and is then told so rather than refused here."""
    return state[key].shape[0] if key in state and state[key].ndim else default


def _count(state: State, pattern: str) -> int:
    return len([key for key in state if re.fullmatch(pattern, key)])


def _restoration_config(state: State) -> dict[str, int]:
    """Of the SR networks of KDSR and DASR; n_blocks of a group, of which KDSR has one."""
    n_feats = _side(state, "G.head.0.weight", 64)
    factor = _side(state, "G.tail.0.0.weight", 4 * n_feats) // n_feats  # 4, twice for ×4, or 9
    return {
        "scale": 3 if factor == 9 else 4 if "G.tail.0.2.weight" in state else 2,
        "n_feats": n_feats,
        "n_blocks": _count(state, r"G\.body\.0\.body\.\d+\.conv1\.weight"),
    }


def _kdsr_config(state: State) -> dict[str, int]:
    return {
        **_restoration_config(state),
        "n_resblocks": _count(state, r"E(_st)?\.E\.\d+\.body\.0\.weight"),
    }


def _ends_names(config: Mapping[str, int]) -> Names:
    """What KDSR and DASR have before and after the body."""
    yield "restoration.head", "G.head.0"
    yield "restoration.upsample.0", "G.tail.0.0"
    if config["scale"] == 4:
        yield "restoration.upsample.2", "G.tail.0.2"
    yield "restoration.tail", "G.tail.1"


def _kdsr_names(config: Mapping[str, int], estimator: str) -> Names:
    yield from _ends_names(config)
    for i in range(config["n_blocks"]):
        ours, theirs = f"restoration.blocks.{i}", f"G.body.0.body.{i}"
        yield f"{ours}.ddc.kernel.0", f"{theirs}.da_conv1.kernel.0"
        yield f"{ours}.ddc.kernel.2", f"{theirs}.da_conv1.kernel.2"
        yield f"{ours}.conv", f"{theirs}.conv1"
    yield "restoration.fuse", "G.body.1"
    n = config["n_resblocks"]
    for i in (0, n + 2, n + 4, n + 6):
        yield f"estimator.features.{i}", f"{estimator}.E.{i}"
    for i in range(2, n + 2):
        yield f"estimator.features.{i}.body.0", f"{estimator}.E.{i}.body.0"
        yield f"estimator.features.{i}.body.2", f"{estimator}.E.{i}.body.2"
    for name in ("mlp.0", "mlp.2", "compress.0"):
        yield f"estimator.{name}", f"{estimator}.{name}"


def _cdsr_config(state: State) -> dict[str, int]:
    return {
        "scale": min(4, max(2, round((_side(state, "G.upsampler.0.weight", 48) / 3) ** 0.5))),
        "n_blocks": _count(state, r"G\.RRDB_trunk\.\d+\.RDB1\.conv1\.weight"),
    }


def _lpe_names(ours: str, theirs: str) -> Names:
    for i in range(6):
        yield f"{ours}pixel.{i}.conv", f"{theirs}conv{i + 1}.conv1"
        yield f"{ours}pixel.{i}.norm", f"{theirs}conv{i + 1}.bn1"
    for i in range(4):
        yield f"{ours}patch.{i}.conv", f"{theirs}pconv{i + 1}.conv1"
        yield f"{ours}patch.{i}.norm", f"{theirs}pconv{i + 1}.bn1"
    for i in (0, 2):
        yield f"{ours}merge.{i}", f"{theirs}mlp1.{i}"
        yield f"{ours}project.{i}", f"{theirs}mlp.{i}"
    yield f"{ours}csc.query", f"{theirs}fc_q"
    yield f"{ours}csc.key", f"{theirs}fc_k"
    yield f"{ours}csc.codebook", f"{theirs}feature_bank.weight"


def _da_names(ours: str, theirs: str) -> Names:
    for i in (0, 2):
        yield f"{ours}.depthwise.kernel.{i}", f"{theirs}.kernel.{i}"
        yield f"{ours}.channel.{i}", f"{theirs}.ca.conv_du.{i}"
    yield f"{ours}.pointwise", f"{theirs}.conv"


def _dqa_names(ours: str, theirs: str) -> Names:
    yield f"{ours}.content.gamma", f"{theirs}.sf_attn.gamma"
    for name in ("query", "key", "value"):
        yield f"{ours}.content.{name}", f"{theirs}.sf_attn.{name}_conv"
    yield from _da_names(ours, theirs)


def _cdsr_names(config: Mapping[str, int]) -> Names:
    yield from _lpe_names("encoder.", "E.encoder_q.")
    for i in range(8):
        yield f"restoration.compress.{i}", f"G.compress.{i}"
    yield "restoration.head", "G.conv_first"
    for i in range(config["n_blocks"]):
        ours, theirs = f"restoration.blocks.{i}", f"G.RRDB_trunk.{i}"
        for j in range(3):
            yield f"{ours}.fuse.compress.{j}", f"{theirs}.SFT.fc.{j}"
        for j in (1, 2):
            yield from _dqa_names(f"{ours}.fuse.dqa{j}", f"{theirs}.SFT.dab.da_conv{j}")
            yield f"{ours}.fuse.conv{j}", f"{theirs}.SFT.dab.conv{j}"
        for j in range(3):
            for k in range(5):
                yield f"{ours}.rdbs.{j}.convs.{k}", f"{theirs}.RDB{j + 1}.conv{k + 1}"
    yield "restoration.fuse", "G.trunk_conv"
    yield "restoration.tail.0", "G.upsampler.0"


def _dasr_encoder_names(ours: str, theirs: str) -> Names:
    for i in range(6):
        yield f"{ours}features.{i}.conv", f"{theirs}E.{3 * i}"
        yield f"{ours}features.{i}.norm", f"{theirs}E.{3 * i + 1}"
    for i in (0, 2):
        yield f"{ours}project.{i}", f"{theirs}mlp.{i}"


def _dasr_names(config: Mapping[str, int]) -> Names:
    yield from _dasr_encoder_names("encoder.", "E.encoder_q.")
    yield "restoration.compress.0", "G.compress.0"
    yield from _ends_names(config)
    for g in range(N_GROUPS):
        group, their_group = f"restoration.groups.{g}", f"G.body.{g}.body"
        for i in range(config["n_blocks"]):
            ours, theirs = f"{group}.blocks.{i}", f"{their_group}.{i}"
            for j in (1, 2):
                yield from _da_names(f"{ours}.da{j}", f"{theirs}.da_conv{j}")
                yield f"{ours}.conv{j}", f"{theirs}.conv{j}"
        yield f"{group}.conv", f"{their_group}.{config['n_blocks']}"
    yield "restoration.fuse", f"G.body.{N_GROUPS}"


class RRDBNames(NamedTuple):
    blocks: str
    rdb: str
    fuse: str
    upsample: str
    hr: str


ESRGAN = RRDBNames("RRDB_trunk", "RDB", "trunk_conv", "upconv", "HRconv")
BASICSR = RRDBNames("body", "rdb", "conv_body", "conv_up", "conv_hr")


def _rrdb_config(state: State, names: RRDBNames) -> dict[str, int]:
    return {
        "scale": 4 if f"{names.upsample}2.weight" in state else 2,
        "n_feats": _side(state, "conv_first.weight", 64),
        "n_blocks": _count(state, rf"{names.blocks}\.\d+\.{names.rdb}1\.conv1\.weight"),
    }


def _rrdb_names(config: Mapping[str, int], names: RRDBNames) -> Names:
    yield "head", "conv_first"
    for i in range(config["n_blocks"]):
        for j in range(3):
            for k in range(5):
                yield f"blocks.{i}.rdbs.{j}.convs.{k}", f"{names.blocks}.{i}.{names.rdb}{j + 1}.conv{k + 1}"
    yield "fuse", names.fuse
    for i in range(config["scale"] // 2):
        yield f"upsample.{3 * i + 1}", f"{names.upsample}{i + 1}"
    yield "tail.0", names.hr
    yield "tail.2", "conv_last"


FORMATS = (  # of a network's several the first is written
    Format(KDSRStudent, _kdsr_config, lambda config: _kdsr_names(config, "E_st"), 1),
    Format(KDSRTeacher, _kdsr_config, lambda config: _kdsr_names(config, "E"), 1),
    Format(CDSR, _cdsr_config, _cdsr_names, None),
    Format(DASR, _restoration_config, _dasr_names, 255),
    *(
        Format(RRDBNet, partial(_rrdb_config, names=names), partial(_rrdb_names, names=names), None)
        for names in (ESRGAN, BASICSR)
    ),
)


def _translate(keys: Iterator[str] | State, names: Mapping[str, str]) -> dict[str, str]:
    """Each key with its module's name replaced; keys of unknown modules are left out."""
    pairs = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        if key in names:  # the name of a parameter, not of a module
            pairs[key] = names[key]
        elif module in names:
            pairs[key] = f"{names[module]}.{leaf}"
    return pairs


def strip(state: State) -> dict[str, Tensor]:
    """Without the `module.` that DataParallel puts before each key."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def read(state: State) -> tuple[BlindSR, list[str], list[str]]:
    """The network that fits a published state dict best, the keys that the file lacks, and those it has too many.

    Where either list is not empty the network holds what could be read, and is not to be used.
    """
    fits = {candidate: _keys(candidate, candidate.config(state)) for candidate in FORMATS}
    best = max(fits, key=lambda candidate: len(fits[candidate].values() & state.keys()))
    net, keys = best.network(**best.config(state)), fits[best]
    own = net.state_dict()
    ours = {a: state[b] for a, b in keys.items() if b in state and state[b].shape == own[a].shape}
    net.load_state_dict(ours, strict=False)  # what is missing is reported, not hidden
    missing = sorted(b for a, b in keys.items() if a not in ours)
    extra = set(state) - set(keys.values())
    return net, missing, sorted(key for key in extra if not key.startswith(MOMENTUM + MEAN_SHIFT))


def _keys(fmt: Format, config: dict[str, int]) -> dict[str, str]:
    """Our keys and theirs of a network of this size."""
    with torch.device("meta"):  # nothing but the names is wanted
        return _translate(fmt.network(**config).state_dict(), dict(fmt.names(config)))


def write(net: BlindSR) -> dict[str, Tensor]:
    """The published state dict of a network: what the authors' own code loads (without momentum encoder).

    ValueError for a network or a size that has no published form.
    """
    fmt = next((candidate for candidate in FORMATS if candidate.network is type(net)), None)
    if fmt is None:
        raise ValueError(f"{type(net).__name__} has no published format")
    own = net.state_dict()
    state = {b: own[a] for a, b in _translate(own, dict(fmt.names(net.config))).items()}
    if (read_as := fmt.config(state)) != net.config:
        raise ValueError(f"{type(net).__name__} {net.config} has no published format; it would be read as {read_as}")
    if fmt.peak is not None:
        for name, sign in (("sub_mean", -1.0), ("add_mean", 1.0)):
            state[f"G.{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
            state[f"G.{name}.bias"] = sign * fmt.peak * torch.tensor(DIV2K_MEAN)
    return state


def read_momentum(state: State) -> dict[str, Tensor]:
    """The state of `model.contrast.MoCo` from a published CDSR or DASR state dict that has one (training ones do)."""
    encoders = (_lpe_names, _dasr_encoder_names)
    names = {theirs: ours for encoder in encoders for ours, theirs in encoder("encoder.", "E.encoder_k.")}
    keys = _translate(state, {**names, "E.queue": "queue", "E.queue_ptr": "pointer"})
    return {ours: state[theirs] for theirs, ours in keys.items()}
