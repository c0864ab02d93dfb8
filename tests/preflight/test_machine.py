"""Every kind of machine, made up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

import pytest
import torch

import preflight
from option import TrainOptions
from preflight import machine
from preflight.finding import Finding

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
    assert text.startswith("ok: Python 3.")
    assert text.endswith(f"PyTorch {torch.__version__}")


def test_a_package_that_is_too_old(options: Options, told: Told, installed: Callable[..., None]) -> None:
    installed(torch="2.3.1+cu121")
    text = told(machine.packages(options()))
    assert "error: torch>=2.11 is needed, and 2.3.1+cu121 is installed: pip install -U -r requirements.txt" in text
    assert text.count("error") == 1
    installed(torch="2.12.0.dev20260101+cu130")
    assert "error" not in told(machine.packages(options()))


def test_a_package_that_lacks(
    options: Options, told: Told, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(matplotlib=None, **{"opencv-python-headless": None})
    monkeypatch.setattr(machine, "find_spec", lambda module: "another's" if module == "cv2" else None)
    text = told(machine.packages(options()))
    assert "error: matplotlib is needed, and it is not installed" in text
    assert "opencv" not in text  # another distribution brings cv2


def test_a_package_of_the_scripts_alone_stops_no_training(
    options: Options, told: Told, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(**{"scikit-learn": None, "scikit-image": "0.1"})
    monkeypatch.setattr(machine, "find_spec", lambda module: None)
    text = told(machine.packages(options()))
    assert "note: scripts need scikit-learn>=1.6, and it is not installed: pip install" in text
    assert "note: scripts need scikit-image>=0.22, and 0.1 is installed: pip install" in text
    assert "error" not in text


def test_a_torchvision_of_another_torch(
    options: Options, told: Told, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(torch="2.15.0+cpu")
    monkeypatch.setattr(machine, "requires", lambda name: ["torch==2.14.0", "gdown; extra == 'gdown'"])
    text = told(machine.packages(options()))
    assert "error: torch==2.14.0 is needed, and 2.15.0+cpu is installed: pip install -U torchvision" in text


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
        monkeypatch.setattr(machine.shutil, "which", lambda name: "nvidia-smi" if card else None)
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
    assert gpu() == "ok: NVIDIA H100, 70.0 GiB of 80.0 GiB free, bf16"
    assert gpu("--n_GPUs 0") == "ok: on the CPU, as asked for"


def test_a_gpu_that_others_use(gpu: Callable[..., str], cuda: Callable[..., None]) -> None:
    cuda(available=True, free=3)
    assert gpu().startswith("note: NVIDIA H100, 3.0 GiB of 80.0 GiB free")


def test_a_gpu_that_fails(gpu: Callable[..., str], cuda: Callable[..., None]) -> None:
    cuda(available=True, failure=RuntimeError("CUDA error: no kernel image is available\nmore"))
    assert gpu().startswith("error: the GPU fails (CUDA error: no kernel image is available): ")


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
    assert gpu() == "ok: on the CPU: no GPU here"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_of_this_machine(gpu: Callable[..., str]) -> None:
    assert torch.cuda.get_device_name() in gpu()
    assert "error" not in gpu()


def test_what_faster_steps_need(options: Options, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "has_bf16", lambda device: False)
    assert not told(machine.fast_steps(options()))
    with monkeypatch.context() as patch:
        patch.setattr(machine, "has_bf16", lambda device: device.type == "cpu")
        assert "--precision bf16 trains" in told(machine.fast_steps(options()))
        assert not told(machine.fast_steps(options("--precision bf16")))
    asked = options("--cpu False --cuda_graph --compile")

    def check_compiler(device: torch.device) -> None:
        if device.type == "cpu":
            raise ValueError("`compile`: no compiler")

    monkeypatch.setattr(machine, "check_compiler", check_compiler)
    text = told(preflight.cheap(asked))
    assert "error: --cuda_graph needs a GPU, and there is none here" in text
    assert "error: --compile: no compiler" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert told(machine.fast_steps(asked)) == "ok: torch.compile works here"
    assert "--cuda_graph spares the host" in told(machine.fast_steps(options("--cpu False")))
    assert not told(machine.fast_steps(options("--cpu False --precision fp16")))


# ----------------------------------------------------------------------------------------- cores and memory


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretends that this process may use so many cores."""

    def pretend(count: int) -> None:
        cores = list(range(count))
        monkeypatch.setattr(machine.psutil.Process, "cpu_affinity", lambda self: cores, raising=False)

    return pretend


def test_more_loader_processes_than_cores(options: Options, told: Told, usable: Callable[[int], None]) -> None:
    usable(3)
    assert told(machine.cores(options("--n_threads 3"))) == "ok: --n_threads 3 on 3 CPU cores"
    text = told(machine.cores(options("--n_threads 4")))
    assert text.startswith("note: --n_threads 4 on 3 CPU cores")
    assert text.endswith("3 would fit")


def test_each_gpu_has_its_own_loader_processes(options: Options, told: Told, usable: Callable[[int], None]) -> None:
    usable(8)
    assert told(machine.cores(options("--n_threads 4 --n_GPUs 2"))).startswith("ok")
    text = told(machine.cores(options("--n_threads 5 --n_GPUs 2")))
    assert text.startswith("note: --n_threads 5 for each of --n_GPUs 2 on 8 CPU cores")
    assert text.endswith("4 would fit")


def test_a_system_that_tells_nothing_of_cores(options: Options, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(machine.psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    assert told(machine.cores(options("--n_threads 6"))) == "ok: --n_threads 6 on 6 CPU cores"
