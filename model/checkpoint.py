"""Checkpoints of networks: saving, loading, and starting from another network's weights.

A checkpoint says what network it holds: `{"format", "network", "config", "params"[, "params_ema", "degradation"]}`,
tensors and plain values. Format 2 is the first that files seal with a digest; format 1 is the same without. Published
weights of the papers' authors load as well, see `foreign.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from . import foreign, zoo
from .layer import BlindSR
from .memory import out_of_memory
from .networks import NETWORKS, build, name_of
from .upsampler import Upsampler
from .weight_file import PARTS, read_file, replacing, write_file, write_safetensors

FOLDER_WEIGHTS = "model.safetensors"  # beside config.json, in the layout of Hugging Face
FORMAT = 2
READABLE = (1, 2)
WEIGHTS = ("auto", *PARTS)  # which weights of a file to load; auto prefers the average
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # where other trainers keep a state dict
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

__all__ = [
    "FORMAT",
    "WEIGHTS",
    "averaged",
    "checkpoint",
    "load_model",
    "read_file",
    "read_tensors",
    "save_folder",
    "save_model",
    "warm_start",
    "write_file",
]


def checkpoint(
    net: BlindSR, ema: BlindSR | None = None, *, degradation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a network and what rebuilds it as tensors and plain values, for `write_file`.

    Args:
        net: the network.
        ema: the same network with the exponential moving average of its weights, kept as `params_ema`.
        degradation: plain values that say what it was trained on, for people and tools; loading does not need them.

    Examples:
        >>> list(checkpoint(build("BICUBIC", scale=2)))
        ['format', 'network', 'config', 'params']
    """
    contents = {"format": FORMAT, "network": name_of(net), "config": net.config, "params": net.state_dict()}
    if degradation is not None:
        contents["degradation"] = dict(degradation)
    return contents if ema is None else {**contents, "params_ema": ema.state_dict()}


def save_model(net: BlindSR, path: str | Path, *, ema: BlindSR | None = None, dtype: torch.dtype | None = None) -> None:
    """Save a network as .pt or .safetensors, by the suffix of `path`; an existing file is replaced whole or not at all.

    Args:
        net: the network.
        path: ends in .pt, .pth or .safetensors.
        ema: the same network with averaged weights, saved beside it.
        dtype: dtype of the weights in the file, such as torch.float16; None keeps theirs. `load_model` makes them
            float32 again.

    Raises:
        ValueError: the suffix is another, `dtype` is no dtype of weights or a weight too large for it, or `net` is not
            one of `NETWORKS` itself.
        OSError: the file cannot be written.

    Examples:
        >>> import tempfile
        >>> net = build("KDSR_S", scale=2, n_feats=8, n_blocks=2, n_resblocks=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(net, f"{folder}/net.safetensors")
        ...     load_model(f"{folder}/net.safetensors").config == net.config
        True
    """
    path = Path(path)
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise ValueError(f"`path` {path}: its suffix must be .pt, .pth or .safetensors")
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"`dtype`: weights are stored as one of {', '.join(map(str, FLOATS))}, not as {dtype}")
    contents = checkpoint(net, ema)
    for part in PARTS if dtype is not None else ():
        if part in contents:
            contents[part] = {name: _converted(value, dtype, name) for name, value in contents[part].items()}
    with replacing(path) as temporary:
        (write_safetensors if path.suffix == ".safetensors" else write_file)(contents, temporary)


def save_folder(net: BlindSR, folder: str | Path) -> None:
    """Save a network in Hugging Face's layout: config.json and model.safetensors in a folder.

    Raises:
        OSError: the folder or its files cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_folder(build("BICUBIC", scale=3), folder)
        ...     load_model(folder).config
        {'scale': 3}
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(net, folder / FOLDER_WEIGHTS)
    described = {"format": FORMAT, "network": name_of(net), "config": net.config}
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def load_model(path: str | Path, device: str | torch.device = "cpu", *, weights: str = "auto") -> BlindSR:
    """Load a network in eval mode, in float32: ours, or one that the papers' authors published.

    A published file may be a state dict or `{"params", "params_ema"}`, may carry `module.` and the like, and may lack
    CDSR's momentum encoder and queue. The three files of IKC are one, `{"SFTMD", "Predictor", "Corrector"}`. Network,
    size and scale are read off the keys and shapes.

    Args:
        path: a .pt, .pth or .safetensors file, a folder with config.json and model.safetensors, or a name in the zoo.
        device: where the network goes.
        weights: "params", "params_ema", or "auto" for the average if the file has one. A plain state dict counts as
            "params".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its contents are not those of one of the networks; the message says which
            keys are missing and which are superfluous. Or PyTorch knows no such device, or finds no GPU.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(build("EDSR", scale=3, n_feats=8, n_blocks=2), f"{folder}/net.safetensors")
        ...     net = load_model(f"{folder}/net.safetensors")
        >>> net.upscale(torch.rand(3, 20, 30)).shape
        torch.Size([3, 60, 90])
    """
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise ValueError(f'`device` {device}: PyTorch knows none of this name; use "cuda" or "cpu"') from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'`device` {device}: PyTorch finds no GPU here; use "cpu"')
    path = zoo.resolve(path)
    contents = _contents(path)
    state = _state_dict(contents, path, weights)
    net = _from_ours(contents, state, path) if "network" in contents else from_published(state, path)
    try:
        return net.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(f'`device` {device}: PyTorch cannot use it here ({reason}); use "cuda" or "cpu"') from error


def averaged(path: str | Path) -> bool:
    """Return True if a file holds averaged weights, which `load_model` prefers; its arguments and errors are the same.

    Examples:
        >>> import tempfile
        >>> net = build("EDSR", scale=3, n_feats=8, n_blocks=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(net, f"{folder}/net.pt", ema=net)
        ...     averaged(f"{folder}/net.pt")
        True
    """
    return "params_ema" in _contents(zoo.resolve(path))


def from_published(state: Mapping[str, Tensor], path: str | Path) -> BlindSR:
    """Return the network of a published state dict; errors name `path`.

    Raises:
        ValueError: the tensors are not those of one of the networks, or no weights.
    """
    state = foreign.strip(state)
    net, missing, extra = foreign.read(state)
    if 2 * len(extra) >= len(state):
        raise ValueError(_unknown(state, extra, path))
    if missing or extra:
        raise ValueError(_misfit(net, missing, extra, path))
    _check_weights(state, path)
    return net


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names, whatever network they are of; for `warm_start`.

    Raises FileNotFoundError if there is no such file, and ValueError for one that is damaged or holds no weights.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"module.weight": torch.zeros(3, 2)}, f"{folder}/net.pt")
        ...     read_tensors(f"{folder}/net.pt")["weight"].shape
        torch.Size([3, 2])
    """
    path = Path(path)
    state = foreign.strip(_state_dict(read_file(path), path, "auto"))
    _check_weights(state, path)
    return dict(state)


@torch.no_grad()
def warm_start(net: BlindSR, source: BlindSR | Mapping[str, Tensor]) -> list[str]:
    """Copy every tensor of another network whose name and shape match, and return the names that stay fresh.

    From one scale to another it keeps trunk and estimator; the upsampler stays fresh, even if a stage of it fits.

    Args:
        net: is changed.
        source: a network, or tensors by their names, such as `read_tensors` returns.

    Examples:
        >>> x2, x4 = (build("EDSR", scale=scale, n_feats=8, n_blocks=2) for scale in (2, 4))
        >>> warm_start(x2, x4)
        ['upsample.0.weight', 'upsample.0.bias']
    """
    theirs = source.state_dict() if isinstance(source, BlindSR) else source
    scale = source.scale if isinstance(source, BlindSR) else net.scale
    fresh: list[str] = []
    upsamplers = [name for name, part in net.named_modules() if isinstance(part, Upsampler)]
    other = tuple(f"{name}." for name in upsamplers if net.scale != scale)
    for name, value in net.state_dict().items():
        if name in theirs and theirs[name].shape == value.shape and not name.startswith(other):
            value.copy_(theirs[name])
        else:
            fresh.append(name)
    return fresh


def _converted(value: Tensor, dtype: torch.dtype | None, name: str) -> Tensor:
    converted = value.to(dtype) if value.is_floating_point() else value
    if not converted.isfinite().all() and value.isfinite().all():
        raise ValueError(f"`dtype` {dtype}: it cannot hold the weights of {name}")
    return converted


def _contents(path: Path) -> dict[str, Any]:
    """Read a file or a folder in Hugging Face's layout."""
    return _read_folder(path) if path.is_dir() else read_file(path)


def _read_folder(folder: Path) -> dict[str, Any]:
    """Read config.json and model.safetensors; where both describe the network, they must agree."""
    path = folder / "config.json"
    for weights in (folder / "model" / "model_latest.pt", folder / "model_latest.pt"):
        if weights.is_file():
            raise ValueError(f"{folder} is the folder of a run; its weights are {weights}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    keys = ("format", "network", "config")
    if not isinstance(described, dict) or any(key not in described for key in keys):
        raise ValueError(f"{path} does not describe a network of ours: it needs {', '.join(keys)}")
    described = {key: described[key] for key in keys}
    contents = read_file(folder / FOLDER_WEIGHTS)
    if "network" not in contents:  # another program rewrote the file, and dropped its metadata
        return {**described, "params": contents}
    if described != {key: contents.get(key) for key in keys}:
        raise ValueError(f"{path} and {FOLDER_WEIGHTS} beside it describe different networks")
    return contents


def _state_dict(contents: dict[str, Any], path: str | Path, weights: str) -> dict[str, Tensor]:
    """Return the weights that are asked for."""
    wrapped = next((contents[name] for name in WRAPPERS if isinstance(contents.get(name), dict)), contents)
    found = {part: contents[part] for part in reversed(PARTS) if part in contents} or {"params": wrapped}
    if weights not in ("auto", *found):
        raise ValueError(f"`weights` {weights}: {path} holds no {weights}, only {' and '.join(found)}")
    name = next(iter(found)) if weights == "auto" else weights
    state = found[name]
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"the {name} of {path} are not a state dict")
    state = dict(foreign.join(state))
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{path} is no state dict: {_listing(others)} are not tensors")
    return state


def _from_ours(contents: dict[str, Any], state: dict[str, Tensor], path: str | Path) -> BlindSR:
    """Build the network of a checkpoint of ours."""
    name, config, fmt = contents["network"], contents.get("config"), contents.get("format")
    if not isinstance(name, str) or name not in NETWORKS or not isinstance(fmt, int) or fmt not in READABLE:
        raise ValueError(
            f"{path} is a {name} checkpoint of format {fmt}; this version reads formats "
            f"{' and '.join(map(str, READABLE))} of {', '.join(NETWORKS)}"
        )
    if not isinstance(config, dict):
        raise ValueError(f"{path} lacks the config of a {name} checkpoint")
    try:
        with _limited(len(state), sum(value.numel() for value in state.values())), torch.device("cpu"):
            net = build(name, **config).float()  # whatever PyTorch's default dtype is
    except Exception as error:  # the config may hold anything
        raise ValueError(
            f"{path} cannot be read as a checkpoint: no {name} has the config {str(config)[:200]} ({error})"
        ) from error
    expected = net.state_dict()
    missing = foreign.misfits(state, expected)
    extra = sorted(state.keys() - expected.keys())
    if missing or extra:
        raise ValueError(_misfit(net, missing, extra, path))
    _check_weights(state, path, expected)
    net.load_state_dict(state)
    return net


@contextmanager
def _limited(tensors: int, elements: int) -> Iterator[None]:
    """Raise ValueError as soon as a network under construction has far more parameters than the file it comes from.

    A small file may claim a huge network. Its memory is not touched: a layer registers its parameters before it fills
    them. A network on the meta device would not bound the number of layers, and would make loading slower by a fifth to
    a half.
    """
    # The hook is global: networks that other threads build meanwhile do not count.
    thread, count, size = threading.get_ident(), 0, 0

    def note(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count, size
        if parameter is not None and threading.get_ident() == thread:
            count, size = count + 1, size + parameter.numel()
            if count > 2 * tensors + 64 or size > 4 * elements + 2**20:
                raise ValueError("it has far more weights than the file")

    hook = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()


def _check_weights(state: Mapping[str, Tensor], path: str | Path, expected: Mapping[str, Tensor] | None = None) -> None:
    """Raise ValueError unless all tensors are finite and of a dtype that weights have."""
    for name, value in state.items():
        counts = name.endswith(("num_batches_tracked", "queue_ptr"))
        counter = not expected[name].is_floating_point() if expected else counts
        if value.dtype not in ((torch.int64,) if counter else FLOATS):
            raise ValueError(f"{path}: {name} is {str(value.dtype).removeprefix('torch.')}, which no weights are")
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"{path} holds weights that are not finite: {_listing(wrong)}; its training went wrong")


def _unknown(state: Mapping[str, Tensor], extra: list[str], path: str | Path) -> str:
    known = ", ".join(name for name, network in NETWORKS.items() if network.foreign)
    remedy = f"Known are {known}. Of other files `warm_start` takes the layers whose name and shape fit"
    if alike := foreign.named_like(state):
        remedy = f"If these are those of our {' or '.join(alike)}, it lacks the sizes: write it with `save_model`"
    return f"{path} is no published file of our networks, which have other keys than {_listing(extra, 3)}. {remedy}"


def _misfit(net: BlindSR, missing: list[str], extra: list[str], path: str | Path) -> str:
    return (
        f"{path} fits no network. The nearest is {name_of(net)} {net.config}: the file lacks, or has otherwise, "
        f"{_listing(missing)}; it has too many: {_listing(extra)}"
    )


def _listing(keys: list[str], most: int = 8) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return (", ".join(keys[:most]) + more) or "nothing"
