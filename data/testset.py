"""Test sets: folders of HR images that are degraded on the fly, or LR and HR images that lie on disk, paired by name.

The latter are sets that were prepared under a protocol, or real pairs (NTIRE2020, AIM2019, RealSR), which have none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from data.images import BadImage, check_image, list_images, read_image
from data.protocol import Protocol

STANDARD = ("Set5", "Set14", "B100", "Urban100")
MANIFEST = "manifest.json"  # of a prepared set: for each LR folder how it was made
PAIRED = "paired"  # the protocol and the only case of real pairs


class Sample(NamedTuple):
    """One HR image and its LR images under one or more cases of the protocol."""

    image: str
    cases: list[str]
    lr: Tensor  # (N, 3, H, W)
    hr: Tensor  # (3, s·H, s·W)


class Pair(NamedTuple):
    """A prepared LR image and its HR image."""

    lr: Path
    hr: Path
    image: str
    case: str


class TestSet(Interface):
    """What `evaluation.evaluate` scores on."""

    @property
    def name(self) -> str: ...
    @property
    def protocol(self) -> str:
        """The protocol's name, with its noise and JPEG."""
        ...

    @property
    def digest(self) -> str:
        """The protocol's; "unknown" for a prepared set without a manifest; of real pairs the LR images' fingerprint."""
        ...

    @property
    def hr_paths(self) -> Sequence[Path]: ...

    def check(self, *, at_least: int) -> None:
        """Raise BadImage for a file that is damaged, does not fit, or has under `at_least` HR pixels a side."""
        ...

    def part(self, index: int, parts: int) -> TestSet:
        """Of so many parts the one that has every parts-th image, from this index on."""
        ...

    def samples(self, device: torch.device) -> Iterator[Sample]: ...


def to_tensor(pixels: object, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 array to (3, H, W) float in [0, 1]."""
    return torch.as_tensor(pixels, device=device).permute(2, 0, 1).float() / 255


def to_pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to an (H, W, 3) uint8 array."""
    return np.ascontiguousarray((255 * image).round().byte().permute(1, 2, 0).cpu().numpy())


def fingerprint(paths: Sequence[Path]) -> str:
    """16 hex digits of a SHA-256 over the names and bytes of the files: the same for the same images."""
    files = sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


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

    @property
    def digest(self) -> str:
        return self.rule.digest

    def check(self, *, at_least: int) -> None:
        stems = Counter(path.stem for path in self.hr_paths)
        if twice := [path.name for path in self.hr_paths if stems[path.stem] > 1]:
            raise BadImage(f"--data_test: images of {self.name} differ by their endings alone: {', '.join(twice[:5])}")
        for path in self.hr_paths:
            height, width = check_image(path)
            needed = max(at_least, self.rule.smallest)
            if min(height, width) // self.rule.scale * self.rule.scale < needed:
                raise BadImage(f"--data_test: {path} is {height} x {width} pixels; {needed} a side are needed")

    def part(self, index: int, parts: int) -> Degraded:
        return replace(self, hr_paths=self.hr_paths[index::parts])

    def samples(self, device: torch.device) -> Iterator[Sample]:
        s = self.rule.scale
        for path in self.hr_paths:
            hr = to_tensor(read_image(path), device)
            hr = hr[:, : hr.shape[1] // s * s, : hr.shape[2] // s * s]
            lr = [self.rule.degrade(hr, case, seed=f"{self.seed}/{path.stem}") for case in self.rule.cases]
            yield Sample(path.stem, [case.name for case in self.rule.cases], torch.stack(lr), hr)


@dataclass(frozen=True)
class Prepared:
    """LR images that lie on disk, with an HR image each."""

    name: str
    protocol: str
    digest: str
    pairs: Sequence[Pair]
    scale: int

    @property
    def hr_paths(self) -> Sequence[Path]:
        return [pair.hr for pair in self.pairs]

    def check(self, *, at_least: int) -> None:
        for pair in self.pairs:
            lr, hr = check_image(pair.lr), check_image(pair.hr)
            if hr != (self.scale * lr[0], self.scale * lr[1]):
                raise BadImage(
                    f"--data_test: {pair.hr} is {hr[0]} x {hr[1]} pixels, "
                    f"not {self.scale} times the {lr[0]} x {lr[1]} of {pair.lr}"
                )
            if min(hr) < at_least:
                raise BadImage(f"--data_test: {pair.hr} is {hr[0]} x {hr[1]} pixels; {at_least} a side are needed")

    def part(self, index: int, parts: int) -> Prepared:
        return replace(self, pairs=self.pairs[index::parts])

    def samples(self, device: torch.device) -> Iterator[Sample]:
        for pair in self.pairs:
            lr, hr = (to_tensor(read_image(path), device) for path in (pair.lr, pair.hr))
            yield Sample(pair.image, [pair.case], lr[None], hr)


def hr_folder(folder: Path, rule: Protocol) -> Path:
    """Where a prepared set keeps its HR images."""
    return folder / ("HR_sv" if rule.sv_mode else "HR_si")


def lr_folder(folder: Path, rule: Protocol) -> Path:
    """Where a prepared set keeps the LR images of this mode and noise."""
    return folder / f"LR_mode{rule.sv_mode}_noise{255 * rule.noise:g}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """By LR folder how a prepared set was made; empty for sets from elsewhere."""
    path = folder / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def fits(folder: Path, rule: Protocol, seed: int) -> bool:
    """Whether a folder is a set prepared for this protocol and seed. CDSR's own have no manifest."""
    if not lr_folder(folder, rule).is_dir():
        return False
    made = read_manifest(folder).get(lr_folder(folder, rule).name)
    if made is None:
        return rule.name in ("manet9", f"manet_sv{rule.sv_mode}") and rule.quality is None
    return made["digest"] == rule.digest and made["seed"] == seed


def prepared(folder: Path, rule: Protocol, seed: int) -> Prepared:
    """The pairs of a prepared set in the published layout. Raises ValueError or OSError: what lacks, what is alone."""
    lr_dir, hr_dir = lr_folder(folder, rule), hr_folder(folder, rule)
    if not fits(folder, rule, seed):
        found = ", ".join(sorted(path.name for path in folder.glob("LR_*"))) or "no LR folder"
        raise ValueError(
            f"--data_test: {folder} holds {found}, and none of them is {rule} ({lr_dir.name}, {rule.digest}) with "
            f"--seed {seed}"
        )
    lr = {path.stem: path for path in list_images(lr_dir, "--data_test")}
    hr = {path.stem: path for path in list_images(hr_dir, "--data_test")}
    made, name = read_manifest(folder).get(lr_dir.name), folder.name.removesuffix(f"_x{rule.scale}")
    wanted = set(lr) if made is None else {entry["name"] for entry in made["images"]}
    if alone := sorted(wanted - lr.keys() | wanted - hr.keys() | (set() if made else hr.keys() - lr.keys())):
        raise ValueError(
            f"--data_test: {len(alone)} images of {folder} lack their partner of the same name in {lr_dir.name} or "
            f"{hr_dir.name}: {', '.join(alone[:5])}"
        )
    if made is None:
        pairs = [Pair(lr[stem], hr[stem], *_image_and_case(stem, rule)) for stem in lr]
        return Prepared(name, f"{rule} (prepared)", "unknown", pairs, rule.scale)
    pairs = [Pair(lr[e["name"]], hr[e["name"]], e["image"], e["case"]) for e in made["images"]]
    return Prepared(name, str(rule), rule.digest, pairs, rule.scale)


def _image_and_case(name: str, rule: Protocol) -> tuple[str, str]:
    if rule.sv_mode:
        return name, rule.cases[0].name
    named = re.fullmatch(r"(.+)_(\d+\.\d_\d+\.\d_\d+\.\d)", name)
    return (named[1], named[2]) if named else (name, "prepared")


def paired(lr_dir: Path, hr_dir: Path, scale: int, *, flag: str = "--data_test") -> Prepared:
    """Real pairs. Raises ValueError or OSError: what has no partner, or what lacks; `flag` named the HR folder.

    An LR and an HR image belong together by name, or by what is left of all names without endings like those of
    `0801x4`, `0801_x4`, `Canon_001_LR4` and `Canon_001_HR`. Where both folders are one, HR images are those on `_HR`.
    """
    lr, hr = list_images(lr_dir, "--data_test"), list_images(hr_dir, flag)
    if lr_dir.resolve() == hr_dir.resolve():
        hr = [path for path in lr if re.search(r"(?i)[_-](HR|GT)$", path.stem)]
        lr = [path for path in lr if path not in hr]
    pairs = _pair_up(lr, hr, scale)
    folder = _absolute(lr_dir)
    named = {"LR": folder.parent.name, f"LR_x{scale}": folder.parent.name}
    name = named.get(folder.name, f"{folder.parent.name}_{folder.name}" if folder.name[:2] == "LR" else folder.name)
    return Prepared(name, PAIRED, fingerprint([pair.lr for pair in pairs]), pairs, scale)


def _pair_up(lr: Sequence[Path], hr: Sequence[Path], scale: int) -> list[Pair]:
    def bare(path: Path) -> str:
        return re.sub(rf"(?i)([_-]?x{scale}[a-z]?|[_-](LR{scale}?|HR|GT))$", "", path.stem)

    failures: list[list[Path]] = []
    for name in (lambda path: path.stem, bare):
        counts = Counter(map(name, lr)), Counter(map(name, hr))
        wrong = [path for path in (*lr, *hr) if any(count[name(path)] != 1 for count in counts)]
        if not wrong:
            partner = {name(path): path for path in hr}
            return [Pair(path, partner[name(path)], name(path), PAIRED) for path in lr]
        failures.append(wrong)
    wrong = min(failures, key=len)
    raise ValueError(
        f"--data_test: {len(wrong)} of {len(lr)} LR and {len(hr)} HR images have no partner of their name, or more "
        f"than one: {', '.join(map(str, wrong[:5]))}"
    )


def _absolute(path: Path) -> Path:
    """With names that are its own: a link is called as it is, not as what it leads to."""
    return path.resolve() if ".." in path.parts else path.absolute()


def roots_around(dir_data: Path) -> list[Path]:
    """Where test sets are looked for: under --dir_data, beside it and above."""
    return [dir_data, *dir_data.absolute().parents[:2]]


def find(name: str, roots: Sequence[Path], rule: Protocol, *, seed: int) -> TestSet | None:
    """The test set of this name, None where there is none.

    `name` is a folder, or the name of one in `<root>/benchmark` or `<root>`. It may be a prepared set; and one beside
    the HR images (`<Set>_x<s>`) goes before them if it was made by this protocol. With `LR_x<s>` or `LR` in it beside
    `HR` it is one of real pairs, whatever the protocol.
    """
    places = [Path(name), *(root / sub / name for root in roots for sub in ("benchmark", "."))]
    for place in map(_absolute, places):
        if any((place / part).is_dir() for part in ("HR_si", "HR_sv")):
            return prepared(place, rule, seed)
        lr_dir = next((place / lr for lr in (f"LR_x{rule.scale}", "LR") if (place / lr).is_dir()), None)
        if lr_dir is not None and (place / "HR").is_dir():
            return paired(lr_dir, place / "HR", rule.scale)
        beside = place.with_name(f"{place.name}_x{rule.scale}")
        if fits(beside, rule, seed):
            return prepared(beside, rule, seed)
        if place.is_dir():
            hr = place / "HR" if (place / "HR").is_dir() else place
            return Degraded(hr.parent.name if hr.name == "HR" else hr.name, list_images(hr, "--data_test"), rule, seed)
    return None
