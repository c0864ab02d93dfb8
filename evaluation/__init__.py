"""Scoring: metrics by name, the one loop over a test set, tables, files, and what a network costs."""

from evaluation.evaluate import Restore, Score, best_step, evaluate, grouped, mean, smallest_hr
from evaluation.metric import Measure

__all__ = ["Measure", "Restore", "Score", "best_step", "evaluate", "grouped", "mean", "smallest_hr"]
