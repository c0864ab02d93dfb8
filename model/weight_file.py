"""Files of tensors and plain values, sealed with a digest: written so that damage shows, read as untrusted.

The suffix tells the kind: `.safetensors`, or PyTorch's zip for all others. Neither runs code when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

DIGEST = "digest"  # the key under which a file holds its own
PARTS = ("params", "params_ema")  # the weights, and their exponential moving average
OTHERS = {  # what lies in the place of weights, by its first bytes
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the file",
    b"<": "a web page; download the file itself",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}
DEPTH = 32  # containers inside one another
VALUES = 10**6  # in one file
NUMBERS = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64),
}


def write_file(contents: Mapping[str, Any], path: str | Path) -> None:
    """Write a dict of tensors and plain values, with a SHA-256 digest over all of them.

    The file is written in place: write to a temporary path and rename it where a reader must never meet half a file.

    Args:
        contents: nested dicts, lists and tuples of tensors, numbers, strings, bytes and None.
        path: the file; what was there before is lost.

    Raises:
        ValueError: something in `contents` is of another kind.
        OSError: the file cannot be written, for want of space or of permission.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_file({"step": 3, "weights": [torch.ones(2)]}, f"{folder}/state.pt")
        ...     read_file(f"{folder}/state.pt")
        {'step': 3, 'weights': [tensor([1., 1.])]}
    """
    sealed = {**contents, DIGEST: digest(contents, path)}
    with Path(path).open("wb") as file:
        try:
            torch.save(sealed, file)
        except RuntimeError as error:
            # PyTorch's writer raises its own error and hides the cause, such as a full disk or Ctrl-C.
            hidden = error.__context__
            raise hidden if isinstance(hidden, OSError | KeyboardInterrupt | SystemExit) else error from None


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values to the CPU, and verify it as far as its format allows.

    Files written here carry a digest, which is verified and left out of the result. Of other PyTorch files the
    checksums of the zip are verified, if they are zips.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, holds objects other than tensors and plain values, or tensors
            whose memory is not all in the file (sparse, quantized, meta or expanded ones).

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_file({"step": 3, "mean": torch.ones(2)}, f"{folder}/small.pt")
        ...     read_file(f"{folder}/small.pt")
        {'step': 3, 'mean': tensor([1., 1.])}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(64)
    is_safetensors = head[8:10] == b'{"'  # after the length of its header
    for beginning, kind in OTHERS.items():
        if head.startswith(beginning) and not is_safetensors:
            raise ValueError(f"{path} holds no weights: it is {kind}")
    is_safetensors |= path.suffix == ".safetensors"
    contents = _read_safetensors(path) if is_safetensors else _read_torch(path)
    sealed = contents.pop(DIGEST) if isinstance(contents.get(DIGEST), str) else None
    found = digest(contents, path)  # walks the contents of all files, and refuses what is not plain
    if sealed is not None and found != sealed:
        raise ValueError(f"{path} is damaged: its contents do not match their digest")
    return contents


def write_safetensors(contents: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint as safetensors: all but the weights goes into the metadata, as JSON strings.

    The tensors of one set of weights keep their names; those of two are prefixed with `params.` and `params_ema.`.
    """
    parts = [part for part in PARTS if part in contents]
    tensors = {
        name if parts == ["params"] else f"{part}.{name}": value.detach().cpu().contiguous()
        for part in parts
        for name, value in contents[part].items()
    }
    plain = {key: value for key, value in contents.items() if key not in PARTS}
    metadata = {key: json.dumps(value) for key, value in {**plain, DIGEST: digest(contents, path)}.items()}
    # Its own writer makes files that nobody else may read, and hides the error of a full disk.
    Path(path).write_bytes(save(tensors, metadata=metadata))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error.

    Raises FileNotFoundError if its folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(contents: Any, path: str | Path) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of all tensors and over all plain values.

    The order of a dict's keys does not matter.

    Raises:
        ValueError: a value is no tensor and not plain, or nested too deep; the message names `path` and the key.
    """
    sha = hashlib.sha256()
    for count, (name, value) in enumerate(_walk(contents, path)):
        if count == VALUES:
            raise ValueError(f"{path} holds more than {VALUES} values")
        sha.update(f"{len(name)} {name}".encode())
        if isinstance(value, Tensor):
            _check_tensor(value, name, path)
            flat = value.detach().cpu().resolve_conj().resolve_neg().reshape(-1)
            sha.update(f"{value.dtype} {list(value.shape)}".encode())
            sha.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")  # type: ignore[arg-type]
        else:
            text = repr(value)  # tells 1, 1.0, True and "1" apart, and floats to the last bit
            sha.update(f"{len(text)} {text}".encode())
    return sha.hexdigest()


def _walk(value: Any, path: str | Path, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the leaves with their names, and for each container a description."""
    if depth > DEPTH:
        raise ValueError(f"{path} is nested deeper than {DEPTH} levels at {name[:80]}")
    if isinstance(value, Mapping):
        yield name, f"dict of {len(value)}"
        for key in sorted(value, key=repr):
            if not isinstance(key, str | int | float | bool | tuple | None):
                raise ValueError(f"{path}: a key of {name or 'the file'} is a {type(key).__name__}")
            yield from _walk(value[key], path, f"{name}[{key!r}]", depth + 1)
    elif isinstance(value, list | tuple):
        yield name, f"list of {len(value)}"  # JSON knows no tuples
        for i, item in enumerate(value):
            yield from _walk(item, path, f"{name}[{i}]", depth + 1)
    elif value is None or isinstance(value, Tensor | str | bytes | bool | int | float | complex):
        yield name, value
    else:
        raise ValueError(f"{path} holds more than tensors and plain values: {name} is a {type(value).__name__}")


def _check_tensor(value: Tensor, name: str, path: str | Path) -> None:
    """Raise ValueError unless every element of the tensor has bytes of its own."""
    kind = None
    if value.layout != torch.strided:
        kind = "sparse"
    elif value.is_quantized:
        kind = "quantized"
    elif value.device.type == "meta":
        kind = "meta"
    elif value.dtype not in NUMBERS:
        kind = str(value.dtype).removeprefix("torch.")
    elif value.numel() * value.element_size() > value.untyped_storage().nbytes() or any(
        stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True)
    ):
        kind = "expanded"  # a few bytes that claim to be many
    if kind is not None:
        raise ValueError(f"{path}: {name} is a tensor of a kind that weight files do not hold: {kind}")


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            begins_as_zip = file.read(4) == b"PK\x03\x04"
        if begins_as_zip or zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # PyTorch's reader ignores the checksums
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {damaged} is wrong")
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # files of other kinds fail in a dozen ways
        reason = error if type(error) is ValueError else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged, something else, or holds more than tensors and "
            f"plain values ({reason})"
        ) from error
    if not isinstance(contents, dict) or not all(isinstance(key, str) for key in contents):
        raise ValueError(f"{path} holds no state dict, but a {type(contents).__name__}")
    return contents


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            metadata = file.metadata() or {}
        if "network" not in metadata and DIGEST not in metadata:
            return tensors  # of another program
        contents = {key: json.loads(value) for key, value in metadata.items()}
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: it is damaged or something else ({error})") from error
    if not isinstance(contents.get(DIGEST), str):
        raise ValueError(f"{path} is damaged: its digest is missing")
    parts: dict[str, dict[str, Tensor]] = {}
    prefixed = bool(tensors) and all(name.startswith(tuple(f"{part}." for part in PARTS)) for name in tensors)
    for name, value in tensors.items():
        part, rest = name.split(".", 1) if prefixed else ("params", name)
        parts.setdefault(part, {})[rest] = value
    return {**contents, **(parts or {"params": {}})}
