"""Write the HR and LR images of a test protocol, with a manifest, in the layout that CDSR's code publishes.

    python scripts/make_testset.py --protocol manet9 --scale 4 --hr benchmark/Set5/HR --out benchmark/Set5_x4 --noise 15

Same seed, same pixels, on any machine. `test.py` uses such a folder where it lies beside the HR images, or by its path.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images import list_images, write_image
from data.protocol import NAMED, Protocol, manet_sv, read_protocol
from data.testset import MANIFEST, Degraded, fingerprint, hr_folder, lr_folder, read_manifest, to_pixels
from utility import atomic_write


def digest(pixels: np.ndarray) -> str:
    """SHA-256 of the pixels with their size; how a file compresses them plays no part."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def entry(rule: Protocol, hr: Sequence[Path], seed: int) -> dict[str, Any]:
    """What the manifest says of one LR folder, its images apart."""
    return {
        "protocol": str(rule),
        "digest": rule.digest,
        "definition": rule.definition,
        "seed": seed,
        "source": fingerprint(hr),
    }


def write(rule: Protocol, hr: Sequence[Path], out: Path, seed: int) -> int:
    """Write the set; returns the number of LR images. Raises FileExistsError where `out` holds a different one."""
    manifest, made = read_manifest(out), entry(rule, hr, seed)
    lr_dir, hr_dir = lr_folder(out, rule), hr_folder(out, rule)
    before = manifest.get(lr_dir.name)
    if before is None and lr_dir.exists():
        raise FileExistsError(f"--out: {lr_dir} is there already and {MANIFEST} does not say what it is")
    same = before is not None and json.loads(json.dumps(made)) == {k: v for k, v in before.items() if k != "images"}
    if before is not None and not same:
        raise FileExistsError(f"--out: {lr_dir} holds {before['protocol']} of other images, kernels or seed")
    if any(other["source"] != made["source"] for other in manifest.values()):
        raise FileExistsError(f"--out: {out} was made of other HR images")
    for folder in (lr_dir, hr_dir):
        folder.mkdir(parents=True, exist_ok=True)
    benchmark = Degraded(out.name, hr, rule, seed)
    benchmark.check(at_least=1)
    images = []
    for sample in benchmark.samples(torch.device("cpu")):
        target = to_pixels(sample.hr)
        for case, name, image in zip(rule.cases, sample.cases, sample.lr, strict=True):
            stem = sample.image if rule.sv_mode else f"{sample.image}_{name}"
            pixels = to_pixels(image)
            write_image(lr_dir / f"{stem}.png", pixels)
            write_image(hr_dir / f"{stem}.png", target)
            said = {"name": stem, "image": sample.image, "case": name, "width": case.width, "theta": case.theta}
            images.append({**said, "lr_sha256": digest(pixels), "hr_sha256": digest(target)})
    with atomic_write(out / MANIFEST) as temporary:
        temporary.write_text(json.dumps({**manifest, lr_dir.name: {**made, "images": images}}, indent=1))
    return len(images)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", required=True, help=f"{', '.join(NAMED)}, manet_sv, or a protocol file")
    parser.add_argument("--scale", required=True, type=int, choices=(2, 3, 4))
    parser.add_argument("--hr", required=True, type=Path, metavar="DIR", help="folder of HR images")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="for example benchmark/Set5_x4")
    parser.add_argument("--noise", type=float, default=0.0, help="σ in grey levels of 255 (default: 0)")
    parser.add_argument("--sv_mode", type=int, choices=range(1, 6), help="of manet_sv")
    parser.add_argument("--seed", type=int, default=1, help="of the noise (default: 1)")
    given = parser.parse_args(argv)
    if (given.protocol == "manet_sv") != (given.sv_mode is not None):
        parser.error("--protocol manet_sv and --sv_mode go together")
    if given.noise and (given.protocol == "second_order" or given.protocol not in (*NAMED, "manet_sv")):
        parser.error(f"--protocol {given.protocol} says all of itself: leave out --noise")
    if not 0 <= given.noise <= 255:
        parser.error(f"--noise {given.noise:g} must be in 0..255")
    try:
        if given.sv_mode is not None:
            rule = manet_sv(given.scale, given.sv_mode)
        elif given.protocol in NAMED:
            rule = NAMED[given.protocol](given.scale)
        else:
            rule = read_protocol(Path(given.protocol), given.scale)
        if given.noise:
            rule = replace(rule, noise=given.noise / 255)
        count = write(rule, list_images(given.hr, "--hr"), given.out, given.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"make_testset.py: error: {error}")
    print(f"{count} LR images of {rule} x{rule.scale} ({rule.digest}) in {lr_folder(given.out, rule)}")


if __name__ == "__main__":
    main()
