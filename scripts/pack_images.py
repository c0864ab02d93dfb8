"""Decode a folder of images once into a file that training reads patches from quickly.

python scripts/pack_images.py DIR [--out PATH] [--skip_bad_images]
python scripts/pack_images.py DIR [--out PATH] --verify    # do the pixels still match their checksums?
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images import list_images
from data.packed import pack, verify, why_repack
from scripts.program import check_folder, one_line, program, words_of


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("dir", metavar="DIR", type=Path, help="folder of HR images")
    parser.add_argument("--out", metavar="PATH", type=Path, help="place of PATH.u8 and PATH.json (default: beside DIR)")
    parser.add_argument("--skip_bad_images", action="store_true", help="leave out unreadable images and name them")
    parser.add_argument("--verify", action="store_true", help="read a cache and compare it with its checksums")
    given = parser.parse_args(argv)
    cache = given.out or given.dir.resolve()
    with one_line(parser.prog, words_of(parser)):
        list_images(given.dir)  # a missing folder is an error before anything is made
        if given.verify:
            count = verify(cache)
            print(f"{count} images in {cache}.u8 are as they were packed")
            if reason := why_repack(given.dir, cache):
                print(f"note: {given.dir} has changed since: {reason}")
            return
        check_folder("--out", cache.parent)
        index = pack(given.dir, cache, skip_bad=given.skip_bad_images)
        for file in index.skipped:
            print(f"left out: {file.reason}")
        print(
            f"{len(index.images)} images, {index.size:,} bytes, in {cache}.u8; train from it with --data_cache {cache}"
        )


if __name__ == "__main__":
    main()
