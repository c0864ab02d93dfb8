"""The benchmark: what it compares, and in which order."""

import time

import pytest
import torch

from runtime.precision import Precision
from scripts import benchmark

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before():
    yield
    Precision().prepare()


def test_works_take_turns_and_the_first_round_is_not_counted():
    done = []

    def work(name, seconds):
        def run():
            time.sleep(seconds if len(done) >= 4 else 0.2)
            done.append(name)

        return benchmark.variants("fp32")[0], run

    results = benchmark.measure([work("a", 0.0), work("b", 0.02)], rounds=2, runs=2, device=CPU)
    assert done == ["a", "a", "b", "b"] * 3
    assert all(len(result.milliseconds) == 2 for result in results)
    assert 20 <= min(results[1].milliseconds) <= max(results[1].milliseconds) < 150


def test_the_baseline_comes_first():
    assert [variant.name for variant in benchmark.variants("bf16")] == [
        *("fp32, NCHW", "fp32, NHWC", "bf16, NCHW", "bf16, NHWC")
    ]
    assert len(benchmark.variants("fp32")) == 2


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
