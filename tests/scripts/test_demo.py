"""The demo from end to end, with a few seconds of training."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def test_the_demo_ends_with_its_table_pictures_and_next_command(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, ROOT / "scripts" / "demo.py", "--minutes", "0.05", "--out", out]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    text = result.stdout.split("photographs not trained on")[1]
    for width in ("1.80", "2.00", "2.20", "2.40", "2.60", "2.80", "3.00", "3.20", "mean"):
        assert f"\n{width:>8}" in text
    assert "astronaut" not in str(sorted((out / "photos" / "train").iterdir()))
    assert Image.open(out / "side_by_side.png").width > 800
    for stage in ("teacher", "student"):
        run = out / f"{stage}_x4_bicubic_iso"
        assert (run / "psnr.png").exists()
        assert (run / "loss.png").exists()
    assert "--data_test Demo --dir_demo FOLDER" in text
