"""Run with TRITON_INTERPRET=1: compares the Triton kernels with float64, with all fresh memory full of NaN."""

import torch

from model.op import dispatch, shuffle
from model.op import shuffle_triton as kernels

empty = torch.empty
torch.manual_seed(0)
kernels.PROGRAMS = 2  # each takes more than one tile of 8 pixels, of both samples in turn
for b, c, h, w in [(1, 1, 1, 1), (2, 5, 3, 5), (1, 64, 3, 6), (1, 33, 3, 7), (1, 70, 1, 3)]:
    for factor in (2, 3):
        for dtype in dispatch.DTYPES:
            y = torch.randn(b, c * factor**2, h, w, dtype=dtype)
            dy = torch.randn(b, c, factor * h, factor * w, dtype=dtype)
            bias = torch.randn(2 * c * factor**2, dtype=dtype)[::2]  # with gaps
            expected = (
                shuffle.plain(y.double(), bias.double(), factor),
                *shuffle.plain_backward(dy.double(), factor),
            )
            # The host lays maps out before the kernels see them, whatever the dtype is.
            layouts = [torch.contiguous_format, torch.channels_last][dtype != torch.float32 :]
            for layout in layouts:
                given, gradient = (t.contiguous(memory_format=layout) for t in (y, dy))
                torch.empty = lambda *args, **kwargs: empty(*args, **kwargs).fill_(float("nan"))
                found = kernels.shuffle(given, bias, factor), *kernels.unshuffle(gradient, factor)
                torch.empty = empty
                for ours, theirs in zip(found, expected, strict=True):
                    assert ours.dtype == (torch.float32 if ours is found[2] else dtype)
                    assert ours.ndim == 1 or ours.is_contiguous(memory_format=torch.channels_last)
                    torch.testing.assert_close(ours.double(), theirs, rtol=torch.finfo(dtype).eps, atol=1e-5)
assert kernels.shuffle(torch.rand(2, 8, 0, 3), torch.rand(8), 2).shape == (2, 2, 0, 6)
g, dbias = kernels.unshuffle(torch.rand(2, 2, 0, 6), 2)
assert g.shape == (2, 8, 0, 3)
assert torch.equal(dbias, torch.zeros(8))
kernels.TILE = 2**19  # the interpreter takes as long for a small tile
for dtype in shuffle.DTYPES:
    assert shuffle.disagreement(kernels, torch.device("cpu"), dtype) == ""
