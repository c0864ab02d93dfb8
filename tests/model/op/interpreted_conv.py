"""Run with TRITON_INTERPRET=1: compares the Triton kernels with float64, with all fresh memory full of NaN."""

import itertools

import torch

from model.op import conv
from model.op import conv_triton as kernels

empty, empty_like = torch.empty, torch.empty_like


def poisoned(make):
    return lambda *args, **kwargs: make(*args, **kwargs).fill_(float("nan"))


def compare(size, dtype, add_to, slope, scale):
    y, d = (torch.randn(size).contiguous(memory_format=torch.channels_last) for _ in range(2))
    y, bias = y.to(dtype), torch.randn(size[1]).to(dtype)
    torch.empty, torch.empty_like = poisoned(empty), poisoned(empty_like)
    result = y.clone() if add_to is None else torch.empty_like(y, dtype=torch.float32)
    kernels.follow(result if add_to is None else y, bias, add_to, slope, scale, result)
    d, out = d.to(result.dtype), None if slope == 1 else result
    dy, dbias = kernels.precede(d, out, slope, scale, dtype)
    torch.empty, torch.empty_like = empty, empty_like
    assert (dy.dtype, dbias.dtype) == (dtype, torch.float32)
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (result, dy))
    added = None if add_to is None else add_to.double()
    expected = (
        conv.plain(y.double(), bias.double(), added, slope, scale),
        *conv.plain_backward(d.double(), None if out is None else out.double(), slope, scale, torch.float64),
    )
    for ours, theirs in zip((result, dy, dbias), expected, strict=True):
        # The interpreter cuts off where a GPU rounds to the nearest.
        tolerance = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[ours.dtype]
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=1e-5)


torch.manual_seed(0)
SIZES = [(2, 3, 5, 7), (1, 65, 9, 8), (2, 64, 4, 8)]
for size, dtype in itertools.product(SIZES, (torch.float32, torch.bfloat16, torch.float16)):
    compare(size, dtype, None, 0.1, 1.0)
    compare(size, dtype, torch.randn(size).contiguous(memory_format=torch.channels_last), 1.0, 0.2)
kernels.PROGRAMS = 2  # which take several turns
compare((2, 3, 9, 13), torch.bfloat16, None, 0.1, 1.0)
for dtype in conv.DTYPES:
    assert conv.disagreement(kernels, torch.device("cpu"), dtype) == ""
