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


def part_of_more(*size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random columns, or channels in channels_last, and what they and their neighbours are part of."""
    b, c, *others = size
    whole = torch.randn(b, c + 5, *others, dtype=dtype)
    whole = whole.contiguous(memory_format=torch.channels_last) if others else whole
    return whole[:, 2 : 2 + c], whole


for b, n, growth, h, w in [(1, 1, 1, 1, 1), (2, 5, 3, 7, 9), (1, 64, 32, 9, 8), (3, 33, 40, 4, 1), (2, 4, 4, 0, 3)]:
    for dtype in dispatch.DTYPES:
        for adds in (False, True):
            gradient, more, seen = (part_of_more(b, c, h, w, dtype=dtype)[0] for c in (n + growth, n + growth, growth))
            more = more.contiguous(memory_format=torch.channels_last) if adds else None
            dys, all_dys = part_of_more(b, growth, h, w, dtype=dtype)
            sums, all_sums = part_of_more(-(-b * h * w // dense.ROWS), growth, dtype=torch.float32)
            around = [torch.cat((t[:, :2], t[:, -3:]), 1) for t in (all_dys, all_sums)]
            torch.empty = lambda *args, **kwargs: empty(*args, **kwargs).fill_(float("nan"))
            rest, dy = kernels.peel(gradient, more, seen, dys, sums, 0.1)
            torch.empty = empty
            exact = gradient.double(), None if more is None else more.double(), seen.double()
            expected_rest, expected = dense.plain_peel(*exact, torch.empty_like(exact[2]), sums.double(), 0.1)
            assert rest.dtype == dy.dtype == dtype
            assert all(t.is_contiguous(memory_format=torch.channels_last) for t in ((rest, dy) if adds else (dy,)))
            torch.testing.assert_close(rest.double(), expected_rest, rtol=torch.finfo(dtype).eps, atol=1e-7)
            torch.testing.assert_close(dy.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)
            torch.testing.assert_close(sums.double().sum(0), expected.sum((0, 2, 3)), rtol=1e-6, atol=1e-5)
            assert torch.equal(dys, dy)
            for before, t in zip(around, (all_dys, all_sums), strict=True):  # what others have written stays
                assert torch.equal(torch.cat((t[:, :2], t[:, -3:]), 1), before)
for dtype in dense.DTYPES:
    assert dense.disagreement(kernels, torch.device("cpu"), dtype) == ""
