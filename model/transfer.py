"""Take tiles to a GPU and back without making it wait: pinned memory, and a stream that copies beside the work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor on the CPU to a device; to a GPU from pinned memory, so that the host goes on meanwhile.

    Examples:
        >>> upload(torch.ones(2), torch.device("cpu"))
        tensor([1., 1.])
    """
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class Download:
    """Results on their way to the CPU: from a GPU, one is copied while the next is computed.

    Args:
        device: where the results are computed.

    Examples:
        >>> download = Download(torch.device("cpu"))
        >>> download.send(torch.ones(2), print)
        tensor([1., 1.])
        >>> download.finish()
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._waiting: tuple[Tensor, torch.cuda.Event, Callable[[Tensor], None]] | None = None

    def send(self, result: Tensor, use: Callable[[Tensor], None]) -> None:
        """Call use(result on the CPU): from a GPU when the next result is sent or at `finish`, else at once."""
        if self._stream is None:
            use(result.cpu())
            return
        room = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(result.device))
        with torch.cuda.stream(self._stream):
            room.copy_(result, non_blocking=True)
        result.record_stream(self._stream)  # its memory is not given away before it was copied
        copied = torch.cuda.Event()
        copied.record(self._stream)
        self.finish()
        self._waiting = room, copied, use

    def finish(self) -> None:
        """Use the result that is still on its way, if there is one."""
        if self._waiting is None:
            return
        room, copied, use = self._waiting
        self._waiting = None
        copied.synchronize()
        use(room)
