"""Test sets: HR images that are degraded on the fly, or LR and HR images on disk that are paired by name.

Those on disk were prepared under a protocol, or are real pairs (NTIRE2020, AIM2019, RealSR), which have none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from data.given import wrong_size
from data.images import BadImage, check_image, read_image
from data.protocol import Protocol

MANIFEST = "manifest.json"  # of a prepared set: how each of its LR folders was made
PAIRED = "paired"  # the protocol and the only case of real pairs
HELD_OUT = "held-out"  # a test set of a few training images


class Sample(NamedTuple):
    """One HR image and its LR images under one or more cases of the protocol."""

    image: str
    cases: list[str]
    lr: Tensor  # (N, 3, H, W)
    hr: Tensor  # (3, s·H, s·W)


class Pair(NamedTuple):
    """An LR image on disk and its HR image; the digests are those of a manifest, see `pixel_digest`."""

    lr: Path
    hr: Path
    image: str
    case: str
    lr_sha256: str | None = None
    hr_sha256: str | None = None


class TestSet(Interface):
    """LR and HR images to score a network on."""

    @property
    def name(self) -> str:
        """The name in tables and folders of results."""
        ...

    @property
    def protocol(self) -> str:
        """The protocol's name, with its noise and JPEG."""
        ...

    @property
    def digest(self) -> str:
        """The protocol's digest; "unknown" for a prepared set without a manifest; a fingerprint of real LR images."""
        ...

    @property
    def real(self) -> bool:
        """True for pairs that were found as they are, False for images that a protocol has degraded."""
        ...

    @property
    def images(self) -> str:
        """The `fingerprint` of the HR images; of a prepared set, of those that it was made of."""
        ...

    @property
    def hr_paths(self) -> Sequence[Path]:
        """One HR image for each sample."""
        ...

    def check(self, *, at_least: int) -> None:
        """Raise BadImage for a file that is damaged, does not fit, or has under `at_least` HR pixels a side."""
        ...

    def part(self, index: int, parts: int) -> TestSet:
        """Return the set of every parts-th image, from this index on: the share of a rank."""
        ...

    def samples(self, device: torch.device) -> Iterator[Sample]:
        """Yield the images on a device. Raise BadImage for one that cannot be read or is not that of the manifest."""
        ...


def to_tensor(pixels: object, device: torch.device) -> Tensor:
    """Turn an (H, W, 3) uint8 array into (3, H, W) float in [0, 1]."""
    return torch.as_tensor(pixels, device=device).permute(2, 0, 1).float() / 255


def to_pixels(image: Tensor) -> np.ndarray:
    """Turn (3, H, W) in [0, 1] into an (H, W, 3) uint8 array."""
    return np.ascontiguousarray((255 * image).round().byte().permute(1, 2, 0).cpu().numpy())


def centre(image: Tensor, *, side: int, scale: int = 1) -> Tensor:
    """Cut the centre, `side` · `scale` pixels a side, out of (C, s·H, s·W); LR and HR are cut alike. 0: all of it.

    Examples:
        >>> lr, hr = torch.arange(5).expand(1, 5, 5), torch.arange(10).expand(1, 10, 10)
        >>> centre(lr, side=2)[0, 0], centre(hr, side=2, scale=2)[0, 0]
        (tensor([1, 2]), tensor([2, 3, 4, 5]))
    """
    if not side:
        return image
    top, left = (scale * ((length // scale - side) // 2) for length in image.shape[1:])
    return image[:, top : top + scale * side, left : left + scale * side]


def fingerprint(paths: Sequence[Path]) -> str:
    """Return 16 hex digits of a SHA-256 over the names and bytes of the files: the same for the same images."""
    files = sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def pixel_digest(pixels: np.ndarray) -> str:
    """Return the SHA-256 of (H, W, 3) uint8 pixels with their size; how a file compresses them plays no part."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


@dataclass(frozen=True)
class Degraded:
    """HR images, cropped to multiples of the scale and degraded on the device under every case of the protocol."""

    name: str
    hr_paths: Sequence[Path]
    rule: Protocol
    seed: int = 1

    @property
    def images(self) -> str:
        """The fingerprint of the HR images."""
        return fingerprint(self.hr_paths)

    @property
    def protocol(self) -> str:
        """The protocol's name, with its noise and JPEG."""
        return str(self.rule)

    @property
    def digest(self) -> str:
        """The protocol's digest."""
        return self.rule.digest

    @property
    def real(self) -> bool:
        """A protocol degrades the images."""
        return False

    def check(self, *, at_least: int) -> None:
        """Raise BadImage for a file that is damaged or too small, and for two of one name."""
        stems = Counter(path.stem for path in self.hr_paths)
        if twice := [path.name for path in self.hr_paths if stems[path.stem] > 1]:
            raise BadImage(f"images of {self.name} differ by their endings alone: {', '.join(twice[:5])}")
        needed = max(at_least, self.rule.smallest)
        for path in self.hr_paths:
            height, width = check_image(path)
            if min(height, width) // self.rule.scale * self.rule.scale < needed:
                raise BadImage(f"{path} is {height} x {width} pixels; {needed} a side are needed")

    def part(self, index: int, parts: int) -> Degraded:
        """Return the set of every parts-th image, from this index on."""
        return replace(self, hr_paths=self.hr_paths[index::parts])

    def samples(self, device: torch.device) -> Iterator[Sample]:
        """Yield each image with its LR images under all cases, on a device."""
        s = self.rule.scale
        for path in self.hr_paths:
            hr = to_tensor(read_image(path), device)
            hr = hr[:, : hr.shape[1] // s * s, : hr.shape[2] // s * s]
            hr = centre(hr, side=self.rule.crop, scale=s)
            lr = [self.rule.degrade(hr, case, seed=f"{self.seed}/{path.stem}") for case in self.rule.cases]
            yield Sample(path.stem, [case.name for case in self.rule.cases], torch.stack(lr), hr)


@dataclass(frozen=True)
class Prepared:
    """LR images on disk, with an HR image each."""

    name: str
    protocol: str
    digest: str
    pairs: Sequence[Pair]
    scale: int
    crop: int = 0  # side of the centre of each LR image that is tested, pixels; 0: all of it
    real: bool = False  # no protocol has made the LR images
    source: str | None = None  # fingerprint of the HR images that the set was made of

    @property
    def images(self) -> str:
        """The fingerprint of the HR images that the set was made of; of its own, where nothing tells those."""
        return self.source or fingerprint(self.hr_paths)

    @property
    def hr_paths(self) -> Sequence[Path]:
        """One HR image for each LR image; a prepared set has many copies of it."""
        return [pair.hr for pair in self.pairs]

    def check(self, *, at_least: int) -> None:
        """Raise BadImage for a file that is damaged or too small, and for an HR image of another scale."""
        for pair in self.pairs:
            lr, hr = check_image(pair.lr), check_image(pair.hr)
            if error := wrong_size(str(pair.lr), lr, str(pair.hr), hr, self.scale):
                raise error
            needed = max(at_least, self.crop * self.scale)
            if min(hr) < needed:
                raise BadImage(f"{pair.hr} is {hr[0]} x {hr[1]} pixels; {needed} a side are needed")

    def part(self, index: int, parts: int) -> Prepared:
        """Return the set of all pairs of every parts-th image, from this index on."""
        images = set([*dict.fromkeys(pair.image for pair in self.pairs)][index::parts])
        return replace(self, pairs=[pair for pair in self.pairs if pair.image in images])

    def samples(self, device: torch.device) -> Iterator[Sample]:
        """Yield each pair, on a device. Raise BadImage for pixels that are not those of the manifest."""
        for pair in self.pairs:
            lr = to_tensor(_read(pair.lr, pair.lr_sha256), device)
            hr = to_tensor(_read(pair.hr, pair.hr_sha256), device)
            hr = hr[:, : self.scale * lr.shape[1], : self.scale * lr.shape[2]]
            lr, hr = centre(lr, side=self.crop), centre(hr, side=self.crop, scale=self.scale)
            yield Sample(pair.image, [pair.case], lr[None], hr)


def _read(path: Path, sha256: str | None) -> np.ndarray:
    pixels = read_image(path)
    if sha256 is not None and pixel_digest(pixels) != sha256:
        raise BadImage(f"{path} is not the image that {MANIFEST} tells of: its pixels have changed; make the set again")
    return pixels
