"""The kernels that a training step launches, and the bytes it holds, are counted without a GPU, and held.

Left out is the optimiser, whose kernels for all weights together a CPU does not have. The perceptual loss is left out
of the adversarial step.
"""

from __future__ import annotations

import pytest
import torch

import model
from data.pairs import Batch
from loss.adversarial import Adversarial
from loss.contrast import Contrast
from loss.distillation import Distillation
from loss.pixel import Pixel
from model.discriminator import UNetDiscriminator
from runtime.precision import Precision
from scripts.counting import Ledger, without_data
from trainer import Learner

M = {"scale": 4, "n_feats": 64, "n_blocks": 53, "n_resblocks": 9}
L = {"scale": 4, "n_feats": 128, "n_blocks": 28, "n_resblocks": 5}
REAL = {"scale": 4, "n_feats": 128, "n_blocks": 42, "n_resblocks": 6}


def teacher():
    return model.build("KDSR_T", **M), Pixel()


def distilled(size):
    return model.build("KDSR_S", **size), Distillation(model.build("KDSR_T", **size))


def contrast(name):
    net = model.build(name, scale=4)
    assert isinstance(net, model.ContrastiveSR)
    return net, Contrast(net)


def adversarial():
    return model.build("KDSR_S", **REAL), Adversarial(UNetDiscriminator(), teacher=model.build("KDSR_T", **REAL))


STEPS = {  # what is made, batch size, LR patch
    "KDSR_T M": (teacher, 64, 64),
    "KDSR_S M": (lambda: distilled(M), 64, 64),
    "KDSR_S L": (lambda: distilled(L), 64, 64),
    "CDSR": (lambda: contrast("CDSR"), 32, 48),
    "DASR": (lambda: contrast("DASR"), 32, 48),
    "KDSR-GAN": (adversarial, 9, 64),
}
COUNTS = {  # kernels, GiB of what a step makes
    ("KDSR_T M", "fp32"): (472, 10.80),
    ("KDSR_T M", "bf16"): (537, 6.44),
    ("KDSR_S M", "fp32"): (543, 10.80),
    ("KDSR_S M", "bf16"): (610, 6.46),
    ("KDSR_S L", "fp32"): (345, 14.25),
    ("KDSR_S L", "bf16"): (387, 9.20),
    ("CDSR", "fp32"): (1907, 7.71),
    ("CDSR", "bf16"): (1981, 3.91),
    ("DASR", "fp32"): (1021, 3.56),
    ("DASR", "bf16"): (1127, 2.09),
    ("KDSR-GAN", "fp32"): (1145, 3.99),
    ("KDSR-GAN", "bf16"): (1261, 2.33),
}
# GiB in bf16 with `recompute`
RECOMPUTED = {
    "KDSR_S M": 3.59,
    "KDSR_S L": 6.32,
    "CDSR": 0.76,
    "DASR": 1.20,
    "KDSR-GAN": 1.68,
}


def counted_step(name, precision, *, recompute=False):
    """Take one step at the published sizes."""
    make, batch, patch = STEPS[name]
    with without_data():
        net, objective = make()
        how = {"device": torch.device("cpu"), "precision": Precision(precision), "recompute": recompute}
        learner = Learner(net.train(), objective, **how)
        n = objective.views * batch
        pairs = Batch(torch.rand(n, 3, patch, patch), torch.rand(n, 3, 4 * patch, 4 * patch), None)
        with Ledger() as ledger:
            learner.step(pairs, 1, 1e-4)
    return ledger


@pytest.fixture(autouse=True)
def _no_optimizer(monkeypatch):
    monkeypatch.setattr(Learner, "_optimize", lambda self: torch.zeros(()))


@pytest.mark.parametrize(("name", "precision"), COUNTS)
def test_a_step_launches_no_more_kernels_and_holds_no_more_than_it_did(name, precision):
    kernels, gib = COUNTS[name, precision]
    ledger = counted_step(name, precision)
    assert ledger.kernels.total() <= kernels, ledger.kernels.most_common()
    assert ledger.peak / 2**30 < gib + 0.01


@pytest.mark.parametrize("name", RECOMPUTED)
def test_recomputing_holds_no_more_than_it_did(name):
    waiting = 0.4  # what reference cycles of a checkpoint hold until Python's garbage collector comes by
    assert counted_step(name, "bf16", recompute=True).peak / 2**30 < RECOMPUTED[name] + waiting
