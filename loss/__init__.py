"""Objectives, one file each, and the factory that builds them by name."""

from loss.adversarial import GAN, Adversarial
from loss.contrast import Contrast
from loss.correction import Correction
from loss.distillation import Distillation
from loss.factory import OBJECTIVES
from loss.objective import Objective, Phase, compiled
from loss.perceptual import Perceptual
from loss.pixel import Pixel
from loss.sftmd import SFTMD

__all__ = [
    "GAN",
    "OBJECTIVES",
    "SFTMD",
    "Adversarial",
    "Contrast",
    "Correction",
    "Distillation",
    "Objective",
    "Perceptual",
    "Phase",
    "Pixel",
    "compiled",
]
