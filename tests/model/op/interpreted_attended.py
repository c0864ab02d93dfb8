"""Run with TRITON_INTERPRET=1: compares the Triton kernel with float64, with all fresh memory full of NaN."""

import torch

from model.op import attended, dispatch
from model.op import attended_triton as kernels

empty_like = torch.empty_like
torch.manual_seed(0)
for b, c, h, w in [(1, 1, 1, 1), (2, 5, 7, 9), (1, 64, 5, 6), (3, 33, 4, 11), (2, 4, 0, 3)]:
    for layout in (torch.contiguous_format, torch.channels_last):
        for dtype in dispatch.DTYPES:
            y, x = (torch.randn(b, c, h, w, dtype=dtype).contiguous(memory_format=layout) for _ in range(2))
            bias = torch.randn(2 * c, dtype=dtype)[::2]  # with gaps, as the attention
            attention = torch.randn(b, 2 * c, 1, 1, dtype=dtype)[:, ::2]
            expected = attended.plain(y.double(), bias.double(), x.double(), attention.double(), 0.1)
            for given in (y, torch.cat((y, y), 1)[:, c:]):
                torch.empty_like = lambda *args, **kwargs: empty_like(*args, **kwargs).fill_(float("nan"))
                found = kernels.attend(given, bias, x, attention, 0.1)
                torch.empty_like = empty_like
                assert found.dtype == dtype
                assert found.stride() == x.stride()
                torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=2e-6)
for dtype in attended.DTYPES:
    assert attended.disagreement(kernels, torch.device("cpu"), dtype) == ""
