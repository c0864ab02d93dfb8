"""A trained run becomes an entry of the zoo: weights that load by name, a card, a log."""

import doctest
import json

import pytest

import main
import option
from flags import flat
from model import load_model, zoo
from scripts import add_to_zoo

RUN = (
    "--cpu --model KDSR_T --scale 2 --n_feats 4 --n_blocks 1 --n_resblocks 1 --patch_size 12 --batch_size 2 "
    "--test_every 2 --epochs_sr 1 --n_threads 0 --ema 0.5 --save toy"
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "zoo.json").write_text("{}")
    for module in (zoo, add_to_zoo):
        monkeypatch.setattr(module, "LIST", tmp_path / "zoo.json")
        monkeypatch.setattr(module, "CLONE", tmp_path / "zoo")
    zoo.entries.cache_clear()
    yield tmp_path
    zoo.entries.cache_clear()


def test_a_run_becomes_an_entry(place, photo_folder):
    main.main(f"{RUN} --dir_data {photo_folder} --data_train train --dir_experiment {place}".split())
    run = place / "toy_x2_bicubic_iso"
    words = [
        str(run),
        "toy_x2",
        "--data",
        str(photo_folder),
        "--sets",
        "Set5",
        "--note",
        "A toy.",
        "--images",
        "five",
        "--licence",
        "MIT",
    ]
    add_to_zoo.main(words)
    assert load_model("toy_x2").config["n_feats"] == 4
    (entry,) = zoo.entries().values()
    assert entry.scores.keys() == {"Set5"}
    card = (place / "zoo/toy_x2.md").read_text()
    for part in ("A toy.", "2 of batch 2", entry.sha256, "gaussian8", "five", "MIT", "bicubic"):
        assert part in card
    command = add_to_zoo.public_command(run)
    assert f"| command | `{command}` |" in card
    assert str(photo_folder) not in card
    assert str(place) not in card
    options = option.train_options(command.split()[2:], main.NAMES)[1]
    before = json.loads((run / "config.json").read_text())
    differing = {name for name, value in flat(options).items() if value != before[name]}
    assert differing == {"dir_data", "dir_experiment", "n_threads"}
    assert (place / "zoo/toy_x2.csv").read_text() == (run / "psnr_log.csv").read_text()
    assert json.loads((place / "zoo.json").read_text())["toy_x2"]["network"] == "KDSR_T"


def test_examples():
    assert doctest.testmod(add_to_zoo).failed == 0


def test_what_is_no_run_is_refused(place, photo_folder, tmp_path):
    words = [str(tmp_path), "x", "--data", str(photo_folder), "--note", "", "--images", "", "--licence", ""]
    with pytest.raises(SystemExit, match="is no run that has validated"):
        add_to_zoo.main(words)
