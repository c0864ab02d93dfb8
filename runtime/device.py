"""The device that a process computes on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from runtime.precision import Precision


def check_devices(*, n_GPUs: int, cpu: bool) -> None:  # noqa: N803 (published name)
    """Raise ValueError if more GPUs are asked for than PyTorch finds. It is cheap: call it before anything is started.

    One GPU is never refused: without any, a run falls back to the CPU. `cpu` starts any number of processes there.
    """
    found = _count()
    if not cpu and n_GPUs > max(found, 1):
        raise ValueError(
            f"`n_GPUs` {n_GPUs}: PyTorch finds {found} CUDA device{'s' * (found != 1)} here; "
            "ask for fewer, or add `cpu` to run so many processes without a GPU"
        )


def choose_device(
    *,
    cpu: bool,
    n_GPUs: int,  # noqa: N803 (published name)
    precision: Precision,
    log: Callable[[str], None],
    local_rank: int = 0,
    one_size: bool = False,
) -> torch.device:
    """Return the device of this process, and set the switches of `precision` for it.

    Args:
        cpu: use the CPU even if there is a GPU; `n_GPUs` 0 does the same.
        log: is told when the process runs on the CPU, and why.
        local_rank: this process's number on its machine, which picks the GPU.
        one_size: most images have the same size, so that cuDNN may search for its fastest convolutions.

    Raises ValueError if there are fewer GPUs than `n_GPUs`, or none for `local_rank`.
    """
    check_devices(n_GPUs=n_GPUs, cpu=cpu)
    precision.prepare(one_size=one_size)
    found, chosen = _count(), cpu or n_GPUs == 0
    if chosen or not found:
        log("running on the CPU" if chosen else "running on the CPU: PyTorch finds no CUDA device")
        if precision.precision == "tf32":
            log("note: `precision` tf32 has no effect on the CPU, which computes in fp32")
        torch.set_flush_denormal(True)  # the tails of narrow kernels are denormal, and slow
        return torch.device("cpu")
    if local_rank >= found:
        raise ValueError(
            f"`n_GPUs`: process {local_rank + 1} of this machine finds no GPU of its own, there are {found}"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _count() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
