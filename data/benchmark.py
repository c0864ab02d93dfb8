"""Test sets: folders of HR images that are degraded on the fly, or prepared HR/LR folders, paired by name."""

from __future__ import annotations

import re
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

    def check(self, *, at_least: int) -> None:
        """Raise BadImage for a file that is damaged, does not fit, or has under `at_least` HR pixels a side."""
        ...

    def samples(self, device: torch.device) -> Iterator[Sample]: ...


def to_tensor(pixels: object, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 array to (3, H, W) float in [0, 1]."""
    return torch.as_tensor(pixels, device=device).permute(2, 0, 1).float() / 255


@dataclass(frozen=True)
class Degraded:
    """HR images, cropped to multiples of the scale and degraded on the device under every case of the protocol."""

    name: str
    hr_paths: Sequence[Path]
    rule: Protocol
    seed: int = 1

    @property
    def protocol(self) -> str:
        return str(self.rule)

    def check(self, *, at_least: int) -> None:
        for path in self.hr_paths:
            height, width = check_image(path)
            if min(height, width) // self.rule.scale * self.rule.scale < at_least:
                raise BadImage(f"--data_test: {path} is {height} x {width} pixels; {at_least} a side are needed")

    def samples(self, device: torch.device) -> Iterator[Sample]:
        s = self.rule.scale
        for path in self.hr_paths:
            hr = to_tensor(read_image(path), device)
            hr = hr[:, : hr.shape[1] // s * s, : hr.shape[2] // s * s]
            lr = [self.rule.degrade(hr, case, seed=f"{self.seed}/{path.stem}") for case in self.rule.cases]
            yield Sample(path.stem, [case.name for case in self.rule.cases], torch.stack(lr), hr)


@dataclass(frozen=True)
class Prepared:
    """LR images that lie on disk with an HR image of the same name each, `<image>_<sig1>_<sig2>_<θ>.png`."""

    name: str
    protocol: str
    pairs: Sequence[tuple[Path, Path]]  # (LR, HR)
    scale: int

    @property
    def hr_paths(self) -> Sequence[Path]:
        return [hr for _, hr in self.pairs]

    def check(self, *, at_least: int) -> None:
        for lr_path, hr_path in self.pairs:
            lr, hr = check_image(lr_path), check_image(hr_path)
            if hr != (self.scale * lr[0], self.scale * lr[1]):
                raise BadImage(
                    f"--data_test: {hr_path} is {hr[0]} x {hr[1]} pixels, "
                    f"not {self.scale} times the {lr[0]} x {lr[1]} of {lr_path}"
                )
            if min(hr) < at_least:
                raise BadImage(f"--data_test: {hr_path} is {hr[0]} x {hr[1]} pixels; {at_least} a side are needed")

    def samples(self, device: torch.device) -> Iterator[Sample]:
        for lr_path, hr_path in self.pairs:
            lr, hr = (to_tensor(read_image(path), device) for path in (lr_path, hr_path))
            named = re.fullmatch(r"(.+)_(\d+\.\d_\d+\.\d_\d+\.\d)", lr_path.stem)
            image, case = named.groups() if named else (lr_path.stem, "prepared")
            yield Sample(image, [case], lr[None], hr)


def prepared(folder: Path, rule: Protocol, sv_mode: int) -> Prepared:
    """The pairs of `<Set>_x<s>` in the published layout: HR_si or HR_sv, and LR_mode<m>_noise<n>.

    Raises ValueError that names the files without a partner, and FileNotFoundError where there is no such LR folder.
    """
    if rule.quality is not None:
        raise ValueError(f"--data_test: the images of {folder} are prepared without JPEG: leave out --jpeg_quality")
    hr_dir, lr_dir = folder / ("HR_sv" if sv_mode else "HR_si"), _lr_folder(folder, rule, sv_mode)
    if not lr_dir.is_dir():
        found = ", ".join(sorted(path.name for path in folder.glob("LR_*"))) or "no LR folder"
        raise FileNotFoundError(f"--data_test: {folder} has {found}; --noise and --sv_mode ask for {lr_dir.name}")
    lr = {path.stem: path for path in list_images(lr_dir, "--data_test")}
    hr = {path.stem: path for path in list_images(hr_dir, "--data_test")}
    if alone := sorted(lr.keys() ^ hr.keys()):
        raise ValueError(
            f"--data_test: {len(alone)} images of {folder} lack their partner of the same name in {lr_dir.name} or "
            f"{hr_dir.name}: {', '.join(alone[:5])}"
        )
    return Prepared(folder.name, f"{rule} (prepared)", [(lr[name], hr[name]) for name in lr], rule.scale)


def _lr_folder(folder: Path, rule: Protocol, sv_mode: int) -> Path:
    return folder / f"LR_mode{sv_mode}_noise{255 * (rule.noise or 0):g}"


def find(name: str, roots: Sequence[Path], rule: Protocol, *, sv_mode: int, seed: int) -> Benchmark | None:
    """The test set of this name, None where there is none.

    `name` is a folder, or the name of one in `<root>/benchmark` or `<root>`. For `manet` protocols a folder may be a
    prepared set, and one beside the HR images (`<Set>_x<s>`) goes before them if it has this noise and mode.
    """
    places = [Path(name), *(root / sub / name for root in roots for sub in ("benchmark", "."))]
    for place in (place.resolve() for place in places):
        if rule.family == "manet" and any((place / part).is_dir() for part in ("HR_si", "HR_sv")):
            return prepared(place, rule, sv_mode)
        beside = place.with_name(f"{place.name}_x{rule.scale}")
        if rule.family == "manet" and _lr_folder(beside, rule, sv_mode).is_dir() and rule.quality is None:
            return prepared(beside, rule, sv_mode)
        if place.is_dir():
            hr = place / "HR" if (place / "HR").is_dir() else place
            return Degraded(hr.parent.name if hr.name == "HR" else hr.name, list_images(hr, "--data_test"), rule, seed)
    return None
