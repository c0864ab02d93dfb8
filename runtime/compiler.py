"""Check that `torch.compile` works on this machine: it needs compilers that do not come with PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def _sample(x: Tensor) -> Tensor:
    return (x.square() + 1).sum()


def check_compiler(device: torch.device) -> None:
    """Compile a small function for a device, which takes some seconds. Raise ValueError if that fails."""
    x = torch.arange(4.0, device=device, requires_grad=True)
    try:
        torch.compile(_sample, fullgraph=True)(x).backward()
    except Exception as error:  # no compiler, no headers, no Triton, a full disk: it fails in a dozen ways
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"`compile`: PyTorch cannot compile here ({type(error).__name__}: {reason}). "
            f"It needs {_NEEDS[device.type]}; or leave `compile` out"
        ) from error


_COMPILER = "(Debian and Ubuntu: apt install g++; macOS: xcode-select --install; Windows: Visual Studio's Build Tools)"
_NEEDS = {
    "cpu": f"a C++ compiler {_COMPILER}",
    "cuda": f"Triton (pip install triton; on Windows triton-windows), Python's headers and a C compiler {_COMPILER}",
}
