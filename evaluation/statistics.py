"""The uncertainty of scores: over the images of a test, between two networks, between the seeds of two trainings.

An image is one observation. Its kernels are averaged first, since they are not independent observations. Between
trainings the score of a seed is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite, isnan, nan, sqrt
from statistics import fmean, variance
from typing import NamedTuple

import numpy as np

from evaluation.evaluate import Score, grouped, mean

DRAWS = 10_000  # resamples of the bootstrap and of the test, which is exact where there are no more than these
BATCH = 1000  # resamples in memory at once


class Estimate(NamedTuple):
    """A value with the ends of its interval, which are nan where there is none."""

    value: float
    low: float
    high: float

    def text(self, digits: int, sign: str = "") -> str:
        """Return it for a table; with `sign` "+", all its numbers have theirs.

        Examples:
            >>> Estimate(29.66, 28.9, 30.41).text(1), Estimate(0.12, nan, nan).text(2, "+")
            ('29.7 [28.9, 30.4]', '+0.12')
        """
        ends = [f"{end:{sign}.{digits}f}" for end in (self.low, self.high) if isfinite(end)]
        return f"{self.value:{sign}.{digits}f}" + (f" [{', '.join(ends)}]" if ends else "")

    def columns(self, name: str) -> dict[str, float | None]:
        """Return it for a CSV file, None for what is nan.

        Examples:
            >>> Estimate(0.5, 0.25, nan).columns("mean")
            {'mean': 0.5, 'mean_low': 0.25, 'mean_high': None}
        """
        names = (name, f"{name}_low", f"{name}_high")
        return {column: None if isnan(value) else value for column, value in zip(names, self, strict=True)}


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


def difference_interval(
    values: Sequence[float], others: Sequence[float], *, level: float = 0.95
) -> tuple[float, float]:
    """Return Welch's confidence interval of the mean of `values` minus that of `others`, two independent samples.

    Args:
        values, others: a score of each seed; the two may vary unlike.
        level: the share of such intervals that hold the true difference, if scores are normally distributed.

    Returns:
        Its lower and upper end; nan if a sample has one value alone, or one that is not finite.

    Examples:
        >>> low, high = difference_interval([28.1, 28.2, 28.3], [27.9, 28.0, 28.1])
        >>> round(low, 3), round(high, 3)
        (-0.027, 0.427)
    """
    if min(len(values), len(others)) < 2 or not all(map(isfinite, (*values, *others))):
        return nan, nan
    from scipy.special import stdtrit  # takes a tenth of a second to import

    difference = fmean(values) - fmean(others)
    first, second = variance(values) / len(values), variance(others) / len(others)  # of the two means
    if not first + second:
        return difference, difference
    freedom = (first + second) ** 2 / (first**2 / (len(values) - 1) + second**2 / (len(others) - 1))
    half = float(stdtrit(freedom, (1 + level) / 2)) * sqrt(first + second)
    return difference - half, difference + half
