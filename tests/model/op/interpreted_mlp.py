"""Run with TRITON_INTERPRET=1: compares the Triton kernel with float64, with all fresh memory full of NaN."""

import torch

from model.op import mlp
from model.op import mlp_triton as kernels

new_empty = torch.Tensor.new_empty


def compare(b, c, inner, n):
    x, first, second = torch.randn(2 * b, c)[::2], torch.randn(inner, c), torch.randn(n, inner)  # x with gaps
    torch.Tensor.new_empty = lambda *args, **kwargs: new_empty(*args, **kwargs).fill_(float("nan"))
    found = kernels.mlp(x, first, second, 0.1)
    torch.Tensor.new_empty = new_empty
    for ours, theirs in zip(found, mlp.plain(x.double(), first.double(), second.double(), 0.1), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


torch.manual_seed(0)
for size in [(1, 1, 1, 1), (2, 5, 3, 65), (3, 33, 64, 297), (2, 64, 64, 576)]:
    compare(*size)
for dtype in mlp.DTYPES:
    assert mlp.disagreement(kernels, torch.device("cpu"), dtype) == ""
