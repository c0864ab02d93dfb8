"""The objectives: one file each. An objective is given the network, calls it, and names the parts of its loss."""

from loss.adversarial import GAN, Adversarial
from loss.contrast import Contrast
from loss.distillation import Distillation
from loss.objective import Objective
from loss.perceptual import Perceptual
from loss.pixel import Pixel

__all__ = ["GAN", "Adversarial", "Contrast", "Distillation", "Objective", "Perceptual", "Pixel"]
