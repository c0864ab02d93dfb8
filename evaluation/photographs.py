"""Super-resolve photographs in bounded memory, with a progress bar. Each result appears whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from tqdm import tqdm

from data.exif import held_exif
from data.images import BadImage, Log, Size, to_8_bits
from data.outputs import Job
from data.photo import Photo, PhotoFile, open_photo
from data.photo_writer import Form, bytes_in_memory, check_form, depth, writing
from data.resize_rows import ResizedRows, Resizer
from model import BlindSR
from model.memory import out_of_memory
from model.tiling import Progress
from runtime.precision import Precision, has_bf16
from utility import atomic_write, bar_interval

STRIP = 64  # rows that are resized and written at once
DECODING = 20  # bytes that an LR pixel takes while it is decoded and its degradation estimated
EDGE = 8  # LR pixels that are mirrored around a photograph: networks pad with zeros, which would show at corners
TRIAL = 96  # LR pixels a side of the tile on which precisions are compared
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next result would not fit either
CLOSE = 0.5  # grey levels of 255 by which bf16 may differ on average


class Target(NamedTuple):
    """The size of the results, if it is not the network's: a factor, or a box (height, width) that they fit into."""

    factor: float | None = None
    box: Size | None = None

    def size(self, lr: Size, scale: int) -> Size:
        """Return the height and width of the result of an LR image.

        Examples:
            >>> Target(factor=2.5).size((100, 150), 4), Target(box=(300, 300)).size((100, 150), 4)
            ((250, 375), (200, 300))
        """
        if self.box is not None:
            factor = min(self.box[0] / lr[0], self.box[1] / lr[1])
        else:
            factor = scale if self.factor is None else self.factor
        height, width = (max(1, round(side * factor)) for side in lr)
        return height, width

    def ending(self, scale: int) -> str:
        """Return the ending of the results' names.

        Examples:
            >>> Target().ending(4), Target(factor=2.5).ending(4), Target(box=(1080, 1920)).ending(4)
            ('_x4', '_x2.5', '_1920x1080')
        """
        if self.box is not None:
            return f"_{self.box[1]}x{self.box[0]}"
        return f"_x{scale if self.factor is None else self.factor:g}"


@dataclass
class Enlarger:
    """Super-resolves photographs with one network.

    Attributes:
        net: any network but a teacher.
        device: where the network is.
        precision: a precision, or `auto`: for each photograph bf16 where the device has units for it and the result
            of a tile differs by less than half a grey level on average.
        target: the size of the results.
        quality: of JPEG and WebP, 1 to 100.
        tile, self_ensemble: as for `BlindSR.upscale`.
        overwrite: replace existing results.
        log: called with a line about each file.
    """

    net: BlindSR
    device: torch.device
    log: Log
    precision: str = "auto"
    target: Target = field(default_factory=Target)
    quality: int = 95
    tile: int | None = None
    self_ensemble: bool = False
    overwrite: bool = False

    def __call__(self, jobs: Sequence[Job], on_result: Callable[[Path], None] = lambda path: None) -> list[str]:
        """Write the results, and return a message for each photograph that failed, which does not stop the others.

        Existing results are kept and logged, so that an interrupted call goes on when it is repeated; one that appears
        while another program writes it, too, is kept as well. `on_result` is called with each result, also with those
        that were there. Raises OSError where no result can be written any more (`FULL`).
        """
        failures: list[str] = []
        todo: list[tuple[Job, list[int], float]] = []  # frames, and the megapixels of one
        for job in jobs:
            with _noting(job, failures):
                with open_photo(job.source) as file:
                    frames, each = file.frames, self._megapixels(file.size)
                todo.append((job, self._missing(job, frames, on_result), each))
        if todo and not any(frames for _, frames, _ in todo):
            self.log("nothing is left to do: all results are there; another `out` keeps those of other networks apart")
            return failures
        with _Bar(sum(len(frames) * each for _, frames, each in todo)) as bar:
            for number, (job, frames, each) in enumerate(todo, 1):
                with bar.of(len(frames) * each), _noting(job, failures):
                    # Reading is a generator, so that only read errors, not write errors, are blamed on the photograph.
                    for photo, out, name in self._read(job, frames, on_result):
                        self._write(job, photo, out, bar.part(f"{number}/{len(todo)} {name}", each))
                        on_result(out)
        return failures

    def _megapixels(self, size: Size) -> float:
        """Return the size of the network's output for an LR image, in megapixels."""
        return size[0] * size[1] * self.net.scale**2 / 1e6

    def _missing(self, job: Job, frames: int, on_result: Callable[[Path], None]) -> list[int]:
        """Return the frames whose results are to be written; hand the others on."""
        missing = []
        for frame in range(frames):
            if self._is_there(job, out := job.frame(frame, frames)):
                on_result(out)
            else:
                missing.append(frame)
        return missing

    def _is_there(self, job: Job, out: Path) -> bool:
        """Return True, and log it, if a result is there and shall stay."""
        there = not self.overwrite and out.exists()
        if there:
            self.log(f"{job.source}: {out} is there already; `overwrite` replaces it")
        return there

    def _read(
        self, job: Job, frames: Sequence[int], on_result: Callable[[Path], None]
    ) -> Iterator[tuple[Photo, Path, str]]:
        """Yield frames of a file, each with the place of its result and its name for the progress bar.

        Hand on results that have appeared since the call began: another program is at work on them.
        """
        with open_photo(job.source) as file:
            for frame in frames:
                if self._is_there(job, out := job.frame(frame, file.frames)):
                    on_result(out)
                    continue
                file.seek(frame)
                self._check_memory(job, file)
                of = f", frame {frame + 1}/{file.frames}" if file.frames > 1 else ""
                yield file.read(), out, f"{job.source.name}{of}"

    def _write(self, job: Job, photo: Photo, out: Path, progress: Progress) -> None:
        """Super-resolve one frame into a file."""
        height, width, channels = photo.pixels.shape
        bits = 8 * photo.pixels.itemsize
        size = self.target.size((height, width), self.net.scale)
        exif = held_exif(job.format, photo.exif)
        form = Form(*size, channels, depth(job.format, bits), photo.profile, exif)
        try:
            check_form(job.format, form)
        except ValueError as error:
            raise BadImage(f"{job.source}: {error}") from None
        job.out.parent.mkdir(parents=True, exist_ok=True)
        edge = max(EDGE, ceil((self.net.min_size - min(height, width)) / 2))
        framed = np.pad(photo.rgb, ((edge, edge), (edge, edge), (0, 0)), mode="symmetric")
        precision = self.precision if self.precision != "auto" else self._choose_precision(framed)
        chosen = Precision(precision=precision)
        self.net.to(memory_format=chosen.inference_format(self.device))
        try:
            with (
                atomic_write(out, replace=self.overwrite) as temporary,
                writing(temporary, job.format, form, quality=self.quality) as writer,
                chosen.autocast(self.device),
            ):
                rows = _Rows(photo, self.net.scale, size, form.bits, writer.write, edge=edge)
                self.net.upscale_rows(
                    framed, rows.write, tile=self.tile, self_ensemble=self.self_ensemble, progress=progress
                )
        except FileExistsError:
            self.log(f"{job.source}: another program has written {out} meanwhile, which stays")
            return
        arithmetic = "fp32" if precision == "tf32" and self.device.type != "cuda" else precision
        rounded = f", rounded from {bits} bits to {form.bits}" if form.bits < bits else ""
        shorter = ", a part of its EXIF" if exif != photo.exif else ""
        self.log(f"{job.source} -> {out} ({size[1]} x {size[0]}, {arithmetic}{rounded}{shorter})")

    def _check_memory(self, job: Job, file: PhotoFile) -> None:
        """Raise BadImage if photograph and result would take more than half of the free memory."""
        height, width = self.target.size(file.size, self.net.scale)
        form = Form(height, width, 4, depth(job.format, file.bits))
        needed = DECODING * file.size[0] * file.size[1] + bytes_in_memory(job.format, form)
        free = psutil.virtual_memory().available
        if 2 * needed > free:
            advice = "" if job.format == "png" else "; `format` png needs the least"
            raise BadImage(
                f"{job.source}: with its result of {width} x {height} pixels it takes {needed / 2**30:.1f} GiB, more "
                f"than half of the {free / 2**30:.1f} GiB that are free{advice}"
            )

    def _choose_precision(self, image: np.ndarray) -> str:
        """Return bf16 if it serves as well as fp32 on a tile from the middle of an image (H, W, 3)."""
        if not has_bf16(self.device):
            return "fp32"
        (top, height), (left, width) = ((max(0, (side - TRIAL) // 2), min(side, TRIAL)) for side in image.shape[:2])
        crop = image[top : top + height, left : left + width]
        lr = torch.from_numpy(crop.astype(np.float32) / np.iinfo(crop.dtype).max).permute(2, 0, 1)  # 3 h w
        exact, rounded = (self._try(lr, precision) for precision in ("fp32", "bf16"))
        return "bf16" if 255 * (exact - rounded).abs().mean() < CLOSE else "fp32"

    def _try(self, lr: Tensor, precision: str) -> Tensor:
        with Precision(precision=precision).autocast(self.device):
            return self.net.upscale(lr).clamp(0, 1)


@contextmanager
def _noting(job: Job, failures: list[str]) -> Iterator[None]:
    """Turn an error of this block that concerns one photograph into a message; others may still succeed."""
    try:
        yield
    except BadImage as error:
        failures.append(str(error))
    except OSError as error:
        if error.errno in FULL:
            raise
        failures.append(f"{job.source}: its result cannot be written: {error}")
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        failures.append(f"{job.source}: out of memory; a smaller `tile` needs less ({error})")


class _Rows:
    """Makes rows of the result from those of the network: without edge or new colours, with alpha, resized."""

    def __init__(
        self, photo: Photo, scale: int, size: Size, bits: int, write: Callable[[np.ndarray], None], *, edge: int
    ) -> None:
        height, width = (scale * side for side in photo.pixels.shape[:2])
        self._photo, self._neutral, self._bits, self._top = photo, photo.neutral, bits, 0
        self._edge, self._height, self._width = scale * edge, height, width
        self._seen = 0  # rows of the network's output, with the edge
        self._alpha = Resizer(photo.pixels.shape[:2], (height, width)) if photo.has_alpha else None
        self._next = ResizedRows((height, width), size, write).write if (height, width) != size else write

    def write(self, band: np.ndarray) -> None:
        """Take the next rows, (n, s·W, 3), of the image with its edge."""
        start, stop = (max(0, self._edge - self._seen + row) for row in (0, self._height))
        self._seen += len(band)
        band = band[start:stop, self._edge : self._edge + self._width]
        for top in range(0, len(band), STRIP):
            strip = band[top : top + STRIP]
            if self._neutral:
                strip = np.rint(strip.mean(axis=2, keepdims=True)).astype(band.dtype)
                strip = strip if self._photo.grey else strip.repeat(3, axis=2)
            start, self._top = self._top, self._top + len(strip)
            if self._alpha is not None:
                alpha = self._alpha.resize(self._photo.pixels[..., -1:], start, self._top)
                strip = np.concatenate((strip, alpha), axis=2)
            self._next(to_8_bits(strip) if self._bits == 8 else strip)


class _Bar:
    """A progress bar over all files, in megapixels of the network's output; it moves with each tile."""

    def __init__(self, megapixels: float) -> None:
        self._bar = tqdm(
            total=megapixels,
            unit="MP",
            bar_format="{percentage:3.0f}%|{bar:9}| {n:.1f}/{total:.1f} MP, {rate_noinv_fmt}, {remaining} left: {desc}",
            mininterval=bar_interval(),
        )
        self._end = 0.0  # of the last part

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @contextmanager
    def of(self, megapixels: float) -> Iterator[None]:
        """Move by the megapixels of a file at the end of this block, even if the file failed."""
        end = self._end + megapixels
        yield
        self._end = end
        self._move(end)

    def part(self, name: str, megapixels: float) -> Progress:
        """Begin a part of a file where the last one ends; return a function to call after each tile."""
        begun, self._end = self._end, self._end + megapixels

        def progress(done: int, total: int) -> None:
            self._bar.set_description_str(f"{name}, tile {done}/{total}", refresh=False)
            self._move(begun + megapixels * done / total)

        self._bar.set_description_str(name, refresh=False)
        self._move(begun)
        return progress

    def _move(self, to: float) -> None:
        self._bar.n = min(max(to, self._bar.n), self._bar.total)  # sums of fractions may exceed the total
        self._bar.update(0)
