"""Write the HR and LR images of a test protocol, with a manifest, in the layout that CDSR's code publishes.

    python scripts/make_testset.py --protocol manet9 --scale 4 --hr benchmark/Set5/HR --out benchmark/Set5_x4 --noise 15

It takes the flags by which `test.py` degrades images, and writes what that would score. Same seed, same pixels, on any
machine. `test.py` uses such a folder where it lies beside the HR images, or by its path.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.folders import hr_folder, lr_folder, read_manifest
from data.images import list_images, write_image
from data.protocol import Protocol
from data.testset import MANIFEST, Degraded, fingerprint, pixel_digest, to_pixels
from flags import REQUIRED, fill, flag, flags_of, parse
from option import DegradationOptions, ProtocolOptions, eval_options, notes
from parts import test_protocol_of
from scripts.program import check_folder, one_line
from test import NAMES
from utility import argument, file_name, print_any_name, write_text

LIKE = "KDSR_S"  # the network whose published protocols are the defaults


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    hr: Path = flag(REQUIRED, "folder of HR images")  # noqa: RUF009 (`flag` makes a field)
    out: Path = flag(REQUIRED, "folder of the set, for example benchmark/Set5_x4")  # noqa: RUF009
    scale: int = flag(REQUIRED, "HR pixels per LR pixel, along each side", low=2, high=4)
    seed: int = flag(1, "seed of noise and draws", low=0, high=2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class MakeOptions:
    """Write the HR and LR images of a test protocol, with a manifest."""

    images: SetOptions
    degradation: DegradationOptions
    test_degradation: ProtocolOptions


def entry(rule: Protocol, hr: Sequence[Path], seed: int) -> dict[str, Any]:
    """Return what the manifest says of one LR folder, except for its images."""
    return {
        "protocol": str(rule),
        "digest": rule.digest,
        "definition": rule.definition,
        "seed": seed,
        "source": fingerprint(hr),
    }


def write(rule: Protocol, hr: Sequence[Path], out: Path, seed: int) -> int:
    """Write the set, and return the number of its LR images. The LR folder appears when all of them are there.

    The manifest holds the digest of the pixels of every LR and HR image; whoever reads the set compares them.

    Raises:
        FileExistsError: `out` holds a different set.
        BadImage: an HR image is damaged, too small, or named like another one.
    """
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
    test_set = Degraded(out.name, hr, rule, seed)
    test_set.check(at_least=1)
    partial = lr_dir.with_name(f".{lr_dir.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)  # of a call that was interrupted
    for folder in (partial, hr_dir):
        folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, dict[str, Any]] = {}
    try:
        for sample in test_set.samples(torch.device("cpu")):
            target = to_pixels(sample.hr)
            for case, name, image in zip(rule.cases, sample.cases, sample.lr, strict=True):
                stem = file_name(sample.image if rule.sv_mode else f"{sample.image}_{name}")
                if stem in images:
                    raise ValueError(f"`hr`: two images would be written as {stem}.png; give one of them another name")
                pixels = to_pixels(image)
                write_image(partial / f"{stem}.png", pixels)
                write_image(hr_dir / f"{stem}.png", target)
                told = {"name": stem, "image": sample.image, "case": name, "width": case.width, "theta": case.theta}
                images[stem] = {**told, "lr_sha256": pixel_digest(pixels), "hr_sha256": pixel_digest(target)}
        entries = {**manifest, lr_dir.name: {**made, "images": list(images.values())}}
        write_text(out / MANIFEST, json.dumps(entries, indent=1))
        shutil.rmtree(lr_dir, ignore_errors=True)  # of the same pixels
        partial.rename(lr_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(images)


def main(argv: Sequence[str] | None = None) -> None:
    print_any_name()
    with one_line("make_testset.py", {name: f"--{name}" for name in flags_of(MakeOptions)}):
        given = parse(MakeOptions, argv, prog="make_testset.py", names=NAMES)
        made = fill(SetOptions, given)
        degraded = {name: value for name, value in given.items() if name not in vars(made)}
        options = eval_options(degraded, NAMES, model=LIKE, scale=made.scale)
        for note in notes(degraded, options):
            print(f"note: {note}")
        rule = test_protocol_of(options, made.scale, {}, degraded)
        check_folder("--out", made.out)
        with argument("hr"):
            paths = list_images(made.hr)
        count = write(rule, paths, made.out, made.seed)
        print(f"{count} LR images of {rule} x{rule.scale} ({rule.digest}) in {lr_folder(made.out, rule)}")


if __name__ == "__main__":
    main()
