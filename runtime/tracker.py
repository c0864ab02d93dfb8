"""Trackers: programs beside the log that show a run while it trains, such as TensorBoard.

To add a tracker, write a class with the methods of `Tracker` and enter it in `TRACKERS`; docs/long_runs.md shows one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from torch import Tensor

from utility import printable


class Tracker(Interface):
    """A program that is told what a run does. It may raise anything: the run logs that once, and goes on without it."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Show values: losses as `train/<part>`, scores as `<metric>/<test set>`."""
        ...

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        """Show images, (3, H, W) in [0, 1] on the CPU: LR, SR and HR side by side."""
        ...

    def close(self) -> None:
        """Write out what is left."""
        ...


class TensorBoard:
    """Writes `tb/` in the run's folder.

    Args:
        run: the folder of the run.
        options: everything that the run was started with, as plain values.
        scores: the names of the scalars that a run is judged by.
        step: where the run goes on; values of later steps, from before, are hidden.
    """

    def __init__(self, run: Path, *, options: Mapping[str, Any], scores: Sequence[str], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import
        from torch.utils.tensorboard.summary import hparams

        self.folder = run / "tb"
        self.writer = SummaryWriter(str(self.folder), purge_step=step + 1)
        plain = {name: value for name, value in options.items() if isinstance(value, bool | int | float | str)}
        for summary in hparams(plain, dict.fromkeys(scores, 0.0))[:2]:  # the third would end the session
            self.writer._get_file_writer().add_summary(summary)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._check_folder()
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        self._check_folder()
        for name, image in images.items():
            self.writer.add_image(name, image, step)

    def close(self) -> None:
        if self.folder.is_dir():
            self.writer.close()

    def _check_folder(self) -> None:
        """Raise FileNotFoundError if the folder is gone, which TensorBoard would never notice."""
        if not self.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder was removed", str(self.folder))


TRACKERS: dict[str, Callable[..., Tracker]] = {
    "tensorboard": TensorBoard,
}


class Trackers:
    """The trackers of a run. One that fails is named in the log and left out; training goes on.

    Args:
        log: writes a line of the log.
        run, options, scores: see `TensorBoard`.
    """

    def __init__(
        self, run: Path, *, options: Mapping[str, Any], scores: Sequence[str], log: Callable[[str], None]
    ) -> None:
        self._names = list(TRACKERS)
        told = {name: printable(value) if isinstance(value, str) else value for name, value in options.items()}
        self._about = {"options": told, "scores": [*map(printable, scores)]}
        self._run, self._log = run, log
        self._open: dict[str, Tracker] = {}

    def begin(self, step: int) -> None:
        """Start all trackers, or start them again where the run has gone back to a step."""
        self.close()
        for name in list(self._names):
            if tracker := self._try(name, lambda name=name: TRACKERS[name](self._run, **self._about, step=step)):
                self._open[name] = tracker

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Tell all trackers of values."""
        told = {printable(name): value for name, value in values.items()}
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.scalars(told, step))

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        """Tell all trackers of images."""
        shown = {printable(name): image for name, image in images.items()}
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.images(shown, step))

    def close(self) -> None:
        """End all trackers."""
        for name in list(self._open):
            self._try(name, self._open.pop(name).close)

    def _try(self, name: str, tell: Callable[[], Any]) -> Any:
        try:
            return tell()
        except Exception as error:  # whatever goes wrong in a tracker, the training is worth more
            self._open.pop(name, None)
            self._names.remove(name)
            self._log(f"note: the run goes on without {name}: {type(error).__name__}: {error}")
            return None
