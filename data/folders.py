"""Folders of images: names joined by +, LR and HR images that are paired by name, and test sets that were prepared."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from data.images import list_images
from data.protocol import Protocol
from data.testset import MANIFEST, PAIRED, Pair, Prepared, fingerprint
from utility import listing, read_json


def hr_folder(folder: Path, rule: Protocol) -> Path:
    """Return where a prepared set keeps its HR images."""
    return folder / ("HR_sv" if rule.sv_mode else "HR_si")


def lr_folder(folder: Path, rule: Protocol) -> Path:
    """Return where a prepared set keeps the LR images of this mode and noise."""
    return folder / f"LR_mode{rule.sv_mode}_noise{255 * rule.noise:g}{'_var' if rule.noise_var else ''}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read how each LR folder of a prepared set was made; empty for sets from elsewhere.

    Raises ValueError for a damaged manifest, and for a `name`, `image` or `case` that is not a plain file name: they
    become parts of paths.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = read_json(path)
        for made in manifest.values():
            _ = made["digest"], made["seed"]
            names = [entry[key] for entry in made["images"] for key in ("name", "image", "case")]
            if strange := [name for name in names if not _is_file_name(name)]:
                raise ValueError(f"{strange[0]!r} is not a plain file name")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    return manifest


def _is_file_name(name: object) -> bool:
    if not isinstance(name, str) or name in ("", ".."):
        return False
    return Path(name).name == name and not re.search(r"[/\\\x00-\x1f]", name)


def fits(folder: Path, rule: Protocol, seed: int) -> bool:
    """Return True if a folder is a set prepared for this protocol and seed. CDSR's own sets have no manifest."""
    if not lr_folder(folder, rule).is_dir():
        return False
    made = read_manifest(folder).get(lr_folder(folder, rule).name)
    if made is None:
        plain = rule.quality is None and not rule.noise_var
        return rule.name in ("manet9", f"manet_sv{rule.sv_mode}") and plain
    return made["digest"] == rule.digest and made["seed"] == seed


def prepared(folder: Path, rule: Protocol, seed: int) -> Prepared:
    """Pair the images of a prepared set in the published layout. Raises ValueError or OSError for missing ones."""
    lr_dir, hr_dir = lr_folder(folder, rule), hr_folder(folder, rule)
    if not fits(folder, rule, seed):
        found = ", ".join(sorted(path.name for path in folder.glob("LR_*"))) or "no LR folder"
        raise ValueError(
            f"{folder} holds {found}, and none of them is {rule} ({lr_dir.name}, {rule.digest}) with `seed` {seed}"
        )
    lr = {path.stem: path for path in list_images(lr_dir)}
    hr = {path.stem: path for path in list_images(hr_dir)}
    made, name = read_manifest(folder).get(lr_dir.name), folder.name.removesuffix(f"_x{rule.scale}")
    wanted = set(lr) if made is None else {entry["name"] for entry in made["images"]}
    if alone := sorted(wanted - lr.keys() | wanted - hr.keys() | (set() if made else hr.keys() - lr.keys())):
        raise ValueError(
            f"{len(alone)} images of {folder} lack their partner of the same name in {lr_dir.name} or "
            f"{hr_dir.name}: {', '.join(alone[:5])}"
        )
    if made is None:
        pairs = [Pair(lr[stem], hr[stem], *_image_and_case(stem, rule)) for stem in lr]
        return Prepared(name, f"{rule} (prepared)", "unknown", pairs, rule.scale)
    pairs = [
        Pair(lr[e["name"]], hr[e["name"]], e["image"], e["case"], e.get("lr_sha256"), e.get("hr_sha256"))
        for e in made["images"]
    ]
    return Prepared(name, str(rule), rule.digest, pairs, rule.scale, source=made.get("source"))


def _image_and_case(name: str, rule: Protocol) -> tuple[str, str]:
    if rule.sv_mode:
        return name, rule.cases[0].name
    named = re.fullmatch(r"(.+)_(\d+\.\d_\d+\.\d_\d+\.\d)", name)
    return (named[1], named[2]) if named else (name, "prepared")


def paired(lr_dir: Path, hr_dir: Path, scale: int, *, crop: int = 0) -> Prepared:
    """Pair real LR and HR images, `crop` LR pixels a side of their centre; 0: all of them.

    `pair_folders` says which images belong together. Raises ValueError or OSError for missing folders and images
    without a partner.
    """
    pairs = pair_folders(lr_dir, hr_dir, scale)
    folder = absolute(lr_dir)
    named = {"LR": folder.parent.name, f"LR_x{scale}": folder.parent.name}
    name = named.get(folder.name, f"{folder.parent.name}_{folder.name}" if folder.name[:2] == "LR" else folder.name)
    protocol = f"{PAIRED} crop{crop}" if crop else PAIRED
    return Prepared(name, protocol, fingerprint([pair.lr for pair in pairs]), pairs, scale, crop, real=True)


def pair_folders(lr_dir: Path, hr_dir: Path, scale: int) -> list[Pair]:
    """Pair LR and HR images by name. Raises ValueError or OSError for missing folders and images without a partner.

    An LR and an HR image belong together if their names are the same, or are so without endings like those of `0801x4`,
    `0801_x4`, `DSC_1_x1`, `Canon_001_LR4` and `Canon_001_HR`. Where both folders are one, the HR images end on `_HR`,
    `_GT` or `_x1`.
    """
    lr, hr = list_images(lr_dir), list_images(hr_dir)
    if lr_dir.resolve() == hr_dir.resolve():
        hr = [path for path in lr if re.search(r"(?i)[_-](HR|GT|x1)$", path.stem)]
        chosen = set(hr)
        lr = [path for path in lr if path not in chosen]

    def bare(path: Path) -> str:
        return re.sub(rf"(?i)([_-]?x{scale}[a-z]?|[_-](x1|LR{scale}?|HR|GT))$", "", path.stem)

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
        f"among {len(lr)} LR and {len(hr)} HR images, {len(wrong)} have no partner of their name, or more "
        f"than one: {listing([str(path) for path in wrong])}"
    )


def split(places: Path) -> list[Path]:
    """Return the folders whose names are joined by +; an existing folder with a + in its name is one folder.

    Raises ValueError where a name is missing.
    """
    names = [str(places)] if places.exists() else str(places).split("+")
    if "" in names:
        raise ValueError(f"{places}: expected names of folders joined by +, and one of them is empty")
    return [Path(name) for name in names]


def absolute(path: Path) -> Path:
    """Make a path absolute; a link keeps its own name, not that of its target."""
    return path.resolve() if ".." in path.parts else path.absolute()
