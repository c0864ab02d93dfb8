"""Check the machine: packages, GPU, compiler, CPU cores."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

import psutil
import torch
from packaging.requirements import Requirement

import option
from option import TrainOptions
from preflight.finding import Finding, error, note, ok, size_of
from runtime.compiler import check_compiler
from runtime.precision import has_bf16
from utility import ROOT

MODULES = {"pillow": "PIL", "opencv-python-headless": "cv2", "scikit-image": "skimage", "scikit-learn": "sklearn"}
OF_SCRIPTS = ("scikit-image", "scikit-learn")  # training does without


def packages(options: TrainOptions) -> Iterator[Finding]:
    """Check the installed packages against requirements.txt, and torchvision, if it is there, against torch."""
    yield ok(f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    wanted = [("-r requirements.txt", Requirement(line)) for line in lines if line]
    with suppress(PackageNotFoundError):
        wanted += [("torchvision", asked) for asked in map(Requirement, requires("torchvision") or ())]
    for source, asked in wanted:
        if asked.marker is None and (lacking := _lacking(asked)):
            remedy = f"{lacking}: pip install -U {source}"
            if asked.name in OF_SCRIPTS:
                yield note(f"scripts need {asked}, and {remedy}")
            else:
                yield error(f"{asked} is needed, and {remedy}")


def _lacking(asked: Requirement) -> str | None:
    try:
        found = version(asked.name)
    except PackageNotFoundError:  # another package may bring the module
        return None if find_spec(MODULES.get(asked.name, asked.name)) else "it is not installed"
    return None if asked.specifier.contains(found, prereleases=True) else f"{found} is installed"


def gpu(options: TrainOptions) -> Iterator[Finding]:
    """Compute on the GPU: a driver may be too old, a PyTorch not built for the card."""
    asked = options.machine
    if asked.cpu or asked.n_GPUs == 0:
        yield ok("on the CPU, as asked for")
        return
    failure = _gpu_failure()
    if failure and torch.cuda.is_available():
        yield error(
            f"the GPU fails ({failure}): free it, or install a PyTorch that is built for it; `cpu` does without"
        )
    elif failure:
        yield note(f"on the CPU: {_remedy(failure)}") if shutil.which("nvidia-smi") else ok("on the CPU: no GPU here")
    else:
        free, total = torch.cuda.mem_get_info()
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        text = f"{torch.cuda.get_device_name()}, {size_of(free)} of {size_of(total)} free, {bf16}"
        yield ok(text) if free > total / 2 else note(f"{text}; nvidia-smi shows what uses the rest")


def fast_steps(options: TrainOptions) -> Iterator[Finding]:
    """Check what `cuda_graph` and `compile` need, if they are asked for; `compile` takes some seconds."""
    device = device_of(options)
    if device.type == "cpu" and has_bf16(device) and options.training.precision == "fp32" and not options.resuming:
        yield note("this CPU has units for bfloat16: `precision` bf16 trains 1.4 to 2.7 times as fast")
    if options.training.cuda_graph and device.type == "cpu":
        yield error("`cuda_graph` needs a GPU, and there is none here: leave it out")
    elif device.type == "cuda" and not options.training.cuda_graph and option.acts(option.GRAPHED, options):
        yield note("`cuda_graph` spares the host: in bf16 an H200 took 1/8 (CDSR) to 6/7 (KDSR-L) of the time")
    if options.training.compile:
        check_compiler(device)
        yield ok("torch.compile works here")


def device_of(options: TrainOptions) -> torch.device:
    """Return where the run would compute."""
    cpu = options.machine.cpu or options.machine.n_GPUs == 0 or not torch.cuda.is_available()
    return torch.device("cpu" if cpu else "cuda")


def _gpu_failure() -> str | None:
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as raised:
        return str(raised).splitlines()[0].rstrip(".")
    return None


def _remedy(failure: str) -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU; unset it"
    if not torch.backends.cuda.is_built():
        return "this PyTorch is built without CUDA; https://pytorch.org/get-started has the command for one with it"
    return f"{failure}; update the driver, or start the container with its GPU (docker run --gpus all)"


def cores(options: TrainOptions) -> Iterator[Finding]:
    """Compare the loader processes with the CPU cores that this process may use."""
    process = psutil.Process()
    count = len(process.cpu_affinity() or ()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1
    asked, processes = options.loading.n_threads, max(1, options.machine.n_GPUs)
    text = f"`n_threads` {asked}" + (f" for each of `n_GPUs` {processes}" * (processes > 1)) + f" on {count} CPU cores"
    fitting = count // processes
    yield (
        ok(text)
        if asked <= fitting
        else note(f"{text}: more than there are cores, so they take turns; {fitting} would fit")
    )
