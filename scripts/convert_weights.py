"""Weights as the papers' authors publish them to ours, and ours to theirs.

    python scripts/convert_weights.py IN.pt OUT.pt

The direction follows from IN.pt. What theirs hold beside the network (CDSR's momentum encoder and queue) is left out,
as it is in the files that they publish.

Theirs is a plain state dict, as the authors of KDSR, CDSR, DASR and ESRGAN publish it, where IN.pt holds one set of
weights. Where it holds their moving average too, theirs is `{"params", "params_ema"}`, as KDSR-GAN's is: BasicSR, on
which that is built, takes what its option `param_key` names.

Of our networks spandrel, and so chaiNNer, knows one: RRDB x2 and x4, as ESRGAN. It has no KDSR, CDSR, DASR or EDSR;
these run in their authors' code (EDSR: here only).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import WEIGHTS, BlindSR, checkpoint, load_model, name_of, official, read_file
from model.rrdb import RRDBNet
from utility import save


def convert(source: Path, out: Path) -> str:
    """Write `out`; says what it is. Raises ValueError or OSError."""
    if out.exists():
        raise FileExistsError(f"OUT: {out} is there already; name another file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"OUT: there is no folder {out.parent}")
    contents = read_file(source, "IN")
    both = {"params", "params_ema"} <= contents.keys()
    nets = [load_model(source, flag="IN", weights=weights) for weights in (WEIGHTS[1:] if both else WEIGHTS[:1])]
    if "network" not in contents:
        save(checkpoint(*nets), out)
    elif both:
        save({weights: official.write(net) for weights, net in zip(WEIGHTS[1:], nets, strict=True)}, out)
    else:
        save(official.write(nets[0]), out)
    return f"{out}: {name_of(nets[0])} {nets[0].config}, {_names(contents, nets[0])}{', and its average' * both}"


def _names(contents: dict[str, Any], net: BlindSR) -> str:
    if "network" not in contents:
        return "our key names"
    knows = "knows it as ESRGAN" if isinstance(net, RRDBNet) else "has no such architecture"
    return f"official key names (spandrel, chaiNNer's loader, {knows})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN.pt")
    parser.add_argument("out", type=Path, metavar="OUT.pt")
    given = parser.parse_args()
    try:
        print(convert(given.source, given.out))
    except (ValueError, OSError) as error:
        sys.exit(f"convert_weights.py: error: {error}")
