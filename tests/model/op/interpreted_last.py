"""Run with TRITON_INTERPRET=1: compares the Triton kernels with float64, with all fresh memory full of NaN."""

import torch

from model.op import last
from model.op import last_triton as kernels

empty, empty_like = torch.empty, torch.empty_like


def poisoned(make):
    return lambda *args, **kwargs: make(*args, **kwargs).fill_(float("nan"))


def compare(b, c, h, w, n=3, dtype=torch.bfloat16, layout=torch.channels_last):
    x = torch.randn(b, c, h, w).to(dtype, memory_format=torch.channels_last)
    weight, bias = torch.randn(n, c, 3, 3).contiguous(memory_format=layout), torch.randn(2 * n)[::2]  # with gaps
    dy = torch.randn(b, n, h, w).contiguous(memory_format=layout)
    torch.empty, torch.empty_like = poisoned(empty), poisoned(empty_like)
    y = kernels.forward(x, weight, bias)
    dx, dweight = kernels.backward(dy, x, weight)
    torch.empty, torch.empty_like = empty, empty_like
    assert (y.dtype, dx.dtype, dweight.dtype) == (torch.float32, dtype, torch.float32)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.stride() == x.stride()
    dy, x, weight, bias = (t.double() for t in (dy, x, weight, bias))
    expected = last.plain(x, weight, bias), *last.plain_backward(dy, x, weight)
    for ours, theirs in zip((y, dx, dweight), expected, strict=True):
        # The interpreter cuts off where a GPU rounds to the nearest.
        tolerance = max(1e-5, torch.finfo(ours.dtype).eps)
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=1e-5 * theirs.abs().max().item())


torch.manual_seed(0)
kernels.ROWS = 4  # the interpreter's time goes by programs times rows: few rows make several programs of a map
for dtype in last.TOLERANCE:
    compare(2, 33, 5, 37, dtype=dtype)
    compare(2, 64, 5, 70, dtype=dtype, layout=torch.contiguous_format)
compare(1, 1, 1, 1, n=1)
compare(1, 5, 3, 2, n=2)
compare(1, 128, 4, 64)
kernels.PROGRAMS = 2  # each takes several tiles, of both samples
compare(2, 16, 9, 16)
x, weight = torch.randn(1, 4, 5, 3).bfloat16(), torch.randn(3, 4, 3, 3)
dy = torch.randn(1, 3, 1, 1).expand(1, 3, 5, 3)  # as the gradient of a sum, and maps of another layout
for ours, theirs in zip(kernels.backward(dy, x, weight), last.plain_backward(dy, x, weight), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-5)
kernels.ROWS, kernels.BP = 32, 1024  # it takes as long for a small tile
for dtype in last.DTYPES:
    assert last.disagreement(kernels, torch.device("cpu"), dtype) == ""
