"""Costs against hand-made sums, against what is published, and against a network that takes its time."""

from __future__ import annotations

import pytest
import torch

from evaluation import cost
from evaluation.cost import RUNS, WARM_UP, Cost, count_macs, measure_cost, render_cost
from model import build

SIZES = {"M": {}, "L": {"n_feats": 128, "n_blocks": 28, "n_resblocks": 5}}
SIZES["GAN"] = {"n_feats": 128, "n_blocks": 42, "n_resblocks": 6}
CPU = torch.device("cpu")


def without_weights(name, **config):
    with torch.device("meta"):
        return build(name, **config)


def costed(net, height=180, width=320):
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Cost(height, width, parameters, *count_macs(net, height, width), 0.5, "a machine")


@pytest.mark.parametrize("name", ["KDSR_S", "KDSR_T"])
@pytest.mark.parametrize("scale", [2, 3])
def test_multiply_adds_are_the_sum_over_the_layers(name, scale):
    c, blocks, resblocks = 4, 3, 2
    net = without_weights(name, scale=scale, n_feats=c, n_blocks=blocks, n_resblocks=resblocks)
    planes = 3 + 3 * scale**2 if name == "KDSR_T" else 3
    dynamic = blocks * 9 * c
    restoration = 27 * c + blocks * 9 * c**2 + 9 * c**2 + 9 * scale**2 * c**2 + 27 * c * scale**2
    estimator = 9 * planes * c + resblocks * 18 * c**2 + 9 * (2 + 4 + 8) * c**2
    once = (16 + 16 + 4) * c**2 + blocks * (1 + 9) * c**2
    assert count_macs(net, 6, 7) == (42 * (dynamic + restoration + estimator) + once, 42 * dynamic)


@pytest.mark.parametrize(
    ("size", "macs", "by_layer"), [("M", 228.6, 226.9), ("L", 625.5, 623.6), ("GAN", 762.3, 759.5)]
)
def test_the_published_sizes(size, macs, by_layer):
    total, dynamic = count_macs(without_weights("KDSR_S", scale=4, **SIZES[size]), *cost.SIZE)
    assert total / 1e9 == pytest.approx(macs, abs=0.05)
    assert (total - dynamic) / 1e9 == pytest.approx(by_layer, abs=0.05)


@pytest.mark.parametrize(("scale", "macs"), [(2, 1793.3), (3, 2042.7), (4, 2451.3)])
def test_ikc_restores_seven_times_and_corrects_six_times(scale, macs):
    total, _ = count_macs(without_weights("IKC", scale=scale), *cost.SIZE)
    assert total / 1e9 == pytest.approx(macs, abs=0.05)


@pytest.mark.parametrize(
    ("size", "title", "published", "note"),
    [
        ("M", "KDSR-M", ("5.80 M", "191.42 G"), "do not fit the released code"),
        ("L", "KDSR-L", ("14.19 M", "623.61 G"), "without the dynamic convolutions"),
        ("GAN", "KDSR-GAN", ("18.85 M", "640.84 G"), "do not fit the released code"),
    ],
)
def test_the_report_shows_both_figures(size, title, published, note):
    net = without_weights("KDSR_S", scale=4, **SIZES[size])
    cost = costed(net)
    text = render_cost(net, cost)
    assert f"published ({title})" in text
    for ours, theirs in zip((f"{cost.parameters / 1e6:.3f} M", f"{cost.macs / 1e9:.2f} G"), published, strict=True):
        line = next(line for line in text.split("\n") if ours in line)
        assert line.endswith(theirs)
    assert note in text
    assert "include 24 of mean-shift convolutions" in text


def test_nothing_published_is_claimed_for_another_network_scale_or_image_size():
    student = without_weights("KDSR_S", scale=4)
    others = [
        (without_weights("KDSR_S", scale=2), (180, 320)),
        (without_weights("KDSR_S", scale=4, n_blocks=52), (180, 320)),
        (without_weights("KDSR_T", scale=4), (180, 320)),
        (without_weights("CDSR", scale=4), (180, 320)),
        (student, (320, 180)),
    ]
    for net, size in others:
        text = render_cost(net, costed(net, *size))
        assert "nothing is published" in text
        assert "published (" not in text
    assert "nothing is published" not in render_cost(student, costed(student))


def test_cdsr_has_no_mean_shift_but_dynamic_convolutions():
    net = without_weights("CDSR", scale=2, n_blocks=1)
    cost = costed(net, 24, 25)
    assert "mean-shift" not in render_cost(net, cost)
    assert cost.dynamic_macs == 2 * 9 * 64 * 24 * 25  # two DQAs in a block


@pytest.mark.parametrize("name", ["KDSR_S", "KDSR_T"])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_time_is_of_one_run_after_the_warm_up_in_eval_mode(name, device, monkeypatch):
    net = build(name, scale=2, n_feats=4, n_blocks=1, n_resblocks=1).train()
    runs, clock = [], [0.0]
    monkeypatch.setattr("evaluation.cost.time.perf_counter", lambda: clock[0])

    def first_runs_are_slow(module, inputs, output):
        runs.append((module.training, torch.is_inference_mode_enabled(), inputs[0].shape, inputs[0].device.type))
        clock[0] += 0.2 if len(runs) <= WARM_UP + RUNS // 2 else 0.02

    net.register_forward_hook(first_runs_are_slow)
    measured = measure_cost(net, 9, 10, torch.device(device))
    assert runs == [(False, True, (1, 3, 9, 10), device)] * (WARM_UP + RUNS)
    if device == "cpu":  # a GPU has a clock of its own
        assert measured.seconds == pytest.approx(0.02)
    assert (measured.height, measured.width) == (9, 10)
    assert measured.parameters == sum(parameter.numel() for parameter in net.parameters())
