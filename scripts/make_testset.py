"""Write the HR and LR images of a test protocol, with a manifest, in the layout that CDSR's code publishes.

    python scripts/make_testset.py --protocol manet9 --scale 4 --hr benchmark/Set5/HR --out benchmark/Set5_x4 --noise 15

Same seed, same pixels, on any machine. `test.py` uses such a folder where it lies beside the HR images, or by its path.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.folders import hr_folder, lr_folder, read_manifest
from data.images import list_images, write_image
from data.protocol import NAMED, Protocol
from data.protocol_flags import build_protocol
from data.testset import MANIFEST, Degraded, fingerprint, pixel_digest, to_pixels
from scripts.program import check_folder, integer, one_line, program, real, words_of
from utility import argument, file_name, write_text


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
    parser = program(__file__, __doc__)
    parser.add_argument(
        "--protocol", required=True, help=f"{', '.join(NAMED)}, manet_sv, a recipe that draws, or a protocol file"
    )
    parser.add_argument("--scale", required=True, type=int, choices=(2, 3, 4))
    parser.add_argument("--hr", required=True, type=Path, metavar="DIR", help="folder of HR images")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="for example benchmark/Set5_x4")
    parser.add_argument("--noise", type=real(0, 255), default=0.0, help="σ in grey levels of 255 (default: 0)")
    parser.add_argument("--sv_mode", type=int, choices=range(1, 7), help="kernels of manet_sv")
    parser.add_argument("--seed", type=integer(0), default=1, help="seed of noise and draws (default: 1)")
    given = parser.parse_args(argv)
    if (given.protocol == "manet_sv") != (given.sv_mode is not None):
        parser.error("--protocol manet_sv and --sv_mode go together")
    if given.noise and given.protocol not in (*NAMED, "manet_sv"):
        parser.error(f"--protocol {given.protocol} fixes all settings itself: leave out --noise")
    with one_line(parser.prog, words_of(parser)):
        rule = build_protocol(
            given.protocol,
            scale=given.scale,
            blur_type="aniso_gaussian",
            sv_mode=given.sv_mode or 0,
            noise=given.noise,
        )
        check_folder("--out", given.out)
        with argument("hr"):
            paths = list_images(given.hr)
        count = write(rule, paths, given.out, given.seed)
        print(f"{count} LR images of {rule} x{rule.scale} ({rule.digest}) in {lr_folder(given.out, rule)}")


if __name__ == "__main__":
    main()
