"""Run with TRITON_INTERPRET=1: compares the Triton kernels with float64, with all fresh memory full of NaN."""

import itertools

import torch

from model.op import depthwise
from model.op import depthwise_triton as kernels

# The interpreter's time goes by programs times rows: few rows make several programs of a map.
kernels.ROWS = 4
SIZES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 33, 5, 16), (1, 2, 9, 2), (1, 32, 4, 17)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
MIXED = [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16)]
empty, empty_like = torch.empty, torch.empty_like


def poisoned(make):
    return lambda *args, **kwargs: make(*args, **kwargs).fill_(float("nan"))


def compare(size, layout, dtype, out, slope):
    b, c = size[:2]
    x = torch.randn(size).to(dtype).contiguous(memory_format=layout)
    kernel, dy = torch.randn(b, c, 3, 3), torch.randn(size).to(out)
    torch.empty, torch.empty_like = poisoned(empty), poisoned(empty_like)
    keep = out != dtype
    y, kept = kernels.forward(x, kernel, slope, out, keep)
    read = kept if keep else x
    add_to = torch.randn(size).to(dtype) if keep else None
    given = [t for t in (dy, read, kernel, y, add_to) if t is not None]
    before = [t.clone() for t in given]
    dx, dk = kernels.backward(dy, read, kernel, y, slope, dtype, add_to)
    torch.empty, torch.empty_like = empty, empty_like
    assert all(map(torch.equal, given, before))  # so that it gives the same again
    assert (y.dtype, dx.dtype, dk.dtype) == (out, dtype, torch.float32)
    assert y.stride() == dx.stride() == x.stride()
    if keep:
        torch.testing.assert_close(kept, x.to(out), rtol=2**-7, atol=0)
    dy, x, read, kernel, exact = (t.double() for t in (dy, x, read, kernel, y))
    add_to = None if add_to is None else add_to.double()
    expected = depthwise.plain(x, kernel, slope), *depthwise._plain_backward(dy, read, kernel, exact, slope, add_to)
    for ours, theirs in zip((y, dx, dk), expected, strict=True):
        # The interpreter cuts off where a GPU rounds to the nearest.
        tolerance = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[ours.dtype]
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=1e-5)


torch.manual_seed(0)
for size, layout in itertools.product(SIZES, LAYOUTS):
    compare(size, layout, torch.float32, torch.float32, 0.1)
for (dtype, out), layout in itertools.product(MIXED, LAYOUTS):
    compare((2, 3, 3, 18), layout, dtype, out, 0.1)
compare((1, 2, 5, 7), torch.channels_last, torch.float32, torch.float32, 1.0)
whole = torch.randn(1, 4, 9, 20)
part, kernel, dy = whole[:, 1:3, ::2, 3:], torch.randn(1, 2, 3, 3), torch.randn(1, 2, 5, 17)  # with gaps
y, _ = kernels.forward(part, kernel, 0.1, torch.float32, False)
torch.testing.assert_close(y, depthwise.plain(part, kernel, 0.1))
gradients = kernels.backward(dy.expand(1, 2, 5, 17), part, kernel, y, 0.1, torch.float32, None)
for ours, theirs in zip(gradients, depthwise._plain_backward(dy, part, kernel, y, 0.1), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
kernels.MANY, kernels.LONG = 1, 4  # the backward takes rows of its own
compare((1, 2, 6, 3), torch.channels_last, torch.float32, torch.bfloat16, 0.1)
kernels.BW = kernels.BC = 64  # the interpreter takes as long for a small tile
kernels.ROWS = kernels.LONG = 32
kernels.TILE |= {"BW": 64, "BC": 64}
assert depthwise.disagreement(kernels, torch.device("cpu"), torch.float32) == ""
