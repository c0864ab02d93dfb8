"""Bicubic resizing of images that are too large to be whole in memory: some rows of the result, from those they need.

The cubic and the treatment of edges are those of `data.degradation.resize`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data.degradation.resize import bicubic_taps
from data.images import Size


class Resizer:
    """Resizes (H, W, C) levels of uint8 or uint16 to another height and width.

    Examples:
        >>> Resizer((4, 6), (2, 3)).resize(np.full((4, 6, 1), 7, np.uint8), 0, 2)[..., 0].tolist()
        [[7, 7, 7], [7, 7, 7]]
    """

    def __init__(self, size: Size, to: Size) -> None:
        (self._rows, self._weights), (self._columns, self._across) = (
            (index.numpy(), weight.float().numpy())
            for index, weight in (bicubic_taps(a, b, b / a) for a, b in zip(size, to, strict=True))
        )
        self.height = to[0]

    def needs(self, row: int) -> tuple[int, int]:
        """Return the first and the last row of the image that a row of the result is made of."""
        return int(self._rows[row, 0]), int(self._rows[row, -1])

    def resize(self, image: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return the rows `start` to `stop` of the result, given the whole image."""
        low, high = self.needs(start)[0], self.needs(stop - 1)[1]
        return self.combine(self.narrow(image[low : high + 1]), low, start, stop, image.dtype)

    def narrow(self, rows: np.ndarray) -> np.ndarray:
        """Resize rows (n, W, C) along the row, to (n, W', C) float32."""
        out = np.zeros((len(rows), len(self._columns), rows.shape[2]), np.float32)
        for index, weight in zip(self._columns.T, self._across.T, strict=True):
            out += rows[:, index] * weight[:, None]
        return out

    def combine(self, narrow: np.ndarray, first: int, start: int, stop: int, dtype: np.dtype) -> np.ndarray:
        """Return the rows `start` to `stop` of the result from narrowed rows, which begin at row `first`."""
        out = np.zeros((stop - start, *narrow.shape[1:]), np.float32)
        for index, weight in zip(self._rows[start:stop].T, self._weights[start:stop].T, strict=True):
            out += narrow[index - first] * weight[:, None, None]
        return np.clip(np.rint(out), 0, np.iinfo(dtype).max).astype(dtype)


class ResizedRows:
    """Takes the rows of an image from the top down, and hands on those of the resized image."""

    def __init__(self, size: Size, to: Size, write: Callable[[np.ndarray], None]) -> None:
        self._resizer, self._write = Resizer(size, to), write
        self._first = self._next = 0  # row of the image that is kept first, and of the result that comes next
        self._kept: np.ndarray | None = None

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (n, W, C)."""
        resizer, narrow = self._resizer, self._resizer.narrow(rows)
        kept = narrow if self._kept is None else np.concatenate((self._kept, narrow))
        there, start, stop = self._first + len(kept), self._next, self._next
        while stop < resizer.height and resizer.needs(stop)[1] < there:
            stop += 1
        if stop > start:
            self._write(resizer.combine(kept, self._first, start, stop, rows.dtype))
        low = resizer.needs(stop)[0] if stop < resizer.height else there
        self._kept, self._first, self._next = kept[low - self._first :], low, stop
