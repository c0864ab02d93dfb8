"""Run with TRITON_INTERPRET=1: compares the Triton kernels with float64, with all fresh memory full of NaN."""

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

for b, n, growth, h, w in [(1, 1, 1, 1, 1), (2, 5, 3, 7, 9), (1, 64, 32, 9, 8), (3, 33, 40, 4, 1), (2, 4, 4, 0, 3)]:
    for dtype in dispatch.DTYPES:
        for adds in (True, False):

            def slice_of_all(channels, dtype, b=b, h=h, w=w):
                maps = torch.randn(b, channels + 5, h, w, dtype=dtype).contiguous(memory_format=torch.channels_last)
                return maps[:, 2 : 2 + channels]

            gradient, more, seen = (slice_of_all(c, dtype) for c in (n + growth, n + growth, growth))
            more = more.contiguous(memory_format=torch.channels_last) if adds else None
            dys, sums = slice_of_all(growth, dtype), torch.randn(-(-b * h * w // dense.ROWS), growth + 5)[:, 3:-2]
            before = [t._base.clone() for t in (dys, sums)]
            torch.empty = lambda *args, **kwargs: empty(*args, **kwargs).fill_(float("nan"))
            rest, dy = kernels.peel(gradient, more, seen, dys, sums, 0.1)
            torch.empty = empty
            given = [None if t is None else t.double() for t in (gradient, more, seen)]
            exact_dys, exact_sums = torch.zeros_like(dys, dtype=torch.float64), torch.zeros_like(sums).double()
            expected_rest, expected = dense.plain_peel(*given, exact_dys, exact_sums, 0.1)
            assert rest.dtype == dy.dtype == dtype
            assert all(t.is_contiguous(memory_format=torch.channels_last) for t in ((rest, dy) if adds else (dy,)))
            torch.testing.assert_close(rest.double(), expected_rest, rtol=torch.finfo(dtype).eps, atol=1e-7)
            torch.testing.assert_close(dy.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)
            torch.testing.assert_close(sums.double().sum(0), exact_sums.sum(0), rtol=1e-6, atol=1e-5)
            assert torch.equal(dys, dy)
            for old, new in zip(before, (dys, sums), strict=True):  # around the slices all is as it was
                changed = torch.zeros_like(old, dtype=torch.bool)
                changed.as_strided(new.shape, new.stride(), new.storage_offset()).fill_(True)
                assert torch.equal(old[~changed], new._base[~changed])
assert dense.disagreement(kernels, torch.device("cpu")) == ""
