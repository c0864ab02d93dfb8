from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.images import write_image
from data.packed import PackedImages
from scripts.pack_images import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "HR").mkdir()
    for n in range(3):
        write_image(tmp_path / "HR" / f"{n}.png", np.full((5, 7, 3), n, np.uint8))
    return tmp_path / "HR"


def test_runs_from_the_command_line_and_names_the_flag(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "pack_images.py"), str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"3 images, 315 bytes, in {folder}.u8; train from it with --data_cache {folder}" in done.stdout
    assert PackedImages(folder).names == ["0.png", "1.png", "2.png"]


def test_bad_images_stop_or_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "1.png").write_text("not an image")
    out = tmp_path / "elsewhere" / "cache"
    with pytest.raises(SystemExit, match=r"error: .*1\.png.*--skip_bad_images"):
        main([str(folder), "--out", str(out)])
    main([str(folder), "--out", str(out), "--skip_bad_images"])
    printed = capsys.readouterr().out
    assert "left out: " in printed
    assert "1.png" in printed
    assert f"2 images, 210 bytes, in {out}.u8" in printed


def test_verify_reads_all_pixels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cache"
    main([str(folder), "--out", str(out)])
    main([str(folder), "--out", str(out), "--verify"])
    assert f"3 images in {out}.u8 are as they were packed" in capsys.readouterr().out
    write_image(folder / "3.png", np.zeros((5, 7, 3), np.uint8))
    main([str(folder), "--out", str(out), "--verify"])
    assert "has changed since: 1 added (3.png, …)" in capsys.readouterr().out
    pixels = bytearray(Path(f"{out}.u8").read_bytes())
    pixels[150] ^= 1
    Path(f"{out}.u8").write_bytes(pixels)
    with pytest.raises(SystemExit, match=r"error: .*the pixels of 1\.png have changed"):
        main([str(folder), "--out", str(out), "--verify"])
    with pytest.raises(SystemExit, match=r"error: there is no .*none\.u8"):
        main([str(folder), "--out", str(tmp_path / "none"), "--verify"])


def test_missing_folder_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*there is no folder .*nowhere"):
        main([str(tmp_path / "nowhere")])
