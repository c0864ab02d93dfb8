"""The benchmark: what it compares, and in which order."""

import pytest
import torch

from runtime.precision import Precision
from scripts import benchmark

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before():
    yield
    Precision().prepare()


def test_works_take_turns_and_the_first_round_is_not_counted(monkeypatch):
    done, clock = [], [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])

    def work(name, seconds):
        def run():
            clock[0] += seconds if len(done) >= 4 else 1.0
            done.append(name)

        return benchmark.variants("fp32")[0], run

    results = benchmark.measure([work("a", 0.25), work("b", 0.5)], rounds=2, runs=2, device=CPU)
    assert done == ["a", "a", "b", "b"] * 3
    assert [result.milliseconds for result in results] == [[250, 250], [500, 500]]


def test_the_baseline_comes_first():
    assert [variant.name for variant in benchmark.variants("bf16")] == [
        *("fp32, NCHW", "fp32, NHWC", "bf16, NCHW", "bf16, NHWC")
    ]
    assert len(benchmark.variants("fp32")) == 2


@pytest.mark.slow
def test_every_network_is_restored_and_trained(monkeypatch, capsys):
    small = {"n_feats": 4, "n_blocks": 1}
    networks = {"K": ("KDSR_S", small | {"n_resblocks": 1}), "C": ("CDSR", {"n_blocks": 1}), "E": ("EDSR", small)}
    monkeypatch.setattr(benchmark, "NETWORKS", networks)
    command = "--cpu --size 12x14 --batch 2 --patch 12 --rounds 1 --runs 1 --network K C E"
    benchmark.main(command.split())
    out = capsys.readouterr().out
    for network in networks:
        assert f"{network}, LR 12x14" in out
        assert f"{network}, step of 2 patches of 12" in out
    assert out.count("bf16, NHWC") == 6
    assert out.count("1.00x") >= 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--size foo", "foo is no size; expected height and width in pixels, like 180x320"),
        ("--size 0x12", "0x12 is no size"),
        ("--rounds 0", "0 is not a whole number of 1 or more"),
        ("--runs x", "x is not a whole number of 1 or more"),
        ("--batch -1", "-1 is not a whole number of 0 or more"),
        ("--cpu --network CDSR --size 8x8", "--size 8x8: CDSR needs 12 LR pixels a side"),
    ],
)
def test_nonsense_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(arguments.split())
    assert message in f"{caught.value}{capsys.readouterr().err}"
