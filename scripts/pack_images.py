"""Decode a folder of images once into a file that training reads patches from quickly.

python scripts/pack_images.py DIR [--out PATH] [--skip_bad_images]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.packed import pack


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Decode a folder of images into PATH.u8 and PATH.json.")
    parser.add_argument("dir", metavar="DIR", type=Path, help="folder of HR images")
    parser.add_argument("--out", metavar="PATH", type=Path, help="where, without suffix (default: DIR)")
    parser.add_argument("--skip_bad_images", action="store_true", help="leave out unreadable images and name them")
    args = parser.parse_args(argv)
    out = args.out or args.dir.resolve()
    try:
        index = pack(args.dir, out, skip_bad=args.skip_bad_images)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    for file in index.skipped:
        print(f"left out: {file.reason}")
    print(f"{len(index.images)} images, {index.size:,} bytes, in {out}.u8; train from it with --data_cache {out}")


if __name__ == "__main__":
    main()
