"""Where a process runs, and what is refused before anything is started."""

import pytest
import torch

from runtime.device import check_devices, choose_device
from runtime.precision import Precision


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that PyTorch finds so many GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)

    yield pretend
    Precision().prepare()


@pytest.mark.parametrize(
    ("found", "asked", "cpu"),
    [(0, 0, False), (0, 1, False), (0, 9, True), (1, 1, False), (2, 1, False), (2, 2, False), (2, 9, True)],
)
def test_what_is_allowed(found, asked, cpu, gpus):
    gpus(found)
    check_devices(n_GPUs=asked, cpu=cpu)


@pytest.mark.parametrize(
    ("found", "asked", "says"), [(0, 2, "0 CUDA devices"), (0, 9, "0 "), (1, 2, "1 CUDA device here")]
)
def test_more_gpus_than_there_are(found, asked, says, gpus):
    gpus(found)
    with pytest.raises(ValueError, match=f"`n_GPUs` {asked}: PyTorch finds {says}"):
        check_devices(n_GPUs=asked, cpu=False)
    with pytest.raises(ValueError, match="`n_GPUs`"):
        choose_device(cpu=False, n_GPUs=asked, precision=Precision(), log=print)


@pytest.mark.parametrize(
    ("found", "options", "expected", "lines"),
    [
        (0, {}, "cpu", ["running on the CPU: PyTorch finds no CUDA device"]),
        (2, {"cpu": True}, "cpu", ["running on the CPU"]),
        (2, {"n_GPUs": 0}, "cpu", ["running on the CPU"]),
        (2, {"n_GPUs": 2, "local_rank": 1}, "cuda:1", []),
        (2, {}, "cuda:0", []),
    ],
)
def test_where_it_runs(found, options, expected, lines, gpus):
    gpus(found)
    said = []
    chosen = choose_device(**{"cpu": False, "n_GPUs": 1, "precision": Precision(), "log": said.append, **options})
    assert chosen == torch.device(expected)
    assert said == lines


def test_tf32_on_the_cpu_is_noted(gpus):
    gpus(0)
    said = []
    choose_device(cpu=True, n_GPUs=1, precision=Precision("tf32"), log=said.append)
    assert said[1] == "note: `precision` tf32 has no effect on the CPU, which computes in fp32"


def test_a_process_without_a_gpu_of_its_own(gpus):
    gpus(2)
    with pytest.raises(ValueError, match="`n_GPUs`: process 3 of this machine finds no GPU of its own, there are 2"):
        choose_device(cpu=False, n_GPUs=1, precision=Precision(), log=print, local_rank=2)


@pytest.mark.parametrize("one_size", [False, True])
def test_one_size_searches_for_convolutions(one_size, gpus):
    gpus(1)
    choose_device(cpu=False, n_GPUs=1, precision=Precision(), log=print, one_size=one_size)
    assert torch.backends.cudnn.benchmark == one_size
