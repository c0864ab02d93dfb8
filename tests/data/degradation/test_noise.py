from __future__ import annotations

import torch

from data.degradation.noise import add_noise


def test_level_per_sample():
    x = torch.full((4, 3, 128, 128), 0.5)
    sigma = torch.tensor([0.0, 0.01, 0.1, 0.5], dtype=torch.float64)
    noise = add_noise(x, sigma, torch.Generator().manual_seed(0)) - x
    assert torch.equal(noise[0], torch.zeros_like(noise[0]))
    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise.std((1, 2, 3)).double(), sigma, rtol=0.02, atol=0)
    assert noise.mean((1, 2, 3)).abs().max() < 0.01


def test_channels_and_samples_differ():
    noise = (
        add_noise(torch.zeros(2, 3, 64, 64), torch.ones(2), torch.Generator().manual_seed(0)).flatten(2).flatten(0, 1)
    )
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 0.1


def test_generator_decides():
    x, sigma = torch.zeros(1, 3, 8, 8), torch.ones(1)
    first, same, other = (add_noise(x, sigma, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
