"""A run takes what was foretold; memory, disks and folders that are too small or closed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import main
import model
import utility
from loss.perceptual import vgg19
from option import TrainOptions
from preflight import finding, room
from preflight.finding import Finding
from preflight.room import Footprint
from runtime.distributed import Ranks
from utility import Run, listing

Options = Callable[..., TrainOptions]
Told = Callable[[Iterable[Finding]], str]
MIB = 2**20


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretends that so many bytes are free on every disk."""

    def pretend(size: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=size))

    return pretend


GAN = "KDSR_S --objective adversarial --d_feats 8 --patch_size 16 --vgg VGG"


@pytest.mark.parametrize("name", ["KDSR_T", "KDSR_T --ema 0.9 --pool_size 40", "KDSR_S", "CDSR", GAN])
def test_files_are_as_large_as_foretold(name: str, options: Options, tmp_path: Path) -> None:
    sizes = {"n_feats": 32, "n_blocks": 2} | ({} if name == "CDSR" else {"n_resblocks": 1})
    network = f"--model {name} " + " ".join(f"--{key} {value}" for key, value in sizes.items())
    if "KDSR_S" in name:
        torch.save(model.checkpoint(model.build("KDSR_T", scale=2, **sizes)), tmp_path / "TA.pt")
        network += f" --pre_train_TA {tmp_path / 'TA.pt'}"
    if "VGG" in name:
        torch.save({f"features.{key}": value for key, value in vgg19().state_dict().items()}, tmp_path / "vgg.pth")
        network = network.replace("VGG", str(tmp_path / "vgg.pth"))
    asked = options(network=network)
    need, trainer = room.footprint(asked), main.build_trainer(asked, Run(asked.run_dir), Ranks())
    trainer.train_step(trainer.batches[0])
    state = trainer.state_dict()
    torch.save(state["net"], tmp_path / "network.pt")
    torch.save(state, tmp_path / "state.pt")
    assert (tmp_path / "network.pt").stat().st_size == pytest.approx(need.network, rel=0.1)
    assert (tmp_path / "state.pt").stat().st_size == pytest.approx(need.state, rel=0.1)
    assert trainer.batches[0].hr.nbytes == need.batch


def test_sizes_that_come_from_weights_are_foretold_too(options: Options, tmp_path: Path) -> None:
    sizes = {"n_feats": 32, "n_blocks": 2, "n_resblocks": 1}
    torch.save(model.checkpoint(model.build("KDSR_S", scale=2, **sizes)), tmp_path / "net.pt")
    start = f"--model KDSR_S --objective pixel --pre_train {tmp_path / 'net.pt'}"
    named = " ".join(f"--{key} {value}" for key, value in sizes.items())
    assert room.footprint(options(network=start)) == room.footprint(options(network=f"{start} {named}"))


def test_loader_processes_hold_two_batches_each_and_two_change_hands(options: Options) -> None:
    batch = 2 * 3 * 24**2
    assert room.footprint(options("--n_threads 0")).queue == 0
    assert room.footprint(options("--n_threads 1")).queue == 4 * batch
    assert room.footprint(options("--n_threads 4")).queue == 10 * batch


def test_shared_memory_of_a_container(
    options: Options, told: Told, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room, "SHARED", tmp_path)
    asked = options("--n_threads 8")
    need = Footprint(batch=12 * MIB, queue=18 * 12 * MIB, network=0, state=0)
    free(64 * MIB)
    text = told(room.shared_memory(asked, need))
    assert text.startswith("error:")
    assert "64 MiB free, --n_threads 8 fills 216 MiB" in text
    assert (
        "--n_threads 1, or a container with more (docker run --shm-size 1g)" in text
    )  # 5 batches fit, and 4 of them suffice
    free(10 * MIB)
    assert "--n_threads 0, or" in told(room.shared_memory(asked, need))
    free(2**30)
    assert told(room.shared_memory(asked, need)).startswith("ok:")
    assert not told(room.shared_memory(asked, need._replace(queue=0)))
    monkeypatch.setattr(room, "SHARED", tmp_path / "of another system")
    assert not told(room.shared_memory(asked, need))


def test_main_memory(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    need = Footprint(batch=0, queue=20 * MIB, network=0, state=80 * MIB)
    for size, grade in ((101 * MIB, "ok"), (99 * MIB, "note")):
        monkeypatch.setattr(room.psutil, "virtual_memory", lambda size=size: SimpleNamespace(available=size))
        assert told(room.memory(need)).startswith(f"{grade}: {size // MIB} MiB of main memory free")


@pytest.mark.parametrize(
    ("arguments", "networks"),
    [
        ("--epochs_sr 100", 2 + 7),  # latest and best; the newest five, the best, and the one that is dropped next
        ("--epochs_sr 100 --keep 0", 2 + 100),
        ("--epochs_sr 100 --keep 0 --st_save_epoch 91", 2 + 10),
        ("--epochs_sr 3", 2 + 3),
        ("--epochs_sr 3 --st_save_epoch 4", 2),
    ],
)
def test_disk(arguments: str, networks: int, options: Options, told: Told, free: Callable[[int], None]) -> None:
    need = Footprint(batch=0, queue=0, network=10 * MIB, state=50 * MIB)
    whole = networks * 10 * MIB + 3 * 50 * MIB  # a state, the one before, and one that is being written
    asked = options(arguments)
    free(whole + 1)
    assert told(room.disk(asked, need)).startswith("ok:")
    free(whole)
    assert told(room.disk(asked, need)).startswith("error:")
    assert not told(room.disk(options(f"{arguments} --dry_run"), need))
    models = asked.run_dir / "model"
    models.mkdir(parents=True)
    (models / "state.pt").write_bytes(bytes(MIB))  # what is there already need not be found room for
    assert told(room.disk(asked, need)).startswith("ok:")


def test_a_run_directory_that_cannot_be_written(options: Options, told: Told, tmp_path: Path) -> None:
    asked = options()
    assert not told(room.run_directory(asked))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "experiment").write_text("a file in the way")
    text = told(room.run_directory(asked))
    assert text.startswith(f"error: --dir_experiment: {tmp_path / 'experiment'} cannot be written to (")
    assert not told(room.run_directory(options("--dry_run")))


def test_a_full_or_closed_disk(options: Options, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(utility.tempfile, "TemporaryFile", refuse)
    assert "cannot be written to (Permission denied)" in told(room.run_directory(options()))


def test_no_numbered_checkpoint(options: Options, told: Told) -> None:
    assert not told(room.numbered_checkpoints(options("--epochs_sr 5 --st_save_epoch 5")))
    assert told(room.numbered_checkpoints(options("--epochs_sr 5 --st_save_epoch 6"))).startswith(
        "note: --st_save_epoch 6 is after the last epoch, 5"
    )


def test_views_are_counted(options: Options) -> None:
    asked = options("--epochs_encoder -1", network="--model DASR --n_feats 8 --n_blocks 1")
    assert room.footprint(asked).batch == 2 * room.footprint(options()).batch


def test_nothing_is_allocated_to_foretell_it(options: Options) -> None:
    """A network of a hundred gigabytes is counted, not built."""
    asked = options(network="--model EDSR --n_feats 4096 --n_blocks 1000")
    assert room.footprint(asked).network > 10**12


def test_words() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing(list("abcdefg")) == "a, b, c, d, e and 2 more"
    sizes = [finding.size_of(size) for size in (700 * 2**10, 64 * 2**20, 1.5 * 2**30)]
    assert sizes == ["700 KiB", "64 MiB", "1.5 GiB"]
