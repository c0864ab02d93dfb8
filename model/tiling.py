"""Super-resolution of images of any size in bounded memory: by tiles, with self-ensemble.

The network sees each tile with a halo of the pixels around it, and the halo is cut off its result. At the image's
border there is no halo, so that the network pads there, and nowhere else, as it does with the whole image. The
degradation is embedded from the whole image. Thus tiles change the result by rounding only, except with CDSR, whose
blocks pool over all that they see.

Self-ensemble is that of EDSR, https://arxiv.org/abs/1707.02921, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from math import ceil, lcm
from numbers import Integral
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .layer import BlindSR, Image, receptive_field
from .memory import ALIGNED, freed_blocks_kept, halving, multiple, return_freed_blocks, tile_shape
from .transfer import Download, upload

Progress = Callable[[int, int], None]
LEAST, MOST = -1.0, 2.0  # of the values in a tensor: more than any filter makes of [0, 1]
BAND = 2**26  # bytes of a result that are in memory at once where it is written row by row


def upscale(
    net: BlindSR,
    image: Image,
    *,
    tile: int | None = None,
    self_ensemble: bool = False,
    hr: Image | None = None,
    progress: Progress | None = None,
) -> Image:
    """Super-resolve an image of any size on the network's device.

    The image stays where it is; tiles go to the device and back. Memory holds input, output and the work of one tile.

    Args:
        net: the network; it runs in eval mode, and its mode is restored afterwards. While it trains, only one thread
            may call this.
        image: (H, W, 3) RGB array of uint8 or uint16, or float tensor (3, H, W) or (B, 3, H, W) in [0, 1].
        tile: side of a tile in LR pixels, without halo; None takes the whole image if it fits the memory, else tiles as
            large as fit. In both cases tiles are halved for as long as the memory does not suffice.
        self_ensemble: average over the eight flips and transpositions, which takes eight times as long.
        hr: the ground truth in the same form, (s·H, s·W) pixels; only teachers need it.
        progress: called as progress(done, total) after each tile.

    Returns:
        An array of the same dtype, (s·H, s·W, 3), or a tensor on the CPU, (3, s·H, s·W) or (B, 3, s·H, s·W), float32
        (float64 for float64) and not clamped.

    Raises:
        ValueError: the image is of another kind, or smaller than the network takes.
        MemoryError: not even a small tile fits the memory.

    Examples:
        >>> from .bicubic import Bicubic
        >>> upscale(Bicubic(scale=2), np.full((5, 6, 3), 7, np.uint8)).shape
        (10, 12, 3)
        >>> upscale(Bicubic(scale=2), torch.rand(3, 5, 6), tile=4).shape
        torch.Size([3, 10, 12])
    """
    source = _Source(image, net)
    truth = None if hr is None or not net.sees_hr else _Source(hr, net, "hr")
    result = source.result(net.scale)  # made outside of inference mode, so that callers may use it in autograd
    _fill(result, net, source, truth, self_ensemble, tile, progress)
    return result.image


def upscale_rows(
    net: BlindSR,
    image: np.ndarray,
    write: Callable[[np.ndarray], None],
    *,
    tile: int | None = None,
    self_ensemble: bool = False,
    progress: Progress | None = None,
) -> None:
    """Super-resolve an image band by band, from the top down, so that the result is never whole in memory.

    Args:
        net: as for `upscale`, but no teacher.
        image: (H, W, 3) RGB array of uint8 or uint16.
        write: takes each band, (n, s·W, 3) of the same dtype.
        tile, self_ensemble, progress: as for `upscale`.

    Raises:
        ValueError, MemoryError: as `upscale`.

    Examples:
        >>> from .bicubic import Bicubic
        >>> upscale_rows(Bicubic(scale=2), np.zeros((5, 6, 3), np.uint8), lambda band: print(band.shape), tile=3)
        (6, 12, 3)
        (4, 12, 3)
    """
    if isinstance(image, Tensor):
        raise ValueError("`image`: expected an array of uint8 or uint16, got a tensor; `upscale` takes those")
    source = _Source(image, net)
    bands = _Bands(source.size[1] * net.scale, image.dtype, write)
    _fill(bands, net, source, None, self_ensemble, tile, progress)


def _fill(
    result: _Result | _Bands,
    net: BlindSR,
    source: _Source,
    truth: _Source | None,
    self_ensemble: bool,
    tile: int | None,
    progress: Progress | None,
) -> None:
    """Write the super-resolved image into `result`, with the network in eval mode."""
    if tile is not None and (not isinstance(tile, Integral) or isinstance(tile, bool) or tile < 1):
        raise ValueError(f"`tile` {tile!r}: its side must be a whole number of LR pixels, 1 or more")
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode(), freed_blocks_kept(source.device, source.size[0] * source.size[1]):
            _fill_tiles(result, net, source, truth, _views(self_ensemble), tile, progress or (lambda done, total: None))
    finally:
        for module in training:
            module.training = True


def _fill_tiles(
    result: _Result | _Bands,
    net: BlindSR,
    source: _Source,
    truth: _Source | None,
    views: list[_View],
    tile: int | None,
    progress: Progress,
) -> None:
    h, w = source.size
    device = source.device

    def mean(features: nn.Module, x: Tensor) -> Tensor:
        return _mean(features, x, tile=tile, device=device)

    lr, hr = source.untiled(), None if truth is None else truth.untiled()
    net.check(lr)
    codes = [net.embed(view.turn(lr), None if hr is None else view.turn(hr), mean).code for view in views]
    shape = tile_shape(net, lambda probe: net.restore(probe, codes[0]), lr, net.halo, tile, device)
    if isinstance(result, _Bands):
        shape = min(shape[0], max(result.rows_at_most // net.scale, 1)), shape[1]
    del lr, hr  # tiles are cut from the source, which is smaller where it is of integers
    top = counted = 0  # rows and tiles that are done: if a tile is too large, smaller ones go on from there
    download = Download(device)

    def restored(rows: _Span, columns: _Span) -> Tensor:
        window, total = source.window(rows, columns), None
        for view, code in zip(views, codes, strict=True):
            sr = view.back(net.restore(view.turn(window), code))
            total = sr if total is None else total + sr
        assert total is not None
        part = total[..., rows.inner(net.scale), columns.inner(net.scale)]  # (B, 3, s·h, s·w)
        return part if len(views) == 1 else part / len(views)

    def write(rows: _Span, columns: _Span, done: int, of: int, part: Tensor) -> None:
        nonlocal top, counted
        result.write(part, rows.scaled(net.scale), columns.scaled(net.scale))
        progress(done, of)
        if columns.stop == w:
            top, counted = rows.stop, done

    def run(shape: tuple[int, int]) -> None:
        row_spans = _spans(h, shape[0], net.halo, top, window=net.window)
        column_spans = _spans(w, shape[1], net.halo, aligned=ALIGNED, window=net.window)
        tiles = list(product(row_spans, column_spans))
        before = counted
        try:
            for done, (rows, columns) in enumerate(tiles, before + 1):
                part = restored(rows, columns)
                download.send(result.encode(part), partial(write, rows, columns, done, before + len(tiles)))
                del part
                if len(tiles) > 1:
                    return_freed_blocks(device)
        finally:
            download.finish()

    halving(run, shape, device)


def _mean(features: nn.Module, x: Tensor, *, tile: int | None, device: torch.device) -> Tensor:
    """Average `features(x)` over all pixels, tile by tile: a `Pool`."""
    radius, stride = receptive_field(features)
    h, w = x.shape[2:]
    step = stride.numerator  # tiles must begin where the map has a pixel
    halo = multiple(radius, step)
    shape = tile_shape(features, features, x, halo, tile, device)

    def run(shape: tuple[int, int]) -> Tensor:
        total, count = torch.zeros((), device=device), 0
        sides = (multiple(side, step) for side in shape)
        tiles = list(product(*(_spans(size, side, halo) for size, side in zip((h, w), sides, strict=True))))
        for rows, columns in tiles:
            part = features(x[..., rows.window, columns.window].to(device))
            part = part[..., rows.inner(1 / stride), columns.inner(1 / stride)]
            total = total + part.sum((2, 3), dtype=torch.promote_types(part.dtype, torch.float32))  # (B, C)
            count += part.shape[2] * part.shape[3]
            del part  # or it would stay while the next tile is at work
            if len(tiles) > 1:
                return_freed_blocks(device)
        return (total / count).to(x.dtype)

    return halving(run, shape, device)


# ------------------------------------------------------------------------------------------------------ images


def _remedy(image: Any) -> str:
    """Say how to make an image of what `upscale` does not take."""
    if isinstance(image, str | PathLike):
        return "; read the file first"
    if isinstance(image, Tensor):
        moved = "image.movedim(-1, -3)" if image.ndim in (3, 4) and image.shape[-1] == 3 else "image"
        if not image.is_floating_point():
            return f"; `{moved} / 255`, if its levels are 0 to 255"
        return f"; `{moved}` has the channels first" if moved != "image" else ""
    if not isinstance(image, np.ndarray):
        return "; np.asarray makes an array of a PIL image"
    if image.ndim == 2:
        return "; repeat the channel of a grey image three times; PIL's convert('RGB') makes RGB of a palette"
    if image.ndim == 3 and image.shape[2] == 1:
        return "; image.repeat(3, 2) repeats the channel of a grey image"
    if image.ndim == 3 and image.shape[2] == 4:
        return "; image[..., :3] drops alpha; PIL's convert('RGB') makes RGB of CMYK"
    if image.ndim == 3 and image.shape[0] == 3:
        return "; image.transpose(1, 2, 0) has the channels last"
    if image.ndim == 4:
        return "; one image at a time"
    if not image.size:
        return "; it has no pixels"
    if not image.dtype.isnative:
        return "; image.astype(image.dtype.newbyteorder('=')) changes the order of its bytes"
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype.kind in "iub":
        return "; image.astype(np.uint8), if its levels are 0 to 255"
    if image.ndim == 3 and image.shape[2] == 3:
        return "; round to whole grey levels, or make a tensor (3, H, W) in [0, 1]"
    return ""


class _Source:
    """An image as the caller has it, and its parts as the network wants them: (B, 3, h, w) in [0, 1]."""

    def __init__(self, image: Any, net: BlindSR, name: str = "image") -> None:
        weight = next((p for p in net.parameters() if p.is_floating_point()), None)
        self.image = image
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
                raise ValueError(
                    f"`{name}`: an array must be (H, W, 3) of uint8 or uint16, got {image.shape} of {image.dtype}"
                    f"{_remedy(image)}"
                )
            self.peak = int(np.iinfo(image.dtype).max)
            self.size, self.dtype, device = image.shape[:2], torch.float32, torch.device("cpu")
        elif isinstance(image, Tensor):
            colour = image.is_floating_point() and image.ndim in (3, 4) and image.shape[-3] == 3
            if not colour or not image.numel():
                raise ValueError(
                    f"`{name}`: a tensor must be float, (3, H, W) or (B, 3, H, W), got {tuple(image.shape)} of "
                    f"{str(image.dtype).removeprefix('torch.')}{_remedy(image)}"
                )
            low, high = (bound.item() for bound in image.detach().aminmax())
            if not (low >= LEAST and high <= MOST):  # as not a number is not, either
                remedy = "; divide its levels by 255" if MOST < high <= 255 else ""
                raise ValueError(f"`{name}`: a tensor must be in [0, 1], got values from {low:g} to {high:g}{remedy}")
            self.size, self.dtype, device = image.shape[-2:], image.dtype, image.device
        else:
            raise ValueError(f"`{name}`: expected an array or a tensor, got {type(image).__name__}{_remedy(image)}")
        self.device = device if weight is None else weight.device
        self.work = self.dtype if weight is None else weight.dtype

    def untiled(self) -> Tensor:
        """Return all of the image where it is."""
        if isinstance(self.image, np.ndarray):
            return self._scaled(torch.from_numpy(self.image.astype(np.float32))).to(self.work)
        return _batched(self.image).to(self.work)

    def window(self, rows: _Span, columns: _Span) -> Tensor:
        """Return what the network sees of a tile, on its device."""
        if isinstance(self.image, np.ndarray):  # goes there as integers: a quarter of what float32 takes
            levels = torch.from_numpy(self.image[rows.window, columns.window].copy())
            return self._scaled(upload(levels, self.device).float()).to(self.work)
        return _batched(self.image[..., rows.window, columns.window]).to(self.device, self.work)

    def result(self, scale: int) -> _Result:
        """Return an empty image for the result."""
        h, w = self.size[0] * scale, self.size[1] * scale
        if isinstance(self.image, np.ndarray):
            return _Result(np.empty((h, w, 3), self.image.dtype))
        dtype = torch.promote_types(self.dtype, torch.float32)
        return _Result(torch.empty(*self.image.shape[:-2], h, w, dtype=dtype))

    def _scaled(self, levels: Tensor) -> Tensor:
        return levels.div_(self.peak).permute(2, 0, 1)[None]  # (1, 3, h, w)


def _batched(part: Tensor) -> Tensor:
    return part if part.ndim == 4 else part[None]  # (B, 3, h, w)


class _Result(NamedTuple):
    image: Any  # (s·H, s·W, 3) array, or tensor ([B,] 3, s·H, s·W)

    def encode(self, part: Tensor) -> Tensor:
        """Turn (B, 3, h, w) into what `write` takes, on its device: clamped and rounded integers for an array."""
        if isinstance(self.image, np.ndarray):
            return _levels(part, self.image.dtype)
        return part if self.image.ndim == 4 else part[0]

    def write(self, part: Tensor, rows: slice, columns: slice) -> None:
        """Write an encoded part to its place."""
        if isinstance(self.image, np.ndarray):
            self.image[rows, columns] = part.numpy()
        else:
            self.image[..., rows, columns] = part


class _Bands:
    """A result of which a single band of rows is in memory; a band is handed on when its last tile has come."""

    def __init__(self, width: int, dtype: np.dtype[Any], send: Callable[[np.ndarray], None]) -> None:
        self.rows_at_most = BAND // (3 * dtype.itemsize * width)
        self._width, self._dtype, self._send = width, dtype, send
        self._band = np.empty((0, width, 3), dtype)

    def encode(self, part: Tensor) -> Tensor:
        return _levels(part, self._dtype)

    def write(self, part: Tensor, rows: slice, columns: slice) -> None:
        """Write an encoded part (h, w, 3), whose rows are those of the band."""
        if columns.start == 0:
            self._band = np.empty((rows.stop - rows.start, self._width, 3), self._dtype)
        self._band[:, columns] = part.numpy()
        if columns.stop == self._width:
            self._send(self._band)


def _levels(part: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Convert (1, 3, h, w) to clamped and rounded integers (h, w, 3)."""
    levels = part[0].float().clamp(0, 1).mul_(np.iinfo(dtype).max).round_()
    return levels.permute(1, 2, 0).to(torch.uint8 if dtype == np.uint8 else torch.uint16)


class _View(NamedTuple):
    """One of the eight flips and transpositions of an image."""

    transposed: bool
    axes: tuple[int, ...]

    def turn(self, x: Tensor) -> Tensor:
        """Turn (B, C, H, W)."""
        return (x.mT if self.transposed else x).flip(self.axes) if self != _UPRIGHT else x

    def back(self, x: Tensor) -> Tensor:
        """Undo `turn`."""
        flipped = x.flip(self.axes) if self != _UPRIGHT else x
        return flipped.mT if self.transposed else flipped


_UPRIGHT = _View(False, ())


def _views(self_ensemble: bool) -> list[_View]:
    return [_View(*v) for v in product((False, True), ((), (2,), (3,), (2, 3)))] if self_ensemble else [_UPRIGHT]


# ------------------------------------------------------------------------------------------------------- tiles


class _Span(NamedTuple):
    """A tile along one axis: its pixels are start to stop, and the network sees those from low to high."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def window(self) -> slice:
        return slice(self.low, self.high)

    def inner(self, ratio: Fraction | int) -> slice:
        """Return the tile's pixels in the result of the window, which has `ratio` pixels per input pixel."""
        return slice(ceil(ratio * (self.start - self.low)), ceil(ratio * (self.stop - self.low)))

    def scaled(self, scale: int) -> slice:
        """Return the tile's pixels in the whole result."""
        return slice(scale * self.start, scale * self.stop)


def _spans(size: int, side: int, halo: int, first: int = 0, aligned: int = 1, window: int = 1) -> Iterator[_Span]:
    """Yield the tiles from `first` on.

    Halos grow until what the network sees has a side that is a multiple of `aligned` and `window`, where there is room;
    it begins at a multiple of `window`.
    """
    for start in range(first, size, side):
        stop = min(start + side, size)
        low, high = max(start - halo, 0) // window * window, min(stop + halo, size)
        if halo or window > 1:
            high = min(low + multiple(high - low, lcm(aligned, window)), size)
            low = max(high - multiple(high - low, aligned), 0) // window * window
        yield _Span(start, stop, low, high)
