"""The uncertainty of scores: confidence intervals over images, and a paired test between two networks.

An image is one observation. Its kernels are averaged first, since they are not independent observations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan

import numpy as np

from evaluation.evaluate import Score, grouped, mean

DRAWS = 10_000  # of the bootstrap, and of the signs
EXACT = 13  # images up to which all signs are tried


def image_means(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """Return the mean over its cases of each metric, by image.

    Examples:
        >>> cases = [Score("Set5", "p", "a", case, {"psnr": psnr}) for case, psnr in (("1.8", 30.0), ("2.0", 28.0))]
        >>> image_means(cases)
        {'a': {'psnr': 29.0}}
    """
    return {image: mean(cases) for (image,), cases in grouped(scores, "image").items()}


def confidence_interval(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of values of independent images.

    Args:
        values: one of each image.
        level: the share of all such intervals that hold the true mean, if there are many images.
        seed: of the draws.

    Returns:
        Its lower and upper end; nan for a single image, and where a value is not finite.

    Examples:
        >>> low, high = confidence_interval([28.0, 30.0, 32.0, 34.0])
        >>> 28 < low < 31 < high < 34
        True
    """
    array = np.asarray(values, float)
    if len(array) < 2 or not np.isfinite(array).all():
        return nan, nan
    generator, at_once = np.random.default_rng(seed), max(1, 10**6 // len(array))
    means = [
        array[generator.integers(len(array), size=(min(at_once, DRAWS - first), len(array)))].mean(1)
        for first in range(0, DRAWS, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the p-value of a two-sided sign-flip test: how often chance alone makes a mean difference this large.

    If two networks are alike, each difference is as likely to have the other sign. All signs are tried for up to 13
    images, 10 000 random ones beyond. So five images cannot get below 2 / 2⁵ = 0.0625.

    Args:
        differences: one of each image.
        seed: of the random signs.

    Returns:
        The p-value; nan where a difference is not finite.

    Examples:
        >>> paired_test([0.1, 0.2, 0.1, 0.3, 0.2])
        0.0625
    """
    array = np.asarray(differences, float)
    count = len(array)
    if not count or not np.isfinite(array).all():
        return nan
    limit = abs(array.sum()) * (1 - 1e-12)  # the order of a sum must not decide
    if count <= EXACT:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        return float(np.mean(np.abs(signs @ array) >= limit))
    generator, as_large = np.random.default_rng(seed), 0
    for first in range(0, DRAWS, 1000):
        signs = generator.choice((-1.0, 1.0), size=(min(1000, DRAWS - first), count))
        as_large += int(np.sum(np.abs(signs @ array) >= limit))
    return (as_large + 1) / (DRAWS + 1)
