"""Shared by several tests: official weights by rule, official numbers, small photographs, tiny runs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from data.images import write_image
from model.layer import DIV2K_MEAN

PARITY = Path(__file__).parent / "parity"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _value(name: str, shape: list[int], schema: dict[str, list[int]], gain: float) -> np.ndarray:
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * abs(x)
    if name.endswith("running_mean"):
        return 0.1 * x
    if name.endswith("feature_bank.weight"):
        return 16 * x
    if len(shape) <= 1:
        is_norm = name.endswith(".weight") and name.removesuffix("weight") + "running_mean" in schema
        return 0.05 * x + is_norm
    if name.endswith("queue"):
        return x / np.linalg.norm(x, axis=0)
    return gain * x / np.sqrt(np.prod(shape[1:]))


def pytest_configure() -> None:
    """Hear signals again that `nohup pytest &` leaves switched off, here and in the programs that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):  # Windows lacks it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers begin with files of many slow tests: none shall be left alone with one at the end."""
    if hasattr(config, "workerinput"):
        tests = Counter(item.path for item in items)
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: (-slow[item.path], -tests[item.path]))  # stable: by file, then as they stand there


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the curves of runs, which take half the time of a small one."""
    monkeypatch.setattr("evaluation.report.draw_curves", lambda *_: None)


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """A run on the CPU flushes denormal numbers for its whole process; hypothesis draws no floats where that is so."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def official_weights() -> Callable[..., dict[str, Tensor]]:
    """A published state dict filled by the rule that the official numbers were made with: (file, network, gain)."""

    def fill(file: str, network: str, gain: float = 1.0) -> dict[str, Tensor]:
        schema = json.loads((PARITY / f"{file}_schema.json").read_text())[network]
        state = {}
        for name, shape in schema.items():
            if name.endswith(("num_batches_tracked", "queue_ptr")):
                state[name] = torch.zeros(shape, dtype=torch.long)
            elif "sub_mean" in name or "add_mean" in name:
                peak = 255 if network.startswith("DASR") else 1
                mean = torch.tensor(DIV2K_MEAN) * (-peak if "sub" in name else peak)
                state[name] = mean if name.endswith("bias") else torch.eye(3).view(3, 3, 1, 1)
            else:
                state[name] = torch.from_numpy(_value(name, shape, schema, gain).astype(np.float32))
        return state

    return fill


@pytest.fixture(scope="session")
def official_ikc(official_weights: Callable[..., dict[str, Tensor]]) -> Callable[[int], dict[str, dict[str, Tensor]]]:
    """The three state dicts of IKC at a scale, filled by the same rule, as one file."""
    return lambda scale: {
        "SFTMD": official_weights("ikc", f"SFTMD_x{scale}"),
        "Predictor": official_weights("ikc", "Predictor"),
        "Corrector": official_weights("ikc", "Corrector"),
    }


@pytest.fixture(scope="session")
def official_numbers() -> Callable[[str, str], dict[str, Tensor]]:
    """The arrays of one parity file below a prefix, as tensors."""

    def read(file: str, prefix: str = "") -> dict[str, Tensor]:
        arrays = np.load(PARITY / f"{file}.npz")
        return {name.removeprefix(prefix): torch.from_numpy(arrays[name]) for name in arrays if name.startswith(prefix)}

    return read


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(512, 512, 3) uint8: scikit-image's astronaut."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    """A root with five training images of 96×112 under train/HR and two test images under benchmark/Set5/HR."""
    root = tmp_path_factory.mktemp("photos")
    for part, count in (("train/HR", 5), ("benchmark/Set5/HR", 2)):
        (root / part).mkdir(parents=True)
        for i in range(count):
            top, left = 60 * i, 40 * i + (200 if "Set5" in part else 0)
            write_image(root / part / f"{i}.png", np.ascontiguousarray(photo[top : top + 96, left : left + 112]))
    return root


@pytest.fixture
def in_browser(tmp_path: Path) -> Callable[[str, str], str]:
    """Opens a page in Chromium from the disk, runs a script there that returns a text, and returns that text."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed")

    def run(page: str, script: str) -> str:
        opened = tmp_path / "opened.html"
        added = f"<script>onload = () => {{ document.title = (() => {{ {script} }})(); }}</script></body>"
        opened.write_text(page.replace("</body>", added), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command = [found, *flags, "--dump-dom", opened.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
        return dom.partition("<title>")[2].partition("</title>")[0]

    return run
