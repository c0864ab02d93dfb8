"""Checks of distributions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def assert_uniform() -> Callable[[Tensor, float, float], None]:
    """Kolmogorov-Smirnov distance of draws to U(low, high) below 1.95 / √n, its 99.9 % point."""

    def check(draws: Tensor, low: float, high: float) -> None:
        unit = ((draws.double() - low) / (high - low)).sort().values
        assert unit[0] >= 0
        assert unit[-1] <= 1
        steps = torch.arange(len(unit) + 1, dtype=torch.float64) / len(unit)
        assert torch.maximum((unit - steps[:-1]).abs(), (unit - steps[1:]).abs()).max() < 1.95 / len(unit) ** 0.5

    return check


@pytest.fixture
def assert_shares() -> Callable[[Tensor, dict[int, float]], None]:
    """Counts of whole numbers within four standard deviations of what their shares let expect; no other occurs."""

    def check(chosen: Tensor, shares: dict[int, float]) -> None:
        total = len(chosen)
        assert set(chosen.unique().tolist()) <= shares.keys()
        for value, share in shares.items():
            assert abs(int((chosen == value).sum()) - share * total) <= 4 * (total * share * (1 - share)) ** 0.5

    return check
