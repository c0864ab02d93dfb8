"""Every kind of machine, made up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from check import Finding, machine
from option import TrainOptions

Options = Callable[..., TrainOptions]
Told = Callable[[Iterable[Finding]], str]


# ----------------------------------------------------------------------------------------------- packages


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that these versions are installed; None: that a package is not."""

    def pretend(**versions: str | None) -> None:
        def version(name: str) -> str:
            found = versions.get(name, "999")
            if found is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(machine, "version", version)
        monkeypatch.setattr(machine, "requires", lambda name: None)

    return pretend


def test_the_packages_of_these_tests_are_fine(options: Options, told: Told) -> None:
    text = told(machine.packages(options()))
    assert text.startswith("fine: Python 3.")
    assert text.endswith(f"PyTorch {torch.__version__}")


def test_a_package_that_is_too_old(options: Options, told: Told, installed: Callable[..., None]) -> None:
    installed(torch="2.3.1+cu121")
    text = told(machine.packages(options()))
    assert "mend: torch>=2.11 is needed, and 2.3.1+cu121 is installed: pip install -U -r requirements.txt" in text
    assert text.count("mend") == 1
    installed(torch="2.12.0.dev20260101+cu130")
    assert "mend" not in told(machine.packages(options()))


def test_a_package_that_lacks(
    options: Options, told: Told, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(matplotlib=None, **{"opencv-python-headless": None})
    monkeypatch.setattr(machine, "find_spec", lambda module: "another's" if module == "cv2" else None)
    text = told(machine.packages(options()))
    assert "mend: matplotlib is needed, and it is not installed" in text
    assert "opencv" not in text  # another distribution brings cv2


def test_a_torchvision_of_another_torch(
    options: Options, told: Told, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(torch="2.15.0+cpu")
    monkeypatch.setattr(machine, "requires", lambda name: ["torch==2.14.0", "gdown; extra == 'gdown'"])
    text = told(machine.packages(options()))
    assert "mend: torch==2.14.0 is needed, and 2.15.0+cpu is installed: pip install -U torchvision" in text


# ---------------------------------------------------------------------------------------------------- GPU


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that there is such a GPU; failure: what computing on it raises."""

    def pretend(
        *, available: bool, failure: Exception | None = None, card: bool = True, built: bool = True, free: int = 70
    ) -> None:
        def ones(*shape: int, **_: Any) -> torch.Tensor:
            if failure:
                raise failure
            return torch.zeros(*shape)

        monkeypatch.setattr(machine.torch, "ones", ones)
        monkeypatch.setattr(machine, "has_nvidia_card", lambda: card)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        fakes = {
            "is_available": lambda: available,
            "device_count": lambda: 1,
            "get_device_name": lambda: "NVIDIA H100",
            "mem_get_info": lambda: (free * 2**30, 80 * 2**30),
            "is_bf16_supported": lambda including_emulation: True,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    return pretend


@pytest.fixture
def gpu(options: Options, told: Told) -> Callable[[str], str]:
    return lambda arguments="": told(machine.gpu(options(f"--cpu False {arguments}")))


def test_a_gpu_that_works(gpu: Callable[..., str], cuda: Callable[..., None]) -> None:
    cuda(available=True)
    assert gpu() == "fine: NVIDIA H100, 70.0 GiB of 80.0 GiB free, bf16"
    assert gpu("--n_GPUs 2").startswith("mend: --n_GPUs 2")
    assert gpu("--n_GPUs 0") == "fine: on the CPU, as asked for"


def test_a_gpu_that_others_use(gpu: Callable[..., str], cuda: Callable[..., None]) -> None:
    cuda(available=True, free=3)
    assert gpu().startswith("note: NVIDIA H100, 3.0 GiB of 80.0 GiB free")


def test_a_gpu_that_fails(gpu: Callable[..., str], cuda: Callable[..., None]) -> None:
    cuda(available=True, failure=RuntimeError("CUDA error: no kernel image is available\nmore"))
    assert gpu().startswith("mend: the GPU fails (CUDA error: no kernel image is available): ")


def test_why_a_card_is_not_used(
    gpu: Callable[..., str], cuda: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cuda(available=False, failure=RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."))
    assert gpu().startswith("note: on the CPU: The NVIDIA driver on your system is too old (found version 11040); ")
    cuda(available=False, failure=AssertionError("Torch not compiled with CUDA enabled"), built=False)
    assert "built without CUDA" in gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cuda(available=False, failure=RuntimeError("No CUDA GPUs are available"))
    assert gpu() == "note: on the CPU: CUDA_VISIBLE_DEVICES hides every GPU; unset it"


def test_a_machine_without_a_card(gpu: Callable[..., str], cuda: Callable[..., None]) -> None:
    cuda(available=False, failure=RuntimeError("Found no NVIDIA driver"), card=False)
    assert gpu() == "fine: on the CPU: no NVIDIA card here"


def test_a_card_is_seen_without_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "PCI", tmp_path)
    (tmp_path / "0000:00:01.0").mkdir()
    (tmp_path / "0000:00:01.0" / "vendor").write_text("0x8086\n")
    assert not machine.has_nvidia_card()
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    assert machine.has_nvidia_card()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_of_this_machine(gpu: Callable[..., str]) -> None:
    assert torch.cuda.get_device_name() in gpu()
    assert "mend" not in gpu()


# ----------------------------------------------------------------------------------------- cores and memory


def test_more_loader_processes_than_cores(options: Options, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    assert told(machine.cores(options("--n_threads 3"))) == "fine: --n_threads 3 on 3 CPU cores"
    assert told(machine.cores(options("--n_threads 4"))).endswith("--n_threads 3")


def test_a_container_with_a_part_of_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.usable_cores() == 8
    for quota, expected in (("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("6400000 100000", 8)):
        (tmp_path / "cpu.max").write_text(quota + "\n")
        assert machine.usable_cores() == expected


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(machine, "_read", lambda path: "")
    assert machine.usable_cores() == 6
    assert machine.free_memory() is None


def test_free_memory_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n"}
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path.as_posix(), ""))
    assert machine.free_memory() == 3000 * 1024
    files[f"{machine.CGROUP.as_posix()}/memory.max"] = "max\n"
    assert machine.free_memory() == 3000 * 1024
    files[f"{machine.CGROUP.as_posix()}/memory.max"] = "1000000\n"
    files[f"{machine.CGROUP.as_posix()}/memory.current"] = "700000\n"
    files[f"{machine.CGROUP.as_posix()}/memory.stat"] = "anon 400000\ninactive_file 200000\n"
    assert machine.free_memory() == 500_000  # what only caches files can be taken
