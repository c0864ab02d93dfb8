"""Intervals and the paired test: against all signs, against their meaning, and at their edges."""

from itertools import product
from math import inf, isnan, nan

import numpy as np
import pytest

from evaluation.evaluate import Score
from evaluation.statistics import confidence_interval, image_means, paired_test


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_few_images_have_all_signs_tried(count):
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    sums = np.abs(np.array([*product((-1, 1), repeat=count)]) @ differences)
    assert paired_test(differences.tolist()) == np.mean(sums >= abs(differences.sum()) - 1e-12)


def test_random_signs_come_near_to_all_signs(monkeypatch):
    differences = np.random.default_rng(1).normal(0.4, 1, 12).tolist()
    exact = paired_test(differences)
    monkeypatch.setattr("evaluation.statistics.DRAWS", 2**12 - 1)
    assert paired_test(differences) == pytest.approx(exact, abs=0.02)
    assert paired_test(differences) == paired_test(differences)


def test_p_values_of_networks_that_are_alike_are_spread_evenly():
    rng = np.random.default_rng(0)
    p = np.array([paired_test(rng.normal(size=10).tolist()) for _ in range(400)])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.08)


def test_an_interval_holds_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [confidence_interval(rng.normal(30, 2, 40).tolist(), level=0.9) for _ in range(200)]
    assert np.mean([low <= 30 <= high for low, high in intervals]) == pytest.approx(0.9, abs=0.06)


def test_more_images_narrow_the_interval():
    values = np.random.default_rng(0).normal(30, 2, 400)
    widths = [np.diff(confidence_interval(values[:count].tolist()))[0] for count in (25, 100, 400)]
    assert widths[0] > 1.5 * widths[1] > 2.2 * widths[2]


@pytest.mark.parametrize("values", [[], [30.0], [30.0, inf], [30.0, nan]])
def test_what_has_no_interval(values):
    assert all(map(isnan, confidence_interval(values)))


def test_what_has_no_p_value_and_what_is_the_same():
    assert isnan(paired_test([]))
    assert isnan(paired_test([1.0, nan]))
    assert paired_test([0.0, 0.0, 0.0]) == 1


def test_an_image_counts_once():
    scores = [
        Score("S", "p", image, case, {"psnr": v})
        for image, case, v in (("a", "1", 1.0), ("a", "2", 3.0), ("b", "1", 5.0))
    ]
    assert image_means(scores) == {"a": {"psnr": 2.0}, "b": {"psnr": 5.0}}
