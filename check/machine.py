"""Is this machine fit: packages, GPU, cores."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import torch
from packaging.requirements import Requirement

from check.finding import Finding, fine, mend, note, readable
from option import TrainOptions
from utility import ROOT

CGROUP = Path("/sys/fs/cgroup")  # on Linux: what a container may use
PCI = Path("/sys/bus/pci/devices")  # on Linux: the cards that are built in
NVIDIA = "0x10de"
MODULES = {"pillow": "PIL", "opencv-python-headless": "cv2", "scikit-image": "skimage", "scikit-learn": "sklearn"}


def packages(options: TrainOptions) -> Iterator[Finding]:
    """Against requirements.txt, and torchvision, where there is one, against torch."""
    yield fine(f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    wanted = [("-r requirements.txt", Requirement(line)) for line in lines if line]
    with suppress(PackageNotFoundError):
        wanted += [("torchvision", asked) for asked in map(Requirement, requires("torchvision") or ())]
    for source, asked in wanted:
        if asked.marker is None and (lacking := _lacking(asked)):
            yield mend(f"{asked} is needed, and {lacking}: pip install -U {source}")


def _lacking(asked: Requirement) -> str | None:
    try:
        found = version(asked.name)
    except PackageNotFoundError:  # another package may bring the module
        return None if find_spec(MODULES.get(asked.name, asked.name)) else "it is not installed"
    return None if asked.specifier.contains(found, prereleases=True) else f"{found} is installed"


def gpu(options: TrainOptions) -> Iterator[Finding]:
    """By really computing on it: a driver may be too old, a PyTorch not built for the card."""
    asked = options.machine
    if asked.cpu or asked.n_GPUs == 0:
        yield fine("on the CPU, as asked for")
    elif (failure := _failure()) and torch.cuda.is_available():
        yield mend(f"the GPU fails ({failure}): free it, or install a PyTorch that is built for it; --cpu does without")
    elif failure:
        yield note(f"on the CPU: {_remedy(failure)}") if has_nvidia_card() else fine("on the CPU: no NVIDIA card here")
    elif asked.n_GPUs > torch.cuda.device_count():
        yield mend(f"--n_GPUs {asked.n_GPUs} are asked for, and this machine shows {torch.cuda.device_count()}")
    else:
        free, total = torch.cuda.mem_get_info()
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        text = f"{torch.cuda.get_device_name()}, {readable(free)} of {readable(total)} free, {bf16}"
        yield fine(text) if free > total / 2 else note(f"{text}; nvidia-smi tells who has the rest")


def _failure() -> str | None:
    """Of a small computation on the GPU."""
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].rstrip(".")
    return None


def _remedy(failure: str) -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU; unset it"
    if not torch.backends.cuda.is_built():
        return "this PyTorch is built without CUDA; https://pytorch.org/get-started has the command for one with it"
    return f"{failure}; update the driver, or start the container with its GPU (docker run --gpus all)"


def has_nvidia_card() -> bool:
    """Whether an NVIDIA card is built in, working or not, as far as the system tells."""
    return shutil.which("nvidia-smi") is not None or any(_read(v).strip() == NVIDIA for v in PCI.glob("*/vendor"))


def cores(options: TrainOptions) -> Iterator[Finding]:
    count, asked, processes = usable_cores(), options.loading.n_threads, max(1, options.machine.n_GPUs)
    text = f"--n_threads {asked}" + (f" for each of --n_GPUs {processes}" * (processes > 1)) + f" on {count} CPU cores"
    fitting = count // processes
    yield fine(text) if asked <= fitting else note(f"{text}: more of them than cores take turns, --n_threads {fitting}")


def usable_cores() -> int:
    """CPU cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    return min(allowed, ceil(int(quota) / int(period))) if quota.isdigit() else allowed


def free_memory() -> int | None:
    """Bytes of main memory that this process may still take; None where the system does not tell."""
    lines = _read(Path("/proc/meminfo")).splitlines()
    available = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    limit = _read(CGROUP / "memory.max").strip()
    if available is None or not limit.isdigit():
        return available
    cached = dict(line.split() for line in _read(CGROUP / "memory.stat").splitlines()).get("inactive_file", 0)
    return min(available, int(limit) - int(_read(CGROUP / "memory.current") or 0) + int(cached))


def _read(path: Path) -> str:
    """A file of the system; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
