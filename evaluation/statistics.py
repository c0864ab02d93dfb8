"""The uncertainty of scores: confidence intervals over images, and a paired test between two networks.

An image is one observation. Its kernels are averaged first, since they are not independent observations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan

import numpy as np

from evaluation.evaluate import Score, grouped, mean

DRAWS = 10_000  # resamples of the bootstrap and of the test, which is exact where there are no more than these
BATCH = 1000  # resamples in memory at once


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
        level: the share of such intervals that hold the true mean, if there are many images.
        seed: of the draws.

    Returns:
        Its lower and upper end; nan for a single image, and where a value is not finite.

    Examples:
        >>> confidence_interval([28.0, 30.0, 32.0, 34.0])
        (29.0, 33.0)
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return nan, nan
    from scipy.stats import bootstrap  # takes half a second to import

    found = bootstrap(
        (values,), np.mean, n_resamples=DRAWS, batch=BATCH, confidence_level=level, method="percentile", rng=seed
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def paired_test(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the p-value of a two-sided sign-flip test: how often chance alone makes a mean difference this large.

    If two networks are alike, each difference is as likely to have the other sign. All signs are tried for up to 13
    images, 10 000 random ones beyond. So the p-value of five images is never below 2 / 2⁵ = 0.0625.

    Args:
        differences: one of each image.
        seed: of the random signs.

    Returns:
        The p-value; nan where a difference is not finite.

    Examples:
        >>> paired_test([0.1, 0.2, 0.1, 0.3, 0.2])
        0.0625
    """
    if not differences or not np.isfinite(differences).all():
        return nan
    if len(differences) == 1:
        return 1.0
    from scipy.stats import permutation_test  # takes half a second to import

    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=DRAWS, batch=BATCH, rng=seed
    )
    return float(found.pvalue)
