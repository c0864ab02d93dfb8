"""Run with TRITON_INTERPRET=1: compares the Triton kernel with float64, with all fresh memory full of NaN."""

import torch

from model.op import dense, dispatch
from model.op import dense_triton as kernels

empty = torch.empty
torch.manual_seed(0)
for b, old, new, h, w in [(1, 1, 1, 1, 1), (2, 5, 3, 7, 9), (1, 64, 32, 5, 6), (3, 33, 16, 4, 11), (2, 4, 4, 0, 3)]:
    for layout in (torch.contiguous_format, torch.channels_last):
        for dtype in dispatch.DTYPES:
            seen, y = (torch.randn(b, c, h, w, dtype=dtype).contiguous(memory_format=layout) for c in (old, new))
            bias = torch.randn(2 * new, dtype=dtype)[::2]  # with gaps
            for given in (y, torch.cat((y, y), 1)[:, new:]):
                torch.empty = lambda *args, **kwargs: empty(*args, **kwargs).fill_(float("nan"))
                found = kernels.append(seen, given, bias, 0.1)
                torch.empty = empty
                expected = dense.plain(seen.double(), y.double(), bias.double(), 0.1)
                assert found.dtype == dtype
                assert seen.is_contiguous() or found.is_contiguous(memory_format=layout)
                torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)
assert dense.disagreement(kernels, torch.device("cpu")) == ""
