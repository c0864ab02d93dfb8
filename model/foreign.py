"""Published weights of the networks: reading and writing files under their authors' key names.

A published file is a state dict, or `{"params": ..., "params_ema": ...}`; its keys may carry `module.`. For a network
that is published in several state dicts (IKC), it is one file that holds all of them by name. Network, size and scale
are read off keys and shapes. The formats themselves stand beside each network, in `BlindSR.foreign`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .layer import DIV2K_MEAN, BlindSR
from .naming import Foreign, State
from .networks import NETWORKS, name_of

# Published files hold more than the network: the momentum encoder and queue of CDSR and DASR, and the fixed mean-shift
# convolutions of KDSR and DASR.
MOMENTUM = ("E.encoder_k.", "E.queue", "E.queue_ptr")
MEAN_SHIFT = ("G.sub_mean.", "G.add_mean.")


def strip(state: State) -> dict[str, Tensor]:
    """Remove the `module.` that DataParallel puts before each key."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def join(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state dicts of a network's parts as one, with the part before each key; anything else as it is.

    Examples:
        >>> list(join({"SFTMD": {"conv1.bias": torch.zeros(1)}, "Predictor": {}, "Corrector": {}}))
        ['SFTMD.conv1.bias']
    """
    for _, fmt in _formats():
        if contents and contents.keys() <= set(fmt.parts) and all(isinstance(part, dict) for part in contents.values()):
            return {f"{part}.{key}": value for part, state in contents.items() for key, value in strip(state).items()}
    return contents


def split(state: State) -> dict[str, dict[str, Tensor]]:
    """Return the parts of a state dict that `write` returned; {} for a network that is published in one part.

    Examples:
        >>> list(split(write(NETWORKS["IKC"](scale=2, n_feats=8, n_blocks=1))))
        ['SFTMD', 'Predictor', 'Corrector']
    """
    known = [part for _, fmt in _formats() for part in fmt.parts]
    parts = {part: [key for key in state if key.startswith(f"{part}.")] for part in known}
    return {part: {key.removeprefix(f"{part}."): state[key] for key in keys} for part, keys in parts.items() if keys}


def read(state: State) -> tuple[BlindSR, list[str], list[str]]:
    """Build the network that fits a published state dict best.

    Args:
        state: tensors by published name, without `module.`.

    Returns:
        The network, the published names that the state dict lacks or has with another shape, and those it has beyond
        the network. If either list is not empty, the network is on the meta device: it has a config and no weights.

    Examples:
        >>> net = NETWORKS["KDSR_S"](scale=4, n_feats=8, n_blocks=2, n_resblocks=1)
        >>> read(write(net))[0].config
        {'scale': 4, 'n_feats': 8, 'n_blocks': 2, 'n_resblocks': 1}
    """
    candidates = []
    for network, fmt in _formats():
        config = fmt.config(state)
        with torch.device("meta"):  # shapes are enough to compare, and cost nothing
            net = network(**config)
        unused = dict(fmt.unused(config)) if fmt.unused else {}
        candidates.append((net, *(_translate(net.state_dict(), each) for each in (dict(fmt.names(config)), unused))))
    net, keys, unused = max(candidates, key=lambda candidate: len(candidate[1].values() & state.keys()))
    expected = net.state_dict()
    found = {ours: state[theirs] for ours, theirs in keys.items() if theirs in state}
    found = {ours: value for ours, value in found.items() if value.shape == expected[ours].shape}
    missing = sorted(theirs for ours, theirs in keys.items() if ours not in found)
    beyond = state.keys() - set(keys.values()) - set(unused.values())
    extra = sorted(key for key in beyond if not key.startswith(MOMENTUM + MEAN_SHIFT))
    if not missing and not extra:
        with torch.device("cpu"):
            net = type(net)(**net.config).float()
        net.load_state_dict(found)
    return net, missing, extra


def write(net: BlindSR) -> dict[str, Tensor]:
    """Return the state dict that the authors' own code loads, without a momentum encoder.

    Networks with several published formats are written in the first.

    Raises:
        ValueError: the network, or its size, has no published format.
    """
    fmt = next(iter(type(net).foreign), None)
    if fmt is None:
        raise ValueError(f"{name_of(net)} has no published format")
    weights = net.state_dict()
    state = {theirs: weights[ours] for ours, theirs in _translate(weights, dict(fmt.names(net.config))).items()}
    if fmt.unused is not None:
        copies = _translate(weights, dict(fmt.unused(net.config)))
        # Copies, since safetensors takes no shared memory.
        state |= {theirs: weights[ours].clone() for ours, theirs in copies.items()}
    if (read_as := fmt.config(state)) != net.config:
        raise ValueError(f"{name_of(net)} {net.config} has no published format; it would be read as {read_as}")
    if fmt.peak is not None:
        for name, sign in (("sub_mean", -1.0), ("add_mean", 1.0)):
            state[f"G.{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
            state[f"G.{name}.bias"] = sign * fmt.peak * torch.tensor(DIV2K_MEAN)
    return state


def _formats() -> Iterator[tuple[type[BlindSR], Foreign]]:
    for network in NETWORKS.values():
        for fmt in network.foreign:
            yield network, fmt


def _translate(keys: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return each key with its module's name replaced; keys of unknown modules are left out."""
    pairs = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        if key in names:  # the name of a parameter, not of a module
            pairs[key] = names[key]
        elif module in names:
            pairs[key] = f"{names[module]}.{leaf}"
    return pairs
