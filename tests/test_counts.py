"""The kernels that a step or inference launches, and the bytes it holds, are counted without a GPU, and held.

Left out is the optimiser, whose kernels for all weights together a CPU does not have. The perceptual loss is left out
of the adversarial step.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from loss import OBJECTIVES
from model import build
from scripts import counting
from scripts.counting import BYTES, FLOPS, STEPS, counted_inference, without_data

counted_step = functools.cache(counting.counted_step)  # some are asked for again

COUNTS = {  # kernels, GiB of what a step makes
    ("KDSR_T M", "fp32"): (419, 10.80),
    ("KDSR_T M", "bf16"): (494, 5.58),
    ("KDSR_S M", "fp32"): (490, 10.80),
    ("KDSR_S M", "bf16"): (567, 5.56),
    ("KDSR_S L", "fp32"): (317, 14.25),
    ("KDSR_S L", "bf16"): (365, 7.48),
    ("CDSR", "fp32"): (1787, 3.12),
    ("CDSR", "bf16"): (1853, 1.61),
    ("DASR", "fp32"): (921, 3.56),
    ("DASR", "bf16"): (1040, 1.83),
    ("KDSR-GAN", "fp32"): (1103, 3.99),
    ("KDSR-GAN", "bf16"): (1250, 2.19),  # 24 of them lay weights of the discriminator out for their spectral norms
    ("IKC, sftmd", "fp32"): (901, 7.04),
    ("IKC, sftmd", "bf16"): (1214, 4.87),
    ("IKC, correction", "fp32"): (3459, 1.53),
    ("IKC, correction", "bf16"): (4020, 0.84),
}
INFERENCE = {  # of LR 180×320, likewise
    ("KDSR_S", "fp32"): (225, 0.48),
    ("KDSR_S", "bf16"): (230, 0.27),
    ("CDSR", "fp32"): (553, 0.14),
    ("CDSR", "bf16"): (599, 0.12),
    ("DASR", "fp32"): (308, 0.48),
    ("DASR", "bf16"): (344, 0.27),
    ("EDSR", "fp32"): (76, 0.47),
    ("EDSR", "bf16"): (95, 0.25),
    ("RRDB", "fp32"): (725, 0.47),
    ("RRDB", "bf16"): (797, 0.28),
}
# GiB in bf16 with `recompute`
RECOMPUTED = {
    "KDSR_S M": 2.62,
    "KDSR_S L": 4.48,
    "CDSR": 0.58,
    "DASR": 0.93,
    "KDSR-GAN": 1.54,
}


def test_every_objective_is_counted():
    with without_data():
        counted = {type(step.make()[1]) for step in STEPS.values()}
    ours = ("pixel", "distillation", "contrast", "sftmd", "correction", "adversarial")  # not those that users add
    assert counted == {OBJECTIVES[name] for name in ours}
    assert {name for name, _ in COUNTS} == STEPS.keys()


@pytest.mark.parametrize(("name", "precision"), COUNTS)
def test_a_step_launches_no_more_kernels_and_holds_no_more_than_it_did(name, precision):
    kernels, gib = COUNTS[name, precision]
    ledger = counted_step(name, precision)
    assert ledger.kernels.total() <= kernels, ledger.kernels.most_common()
    assert ledger.peak / 2**30 < gib + 0.01


@pytest.mark.parametrize(("name", "precision"), INFERENCE)
def test_inference_launches_no_more_kernels_and_holds_no_more_than_it_did(name, precision):
    kernels, gib = INFERENCE[name, precision]
    ledger = counted_inference(lambda: build(name, scale=4), (180, 320), precision)
    assert ledger.kernels.total() <= kernels, ledger.kernels.most_common()
    assert ledger.peak / 2**30 < gib + 0.01


def test_large_images_are_never_held_as_maps_of_their_size():
    """The upsampler would hold 64 channels at 16 times the pixels, twice; one convolution makes the image of 3."""
    height, width = 512, 640
    ledger = counted_inference(lambda: build("KDSR_S", scale=4), (height, width), "bf16")
    assert ledger.peak < 0.5 * 2 * 64 * 2 * 16 * height * width


def test_arithmetic_is_counted_and_bounds_the_time():
    ledger = counted_step("KDSR_S M", "bf16")
    assert ledger.flops == pytest.approx(6.83e12, rel=1e-3)  # as counted by hand from the layers
    assert ledger.seconds > max(ledger.flops / FLOPS, ledger.moved / BYTES)


@pytest.mark.parametrize("name", ["KDSR_S M", "CDSR"])
def test_the_released_formulation_launches_more_and_moves_more(name):
    theirs, ours = counted_step(name, "fp32", released=True), counted_step(name, "fp32")
    assert theirs.kernels.total() > 1.1 * ours.kernels.total()
    assert theirs.moved > ours.moved


@pytest.mark.parametrize("name", RECOMPUTED)
def test_recomputing_holds_no_more_than_it_did(name):
    waiting = 0.4  # what reference cycles of a checkpoint hold until Python's garbage collector comes by
    assert counted_step(name, "bf16", recompute=True).peak / 2**30 < RECOMPUTED[name] + waiting


TOLD = {"KDSR-M": "KDSR_S M", "KDSR-L": "KDSR_S L", "CDSR": "CDSR", "DASR": "DASR", "KDSR-GAN": "KDSR-GAN"}


@pytest.mark.parametrize(
    ("page", "pattern", "digits"),
    [
        ("README.md", r"^\| (KDSR-M|CDSR).*? \| (\d+\.\d+) GiB \| (\d+\.\d+) GiB", 2),
        ("docs/long_runs.md", r"([A-Z]{4}(?:-[A-Z]+)?)[^,]*?\s(\d+\.\d+) →\s(\d+\.\d+)", 1),
    ],
)
def test_pages_tell_the_memory_that_is_counted(page, pattern, digits):
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    told = {name: (float(plain), float(recomputed)) for name, plain, recomputed in re.findall(pattern, text, re.M)}
    assert len(told) >= 2
    for name, figures in told.items():
        step = TOLD[name]
        assert figures == (round(COUNTS[step, "bf16"][1], digits), round(RECOMPUTED[step], digits)), name
