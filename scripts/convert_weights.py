"""Weights as the papers' authors publish them to ours, and ours to theirs.

    python scripts/convert_weights.py IN.pt OUT.pt

The direction follows from IN.pt. What theirs hold beside the network (CDSR's momentum encoder and queue) is left out,
as it is in the files that they publish.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import checkpoint, load_model, name_of, official, read_file
from utility import save


def convert(source: Path, out: Path) -> str:
    """Write `out`; says what it is. Raises ValueError or OSError."""
    if out.exists():
        raise FileExistsError(f"OUT: {out} is there already; name another file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"OUT: there is no folder {out.parent}")
    net, ours = load_model(source, flag="IN"), "network" in read_file(source, "IN")
    save(official.write(net) if ours else checkpoint(net), out)
    return f"{out}: {name_of(net)} {net.config}, {'official' if ours else 'our'} key names"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN.pt")
    parser.add_argument("out", type=Path, metavar="OUT.pt")
    given = parser.parse_args()
    try:
        print(convert(given.source, given.out))
    except (ValueError, OSError) as error:
        sys.exit(f"convert_weights.py: error: {error}")
