"""Trackers are told what a run does, and none of them can stop it."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from runtime.tracker import TRACKERS, TensorBoard, Trackers


class Notes:
    """Keeps what it is told; fails where it is asked to."""

    made: list["Notes"] = []  # noqa: RUF012

    def __init__(self, run, *, options, scores, step):
        self.fails, self.told = options.get("fails"), [("begin", step)]
        self.made.append(self)
        self._tell("begin")

    def _tell(self, what, *more):
        if self.fails == what:
            raise ConnectionError("no route to host")
        self.told.append((what, *more))

    def scalars(self, values, step):
        self._tell("scalars", dict(values), step)

    def images(self, images, step):
        self._tell("images", sorted(images), step)

    def close(self):
        self._tell("close")


@pytest.fixture
def trackers(monkeypatch, tmp_path):
    monkeypatch.setattr(Notes, "made", [])

    def make(fails=None, others=()):
        for name in list(TRACKERS):
            monkeypatch.delitem(TRACKERS, name)
        for name, create in (("notes", Notes), *others):
            monkeypatch.setitem(TRACKERS, name, create)
        log = []
        return Trackers(tmp_path, options={"fails": fails}, scores=["psnr/Set5"], log=log.append), log

    return make


def tell_all(found):
    found.begin(0)
    found.scalars({"train/l1": 1.0}, 2)
    found.images({"a": torch.zeros(3, 2, 2)}, 3)
    found.begin(2)  # the run has gone back
    found.close()


def test_all_is_told_in_order(trackers):
    found, log = trackers()
    tell_all(found)
    first, second = Notes.made
    told = [("begin",), ("scalars", {"train/l1": 1.0}, 2), ("images", ["a"], 3), ("close",)]
    assert first.told == [("begin", 0), *told]
    assert second.told == [("begin", 2), ("begin",), ("close",)]
    assert log == []


@pytest.mark.parametrize("fails", ["begin", "scalars", "images", "close"])
def test_one_that_fails_is_named_once_and_left_out(fails, trackers):
    class Healthy(Notes):
        def __init__(self, run, *, options, scores, step):
            super().__init__(run, options={}, scores=scores, step=step)

    found, log = trackers(fails, others=[("healthy", Healthy)])
    tell_all(found)
    assert log == ["note: the run goes on without notes: ConnectionError: no route to host"]
    healthy = [made for made in Notes.made if isinstance(made, Healthy)]
    assert [made.told[-1] for made in healthy] == [("close",), ("close",)]
    assert len(healthy[0].told) == 5
    assert len([made for made in Notes.made if type(made) is Notes]) == 1


def test_an_interruption_is_no_failure(trackers, monkeypatch):
    found, _ = trackers()
    found.begin(0)

    def interrupted(self, values, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(Notes, "scalars", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.scalars({}, 1)


def test_tensorboard_has_scores_images_and_options(tmp_path):
    options = {"model": "KDSR_S", "lr_sr": 1e-4, "cpu": True, "sig": None, "versions": {"torch": "2"}}
    board = TensorBoard(tmp_path, options=options, scores=["psnr/Set5"], step=0)
    board.scalars({"psnr/Set5": 30.0}, 4)
    board.images({"Set5/baby": torch.rand(3, 4, 12)}, 4)
    board.close()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("psnr/Set5")] == [(4, 30.0)]
    (image,) = events.Images("Set5/baby")
    assert (image.height, image.width) == (4, 12)
    tags = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"lr_sr" in tags
    assert b"KDSR_S" in tags
    assert b"versions" not in tags
    assert b"psnr/Set5" in events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    assert len(list((tmp_path / "tb").iterdir())) == 1
