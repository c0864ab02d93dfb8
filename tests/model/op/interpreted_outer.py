"""Run with TRITON_INTERPRET=1: compares the Triton kernels with float64, with all fresh memory full of NaN."""

import torch

from model.op import outer
from model.op import outer_triton as kernels

empty, empty_like = torch.empty, torch.empty_like


def poisoned(make):
    return lambda *args, **kwargs: make(*args, **kwargs).fill_(float("nan"))


def compare(b, c, scale=1.0):
    mean, key, value, code, dy = scale * torch.randn(5, b, c)
    mean = torch.cat((mean, mean), 1)[:, :c]  # with gaps
    weight, bias, gamma = torch.randn(c, c) / c**0.5, torch.randn(c), torch.randn(1)
    torch.empty, torch.empty_like = poisoned(empty), poisoned(empty_like)
    y = kernels.forward(mean, weight, bias, key, value, code, gamma)
    gradients = kernels.backward(dy, mean, weight, bias, key, value, gamma)
    torch.empty, torch.empty_like = empty, empty_like
    mean, weight, bias, key, value, code, dy, gamma = (
        t.double() for t in (mean, weight, bias, key, value, code, dy, gamma)
    )
    expected = (
        outer.plain(mean, weight, bias, key, value, code, gamma),
        *outer.plain_backward(dy, mean, weight, bias, key, value, gamma),
    )
    for ours, theirs in zip((y, *gradients), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5 * scale**3)


torch.manual_seed(0)
for b, c in [(1, 1), (2, 5), (3, 33), (2, 64)]:
    compare(b, c)
compare(2, 64, scale=20.0)  # logits of some hundreds, that must not overflow
for dtype in outer.DTYPES:
    assert outer.disagreement(kernels, torch.device("cpu"), dtype) == ""
