"""Convert weights between our files, .pt or .safetensors, and those that the papers' authors publish.

    python scripts/convert_weights.py kdsr_s.pt kdsr_s.safetensors            # the same network in the other container
    python scripts/convert_weights.py theirs.pth ours.safetensors             # published weights become ours
    python scripts/convert_weights.py ours.pt theirs.pth --to published       # and ours become published ones
    python scripts/convert_weights.py SFTMD.pth Predictor.pth Corrector.pth ikc.safetensors    # IKC's three become one
    python scripts/convert_weights.py ikc.safetensors ikc.pth --to parts      # ikc_SFTMD.pth and so on, three again

Without --to, published weights become ours; ours become published ones if both files are of one container, and else
stay ours in the other one. OUT's suffix names the container: .pt and .pth are PyTorch's, .safetensors the other. IN may
also be a folder with config.json and model.safetensors.

Published are plain state dicts, as the authors of KDSR, CDSR, DASR, EDSR and ESRGAN give them away. IKC is three of
them, given in the order SFTMD, Predictor, Corrector; --to published writes them as one file, {"SFTMD", "Predictor",
"Corrector"}, which is read here, too, and --to parts as three, which its authors' code reads. If IN holds the moving
average of the weights too, they become `{"params", "params_ema"}`, as those of KDSR-GAN: BasicSR, on which that is
built, loads what its option `param_key` names. What published files hold besides the network (CDSR's momentum encoder
and queue) is left out.

Of our networks spandrel, and so chaiNNer, knows one: RRDB x2 and x4, as ESRGAN. It has no KDSR, CDSR, DASR or EDSR;
these run in their authors' code (EDSR in EDSR-PyTorch).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import BlindSR, foreign, load_model, name_of, read_file, save_model, zoo
from model.checkpoint import from_published
from model.ikc import PARTS as IKC_PARTS
from model.rrdb import RRDBNet
from model.weight_file import PARTS
from scripts.program import one_line, program, words_of
from utility import atomic_write

CONTAINERS = {".pt": "PyTorch", ".pth": "PyTorch", ".safetensors": "safetensors"}  # by suffix


def convert(source: Path, out: Path, to: str | None = None, others: Sequence[Path] = ()) -> str:
    """Write `out` and return what it holds, in words.

    Args:
        source: weights of ours, or published ones.
        out: a file that is not there yet.
        to: "ours", "published" or "parts"; for None see the program's help.
        others: if `source` is the published SFTMD of IKC, its Predictor and its Corrector.

    Raises:
        ValueError: the suffix of `out` is unknown, `source` holds no network, or it cannot be written in this form.
        OSError: a file is missing, there already, or cannot be written.
    """
    if out.suffix not in CONTAINERS:
        raise ValueError(f"OUT {out}: its suffix must be one of {', '.join(CONTAINERS)}")
    if out.exists():
        raise FileExistsError(f"OUT: {out} is there already; name another file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"OUT: there is no folder {out.parent}")
    if others:
        return _join((source, *others), out, to)
    contents = {"network": None} if source.is_dir() else read_file(source)
    both = contents.keys() >= set(PARTS)
    net, ema = load_model(source, weights="params" if both else "auto"), None
    if both:
        ema = load_model(source, weights="params_ema")
    if to is None:
        other = CONTAINERS.get(source.suffix, "safetensors") != CONTAINERS[out.suffix]
        to = "ours" if "network" not in contents or other else "published"
    return _write(net, ema, out, to)


def _join(sources: Sequence[Path], out: Path, to: str | None) -> str:
    if len(sources) != len(IKC_PARTS):
        raise ValueError(f"IN: {len(sources)} files; IKC is published in {len(IKC_PARTS)}: {', '.join(IKC_PARTS)}")
    parts = {part: read_file(source) for part, source in zip(IKC_PARTS, sources, strict=True)}
    net = from_published(foreign.join(parts), " + ".join(map(str, sources)))
    return _write(net, None, out, to or "ours")


def _write(net: BlindSR, ema: BlindSR | None, out: Path, to: str) -> str:
    if to == "ours":
        save_model(net, out, ema=ema)
    elif to == "parts":
        _write_parts(net, out)
    else:
        _write_published(net, ema, out)
    return f"{out}: {name_of(net)} {net.config}, {_names(to, net)}{', and its average' * (ema is not None)}"


def _write_parts(net: BlindSR, out: Path) -> None:
    """Write each state dict of a network that is published in several beside `out`, with its name."""
    parts = foreign.split(foreign.write(net))
    if not parts:
        raise ValueError(f"--to parts: {name_of(net)} is published in one file, not in parts")
    paths = {part: out.with_name(f"{out.stem}_{part}{out.suffix}") for part in parts}
    if there := [str(path) for path in paths.values() if path.exists()]:
        raise FileExistsError(f"OUT: {', '.join(there)} is there already; name another file")
    for part, path in paths.items():
        with atomic_write(path) as temporary:
            _save(parts[part], temporary, path.suffix)


def _save(state: dict[str, Tensor], path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)


def _write_published(net: BlindSR, ema: BlindSR | None, out: Path) -> None:
    """Write what the authors' code loads: without a digest, which it would take for a weight."""
    if ema is not None and out.suffix == ".safetensors":
        raise ValueError(f"OUT {out}: published .safetensors files hold one set of weights, IN has two; name a .pth")
    states = {part: foreign.write(each) for part, each in zip(PARTS, (net, ema), strict=True) if each is not None}
    with atomic_write(out) as temporary:
        if out.suffix == ".safetensors":
            _save(states[PARTS[0]], temporary, out.suffix)
        else:
            nested = {part: foreign.split(state) or state for part, state in states.items()}
            torch.save(nested[PARTS[0]] if ema is None else nested, temporary)


def _names(to: str, net: BlindSR) -> str:
    if to == "ours":
        return "our key names"
    knows = "knows it as ESRGAN" if isinstance(net, RRDBNet) else "has no such architecture"
    return f"official key names (spandrel, chaiNNer's loader, {knows})"


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("source", type=Path, nargs="+", metavar="IN", help="weights to read; three files for IKC")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, .pt, .pth or .safetensors")
    parser.add_argument("--to", choices=("ours", "published", "parts"), help="key names of OUT (default: see above)")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        first, *others = map(zoo.resolve, given.source)
        print(convert(first, given.out, given.to, others))


if __name__ == "__main__":
    main()
