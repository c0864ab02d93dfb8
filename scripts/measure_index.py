"""Measure what a packed cache of many images costs before the first step and at each step: a table for docs/data.md.

python scripts/measure_index.py [COUNT ...]    # images; 1000 and 100000 without any

The cache is synthetic: an index of 2040 x 1356 pixels for each image, beside an empty file of the right size.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.draws import Draws
from data.packed import Index, Packed, PackedImages, write_index
from data.sampler import PatchBatches, PatchSampler
from scripts.program import integer, one_line, program, words_of

T = TypeVar("T")
HEIGHT, WIDTH = 1356, 2040
STEPS = 50


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a call, and the CPU time it takes, seconds."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def measure(count: int, folder: Path) -> list[str]:
    """Return a row of the table for so many images."""
    cache, size = folder / str(count), 3 * HEIGHT * WIDTH
    images = [
        Packed(f"{i:07d}.png", 4_000_000, 10**18 + i, HEIGHT, WIDTH, i * size, 2**32 - 1 - i) for i in range(count)
    ]
    write_index(Index("synthetic", images, []), cache)
    with Path(f"{cache}.u8").open("wb") as file:
        file.truncate(count * size)  # takes no space where the file system has sparse files
    store, opening = timed(lambda: PackedImages(cache))
    batches = PatchBatches(store, PatchSampler(store.sizes, Draws(seed=1, batch=64), patch=256, augment="all"))
    batches.sampler.draw(0)  # shuffles
    _, drawing = timed(lambda: [batches.sampler.draw(step) for step in range(STEPS)])
    sent, sending = timed(lambda: pickle.dumps(batches))
    tracemalloc.start()
    kept = PackedImages(cache)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    on_disk = Path(f"{cache}.json").stat().st_size
    return [
        f"{len(kept.names)}",
        f"{on_disk / 2**20:.1f} MiB",
        f"{opening:.2f} s",
        f"{1000 * drawing / STEPS:.2f} ms",
        f"{1000 * sending:.0f} ms, {len(sent) / 2**20:.1f} MiB",
        f"{held / 2**20:.1f} MiB",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("counts", metavar="COUNT", nargs="*", type=integer(1), default=[1000, 100_000], help="images")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)), tempfile.TemporaryDirectory() as folder:
        for count in given.counts:
            print(f"| {' | '.join(measure(count, Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main()
