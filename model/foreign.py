"""Published weights of the networks: reading and writing files under their authors' key names.

A published file is a state dict, or `{"params": ..., "params_ema": ...}`; its keys may carry a prefix (`WRAPPERS`).
For a network that is published in several state dicts (IKC), it is one file that holds all of them by name. Network,
size and scale are read off keys and shapes. The formats themselves stand beside each network, in `BlindSR.foreign`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .layer import DIV2K_MEAN, BlindSR
from .naming import Foreign, State
from .networks import NETWORKS, name_of

MOMENTUM = ("E.encoder_k.", "E.queue", "E.queue_ptr")  # CDSR's and DASR's files hold more than the network
WRAPPERS = re.compile(r"^((module|_orig_mod|generator)\.)+")  # of DataParallel, torch.compile and MMEditing


def strip(state: State) -> dict[str, Tensor]:
    """Remove what DataParallel, torch.compile and MMEditing put before each key.

    Examples:
        >>> list(strip({"module._orig_mod.conv.bias": torch.zeros(1)}))
        ['conv.bias']
    """
    return {WRAPPERS.sub("", key): value for key, value in state.items()}


def misfits(state: State, expected: State) -> list[str]:
    """Return the names that a state dict lacks or has with another shape; the shapes stand behind the name.

    Examples:
        >>> misfits({"a": torch.zeros(2, 3)}, {"a": torch.zeros(2, 4), "b": torch.zeros(5)})
        ['a with shape (2, 3) instead of (2, 4)', 'b']
    """
    shapes = {key: (tuple(state[key].shape), tuple(expected[key].shape)) for key in state.keys() & expected.keys()}
    others = [f"{key} with shape {found} instead of {due}" for key, (found, due) in shapes.items() if found != due]
    return sorted([*others, *(expected.keys() - state.keys())])


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


def named_like(state: State) -> list[str]:
    """Return the networks whose own names the keys of a state dict may be, as far as their first words tell.

    Examples:
        >>> named_like(NETWORKS["EDSR"](scale=2, n_feats=8, n_blocks=1).state_dict())
        ['EDSR', 'RRDB']
    """
    words = {key.partition(".")[0] for key in state}
    with torch.device("meta"):
        nets = [network(**fmt.config(state)) for network, fmt in _formats()]
    alike = [name_of(net) for net in nets if words and words <= {child for child, _ in net.named_children()}]
    return list(dict.fromkeys(alike))  # once, however many formats


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
        state: tensors by published name, without what `strip` removes.

    Returns:
        The network, the published names that the state dict lacks or has with another shape or value (behind the name),
        and those it has beyond the network. If either list is not empty, the network is on the meta device: it has a
        config and no weights.

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
        translated = (_translate(net.state_dict(), each) for each in (dict(fmt.names(config)), unused))
        candidates.append((fmt, net, *translated))
    fmt, net, keys, unused = max(candidates, key=lambda candidate: len(candidate[2].values() & state.keys()))
    weights, shifts = net.state_dict(), _mean_shifts(fmt)
    missing = misfits(state, {theirs: weights[ours] for ours, theirs in keys.items()})
    others = [key for key in shifts if key in state and not _close(state[key], shifts[key])]
    missing += [f"{key} with {_levels(state[key])} instead of {_levels(shifts[key])}" for key in others]
    beyond = state.keys() - {*keys.values(), *unused.values(), *shifts}
    extra = sorted(key for key in beyond if not key.startswith(MOMENTUM))
    if not missing and not extra:
        with torch.device("cpu"):
            net = type(net)(**net.config).float()
        found = {ours: state[theirs] for ours, theirs in keys.items()}
        net.load_state_dict(_scaled(found, dict(fmt.factors(net.config)) if fmt.factors else {}))
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
    factors = fmt.factors(net.config) if fmt.factors else ()
    weights = _scaled(net.state_dict(), {module: 1 / factor for module, factor in factors})
    state = {theirs: weights[ours] for ours, theirs in _translate(weights, dict(fmt.names(net.config))).items()}
    if fmt.unused is not None:
        copies = _translate(weights, dict(fmt.unused(net.config)))
        # Copies, since safetensors takes no shared memory.
        state |= {theirs: weights[ours].clone() for ours, theirs in copies.items()}
    if (read_as := fmt.config(state)) != net.config:
        raise ValueError(f"{name_of(net)} {net.config} has no published format; it would be read as {read_as}")
    return state | _mean_shifts(fmt)


def _formats() -> Iterator[tuple[type[BlindSR], Foreign]]:
    for network in NETWORKS.values():
        for fmt in network.foreign:
            yield network, fmt


def _mean_shifts(fmt: Foreign) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, peak in fmt.mean_shifts.items():
        state[f"{name}.weight"] = torch.eye(3, dtype=torch.float32, device="cpu").view(3, 3, 1, 1)
        state[f"{name}.bias"] = peak * torch.tensor(DIV2K_MEAN, dtype=torch.float32, device="cpu")
    return state


def _close(value: Tensor, expected: Tensor) -> bool:
    return value.shape == expected.shape and torch.allclose(value.float(), expected, rtol=4e-3, atol=1e-3)  # of bf16


def _levels(value: Tensor) -> str:
    return ", ".join(f"{level:.4g}" for level in value.flatten().tolist()[:9])


def _scaled(state: State, factors: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the tensors, those of some modules in float32 and times a factor."""
    modules = {key: key.rpartition(".")[0] for key in state}
    return {
        key: value.float() * factors[modules[key]] if modules[key] in factors else value for key, value in state.items()
    }


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
