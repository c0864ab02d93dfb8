"""Test sets: folders of HR images that are degraded on the fly, or prepared HR/LR folders, paired by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from typing import Protocol as Interface

import torch
from torch import Tensor

from data.images import BadImage, check_image, list_images, read_image
from data.protocol import Protocol

STANDARD = ("Set5", "Set14", "B100", "Urban100")


class Sample(NamedTuple):
    """One HR image and its LR images under one or more cases of the protocol."""

    image: str
    cases: list[str]
    lr: Tensor  # (N, 3, H, W)
    hr: Tensor  # (3, s·H, s·W)


class Benchmark(Interface):
    """What `evaluation.evaluate` scores on."""

    @property
    def name(self) -> str: ...
    @property
    def protocol(self) -> str:
        """The protocol's name, with its noise and JPEG."""
        ...

    @property
    def hr_paths(self) -> Sequence[Path]: ...

    def samples(self, device: torch.device) -> Iterator[Sample]: ...


def to_tensor(pixels: object, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 array to (3, H, W) float in [0, 1]."""
    return torch.as_tensor(pixels, device=device).permute(2, 0, 1).float() / 255


def describe(protocol: Protocol) -> str:
    """`gaussian8`, `manet9 noise 15`, `bicubic JPEG 75`."""
    noise = f" noise {255 * protocol.noise:g}" if protocol.noise else ""
    return protocol.name + noise + (f" JPEG {protocol.quality:g}" if protocol.quality else "")


@dataclass(frozen=True)
class Degraded:
    """HR images, cropped to multiples of the scale and degraded on the device under every case of the protocol."""

    name: str
    hr_paths: Sequence[Path]
    rule: Protocol
    seed: int = 1

    @property
    def protocol(self) -> str:
        return describe(self.rule)

    def samples(self, device: torch.device) -> Iterator[Sample]:
        s = self.rule.scale
        for path in self.hr_paths:
            hr = to_tensor(read_image(path), device)
            hr = hr[:, : hr.shape[1] // s * s, : hr.shape[2] // s * s]
            lr = [self.rule.degrade(hr, case, seed=f"{self.seed}/{path.stem}") for case in self.rule.cases]
            yield Sample(path.stem, [case.name for case in self.rule.cases], torch.stack(lr), hr)


@dataclass(frozen=True)
class Prepared:
    """LR images that lie on disk with an HR image of the same name each, `<image>_<case>.png`."""

    name: str
    protocol: str
    pairs: Sequence[tuple[Path, Path]]  # (LR, HR)
    scale: int

    @property
    def hr_paths(self) -> Sequence[Path]:
        return [hr for _, hr in self.pairs]

    def samples(self, device: torch.device) -> Iterator[Sample]:
        for lr_path, hr_path in self.pairs:
            lr, hr = (to_tensor(read_image(path), device) for path in (lr_path, hr_path))
            if hr.shape[1:] != tuple(self.scale * side for side in lr.shape[1:]):
                raise ValueError(
                    f"--data_test: {hr_path} is {tuple(hr.shape[1:])} pixels (height, width), "
                    f"not {self.scale} times the {tuple(lr.shape[1:])} of {lr_path}"
                )
            image, *case = lr_path.stem.rsplit("_", 3)
            yield Sample(image, ["_".join(case)], lr[None], hr)


def prepared(folder: Path, rule: Protocol, sv_mode: int) -> Prepared:
    """The pairs of `<Set>_x<s>` in the published layout: HR_si or HR_sv, and LR_mode<m>_noise<n>.

    Raises ValueError that names the files without a partner.
    """
    noise = f"{255 * (rule.noise or 0):g}"
    hr_dir, lr_dir = folder / ("HR_sv" if sv_mode else "HR_si"), folder / f"LR_mode{sv_mode}_noise{noise}"
    if not lr_dir.is_dir():
        found = ", ".join(sorted(path.name for path in folder.glob("LR_*"))) or "no LR folder"
        raise FileNotFoundError(
            f"--data_test: {folder} has {found}, and --noise {noise} --sv_mode {sv_mode} needs {lr_dir.name}"
        )
    lr = {path.stem: path for path in list_images(lr_dir, "--data_test")}
    hr = {path.stem: path for path in list_images(hr_dir, "--data_test")}
    if alone := sorted(lr.keys() ^ hr.keys()):
        raise ValueError(
            f"--data_test: {len(alone)} images of {folder} lack their partner of the same name in {lr_dir.name} or "
            f"{hr_dir.name}: {', '.join(alone[:5])}"
        )
    return Prepared(folder.name, f"{describe(rule)} (prepared)", [(lr[name], hr[name]) for name in lr], rule.scale)


def find(name: str, roots: Sequence[Path], rule: Protocol, *, sv_mode: int, seed: int) -> Benchmark | None:
    """The test set of this name, None where there is none.

    `name` is a folder, or the name of one in `<root>/benchmark` or `<root>`. A set prepared for manet9 or manet_sv
    (`<Set>_x<s>`) goes before its HR images.
    """
    places = [Path(name), *(root / sub / name for root in roots for sub in ("benchmark", "."))]
    is_manet = rule.name == "manet9" or rule.name.startswith("manet_sv")
    for place in places:
        beside = place.with_name(f"{place.name}_x{rule.scale}")
        for folder in (place, beside) if is_manet else ():
            if (folder / "HR_si").is_dir() or (folder / "HR_sv").is_dir():
                return prepared(folder, rule, sv_mode)
        if place.is_dir():
            hr = place / "HR" if (place / "HR").is_dir() else place
            return Degraded(place.name, list_images(hr, "--data_test"), rule, seed)
    return None


def check(benchmark: Benchmark, *, at_least: int) -> None:
    """Raise BadImage, naming the file, for an HR image that is damaged or under `at_least` pixels a side."""
    for path in benchmark.hr_paths:
        height, width = check_image(path)
        if min(height, width) < at_least:
            raise BadImage(f"--data_test: {path} is {height} x {width} pixels; {at_least} a side are needed")
