"""Scoring: metrics by name, the one loop over a test set, tables, files, and what a network costs."""

from evaluation.cost import Cost, measure_cost, render_cost
from evaluation.evaluate import Restore, Score, best_step, evaluate, grouped, mean, score_image, smallest_hr
from evaluation.metric import METRICS, PLANES, Measure, Metric, psnr, ssim
from evaluation.tables import render, render_images, rows

__all__ = [
    "METRICS",
    "PLANES",
    "Cost",
    "Measure",
    "Metric",
    "Restore",
    "Score",
    "best_step",
    "evaluate",
    "grouped",
    "mean",
    "measure_cost",
    "psnr",
    "render",
    "render_cost",
    "render_images",
    "rows",
    "score_image",
    "smallest_hr",
    "ssim",
]
