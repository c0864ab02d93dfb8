"""A training step as one CUDA graph: the host launches it once instead of each of its kernels.

A graph repeats what was recorded, on the same memory: it reads its inputs from buffers, and what the step changes
(weights, moments, queues) where it lay at the capture. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP = 2  # steps before a capture: they search for the fastest convolutions, compile kernels, and make Adam's moments


class GraphedStep:
    """A training step, or a forward pass, on a GPU that is taken as it is at first, and then as a CUDA graph.

    Args:
        step: is given the number of the step and the inputs, and returns values by name. It must not read a tensor on
            the host, nor copy from there. What it changes it must change in place.
    """

    def __init__(self, step: Callable[..., dict[str, Tensor]]) -> None:
        self.step = step
        self._stream = torch.cuda.Stream()
        self.reset()

    def reset(self) -> None:
        """Forget the graph. Call it when the step is to find other tensors than those it has changed so far."""
        self._key: tuple[object, ...] = ()
        self._warm = 0
        self._inputs: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._values: dict[str, Tensor] = {}

    def __call__(self, number: int, *inputs: Tensor) -> dict[str, Tensor]:
        """Take a step, and return its values.

        Args:
            number: a step with another number than before is another step, and is captured anew.
            inputs: on the GPU; inputs of other shapes than before are captured anew.
        """
        key = number, *(x.shape for x in inputs)
        if key != self._key:
            self.reset()
            self._key = key
            self._inputs = [torch.empty_like(x) for x in inputs]
        for static, x in zip(self._inputs, inputs, strict=True):
            static.copy_(x)
        if self._warm < WARMUP:
            self._warm += 1
            return self._beside(number)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            # Records, and computes nothing. Other threads may go on: one pins the next batches.
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._values = self.step(number, *self._inputs)
        self._graph.replay()
        return {name: value.clone() for name, value in self._values.items()}  # the next replay overwrites them

    def _beside(self, number: int) -> dict[str, Tensor]:
        """Take the step on the stream of the capture, where autograd then stays."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = self.step(number, *self._inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return values


def check_graph(device: torch.device, *, processes: int, parts: int, scaled: bool, alike: bool) -> None:
    """Raise ValueError unless the steps of a training run can be captured.

    Args:
        device: where they are computed.
        processes: number of processes that train.
        parts: number of parts of a batch, which go through the network one after the other.
        scaled: the loss is scaled, and the scaler checks that gradients are finite.
        alike: all steps are alike but for a few turns, see `Objective.turns`, and need nothing but images.
    """
    obstacles = {
        f"on a {device.type.upper()}": device.type != "cuda",
        f"of {processes} processes": processes > 1,
        f"with `accumulate` {parts}": parts > 1,
        "with `precision` fp16": scaled,
        "that differ from each other, have several phases or need codes": not alike,
    }
    if found := [text for text, there in obstacles.items() if there]:
        raise ValueError(f"`cuda_graph` cannot capture steps {' and '.join(found)}: leave it out")
