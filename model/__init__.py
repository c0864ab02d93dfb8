"""The networks by name; building one, loading one from a file, saving one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import official
from model.bicubic import Bicubic
from model.cdsr import CDSR
from model.dasr import DASR
from model.edsr import EDSR
from model.ema import EMA
from model.kdsr import KDSRStudent, KDSRTeacher
from model.layer import BlindSR, Embedding, Restored
from model.moco import ContrastiveSR
from model.rrdb import RRDBNet

NETWORKS: dict[str, type[BlindSR]] = {
    "KDSR_T": KDSRTeacher,
    "KDSR_S": KDSRStudent,
    "CDSR": CDSR,
    "DASR": DASR,
    "EDSR": EDSR,
    "RRDB": RRDBNet,
    "BICUBIC": Bicubic,
}
FORMAT = 1
WEIGHTS = ("auto", "params", "params_ema")  # which of a file's weights; auto: the average where there is one

__all__ = [
    "CDSR",
    "DASR",
    "EMA",
    "NETWORKS",
    "WEIGHTS",
    "BlindSR",
    "ContrastiveSR",
    "Embedding",
    "Restored",
    "build",
    "checkpoint",
    "load_model",
    "name_of",
    "read_file",
]


def name_of(net: BlindSR) -> str:
    """The network's name in `NETWORKS`."""
    return next(name for name, network in NETWORKS.items() if network is type(net))


def build(name: str, **config: Any) -> BlindSR:
    """A fresh network. ValueError for an argument that this network does not have."""
    accepted = inspect.signature(NETWORKS[name]).parameters
    if wrong := [key for key in config if key not in accepted]:
        raise ValueError(f"{wrong[0]} means nothing to {name}, which takes {', '.join(accepted)}")
    return NETWORKS[name](**config)


def checkpoint(net: BlindSR, average: BlindSR | None = None) -> dict[str, Any]:
    """The network and what is needed to rebuild it, as tensors and plain values; `torch.save` it.

    average: the same network with the moving average of its weights, kept as `params_ema` beside `params`.
    """
    contents = {"format": FORMAT, "network": name_of(net), "config": net.config, "params": net.state_dict()}
    return contents if average is None else contents | {"params_ema": average.state_dict()}


def read_file(path: str | Path, flag: str = "--pre_train") -> dict[str, Any]:
    """The contents of a checkpoint file on the CPU. Only tensors and plain values are unpickled."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{flag}: there is no file {path}")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is none fails in a dozen ways
        raise ValueError(
            f"{flag}: {path} cannot be read as a checkpoint: it is damaged, something else, or holds more than "
            f"tensors and plain values ({type(error).__name__})"
        ) from error
    if not isinstance(contents, dict) or not all(isinstance(key, str) for key in contents):
        raise ValueError(f"{flag}: {path} holds no state dict, but a {type(contents).__name__}")
    return contents


def load_model(
    path: str | Path, device: str | torch.device = "cpu", *, flag: str = "--pre_train", weights: str = "auto"
) -> BlindSR:
    """The network of a checkpoint, in eval mode: ours, or one that the papers' authors published.

    Published files may be a state dict or `{"params", "params_ema"}`, may carry `module.` and may lack CDSR's momentum
    encoder and queue. Network, size and scale are read off the keys and shapes.

    weights: one of `WEIGHTS`; a plain state dict counts as "params".

    Raises FileNotFoundError, or ValueError that says which keys are missing and which are too many; `flag` is the
    option that the message blames.
    """
    contents = read_file(path, flag)
    state = _state_dict(contents, path, flag, weights)
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise ValueError(
            f"{flag}: {path} holds weights that are no numbers: {_listing(wrong)}; its training went wrong"
        )
    if "network" in contents:
        net, missing, extra = _read_own(contents, state, path, flag)
    else:
        net, missing, extra = official.read(official.strip(state))
    if missing or extra:
        raise ValueError(
            f"{flag}: {path} fits no network. The nearest is {name_of(net)} {net.config}: the file lacks, or has with "
            f"another shape, {_listing(missing)}; it has too many: {_listing(extra)}"
        )
    return net.eval().to(device)


def _read_own(
    contents: dict[str, Any], state: dict[str, Tensor], path: str | Path, flag: str
) -> tuple[BlindSR, list[str], list[str]]:
    if contents.get("format") != FORMAT or contents["network"] not in list(NETWORKS):  # it may be anything
        raise ValueError(
            f"{flag}: {path} is a {contents['network']} checkpoint of format {contents.get('format')}; "
            f"this version reads format {FORMAT} of {', '.join(NETWORKS)}"
        )
    config = contents.get("config")
    if not isinstance(config, dict):
        raise ValueError(f"{flag}: {path} lacks the config of a {contents['network']} checkpoint")
    try:
        net = build(contents["network"], **config)
    except Exception as error:  # so may these
        raise ValueError(
            f"{flag}: {path} cannot be read as a checkpoint: no {contents['network']} has the config {config} ({error})"
        ) from error
    own = net.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    net.load_state_dict(fitting, strict=False)  # what does not fit is reported, not hidden
    return net, sorted(set(own) - set(fitting)), sorted(set(state) - set(own))


def _state_dict(contents: dict[str, Any], path: str | Path, flag: str, weights: str) -> dict[str, Tensor]:
    """The weights that are asked for."""
    found = {key: contents[key] for key in ("params_ema", "params") if key in contents} or {"params": contents}
    if weights not in ("auto", *found):
        raise ValueError(f"--weights {weights}: {path} holds no {weights}, only {' and '.join(found)}")
    name = next(iter(found)) if weights == "auto" else weights
    state = found[name]
    if not isinstance(state, dict):
        raise ValueError(f"{flag}: the {name} of {path} are no state dict, but a {type(state).__name__}")
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{flag}: {path} is no state dict: {_listing(others)} are not tensors")
    return state


def _listing(keys: list[str], most: int = 8) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return (", ".join(keys[:most]) + more) or "nothing"
