"""The commands of README and docs: all of them parse, and those of the main pages run, at toy size."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import skimage.data
import torch

import main
import option
import test
from data.images import write_image
from flags import flags_of
from model import build, save_model
from option import EvalOptions
from utility import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ["README.md", "ablations.md", "degradations.md", "faq.md", "photos.md", "protocols.md", "recipes.md", "train.md"]
RUN += ["zoo.md"]
LOOP = re.compile(r"^for (\w+) in ([^;\n]*); do\n(.*?)^done$", re.MULTILINE | re.DOTALL)
ASSIGNED = re.compile(r"^(?:export )?([A-Z]+)=(\"[^\"]*\"|\S*)(?: && | |$)")
OTHER = {"bash", "pip", "torchrun", "tensorboard", "until", "mkdir", "ln", "ls", "for", "ruff", "NAME"}  # not run here
TRAINING = "--cpu --batch_size 2 --test_every 1 --epochs_sr 1 --n_threads 0 --print_every 1 --n_GPUs 1"
SIZES = ["--n_feats", "8", "--n_blocks", "1", "--n_resblocks", "1"]
RECIPE = '{"second": {"jpeg": {"quality": [60, 95]}}}'
PROTOCOL = '{"recipe": "gaussian", "kernels": [[2.0, 2.0, 0]], "noise": 10}'
WEIGHTS = {  # files that the pages name, as toy networks
    "MODEL.pt": ("KDSR_S", 4),
    "ONE.pt": ("KDSR_S", 4),
    "TWO.pt": ("CDSR", 4),
    "X4.pt": ("KDSR_T", 4),
    "KDSRsM_iso_x4.pt": ("KDSR_S", 4),
    "theirs.pth": ("EDSR", 4),
    "experiment/cdsr_x2_bicubic_aniso/model/model_492_psnr_36.17.pt": ("CDSR", 2),
}


class Command(NamedTuple):
    page: str
    program: str  # main.py, test.py, scripts/picture.py
    words: list[str]


def lines(text: str) -> list[str]:
    """The commands in the bash blocks of a page, and those that are code in a line, in their order; loops unrolled."""
    found = []
    for block, inline in re.findall(r"^```bash\n(.*?)^```$|^`(python [^`]*)`$", text, re.MULTILINE | re.DOTALL):
        found += LOOP.sub(unrolled, (block or inline).replace("\\\n", " ")).splitlines()
    return [line.strip() for line in found if line.strip()]


def unrolled(loop: re.Match[str]) -> str:
    """The commands of a loop, for each of its words."""
    name, words, body = loop.groups()
    return "".join(re.sub(rf"\$(?:{name}\b|{{{name}}})", word, body) for word in words.split())


def commands(page: Path) -> list[Command]:
    """The commands of our programs on a page, variables filled in. What is no program of ours must be in OTHER."""
    known, found = {}, []
    for line in lines(page.read_text(encoding="utf-8")):
        while match := ASSIGNED.match(line):
            known[match[1]] = match[2].strip('"')
            line = line[match.end() :]
        if line.startswith("$(") or not line or "..." in line or "$(python" in line:
            continue
        line = re.sub(r"\$([A-Z]+)", lambda name: known.get(name[1], name[1]), line)
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] not in ("python", "python3"):
            assert words[0].rpartition("/")[2] in OTHER | {"python"}, line
        elif words[1] not in ("-c", "-m"):
            found.append(Command(page.name, words[1], words[2:]))
    return found


ALL = [command for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(
    "command", ALL, ids=lambda command: f"{command.page}: {' '.join(command[1:2] + tuple(command[2]))}"[:90]
)
def test_a_command_names_flags_and_files_that_exist(command):
    assert (ROOT / command.program).exists()
    if command.program == "main.py" and "--test_only" not in command.words and "SRCNN" not in command.words:
        given = set(re.findall(r"--(\w+)", " ".join(command.words)))
        known = {
            alias
            for name, field in flags_of(option.TrainOptions).items()
            for alias in (name, *field.metadata["flag"].also)
        }
        added = {"box_radius", "gradient_weight"} if command.page == "add.md" else set()
        assert given <= known | added
        if command.page != "add.md" and "config" not in given:  # that file is written by another command
            option.train_options(command.words, main.NAMES)
    elif command.program == "test.py" and command.page != "add.md":
        option.parse(EvalOptions, command.words, prog="test.py", names=test.NAMES)


def test_all_pages_together_have_many_commands():
    assert len(ALL) > 80
    assert {command.page for command in ALL} >= set(RUN)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name: images, weights, files of settings."""
    root = tmp_path_factory.mktemp("docs")
    photo = skimage.data.astronaut()
    folders = ["DF2K/HR", "BSD400/HR", "MINE/HR", "benchmark/Set5/HR", "benchmark/Set14/HR", "benchmark/B100/HR"]
    folders += [f"{name}/HR" for name in ("NTIRE2020", "AIM2019")]
    for i, folder in enumerate([f"DIR/{folder}" for folder in folders] + ["HR_FOLDER", "FOLDER"]):
        (root / folder).mkdir(parents=True)
        for j in range(1 if "benchmark" in folder else 2):
            write_image(
                root / folder / f"{j}.png", np.ascontiguousarray(photo[8 * i : 8 * i + 128, 90 * j : 90 * j + 96])
            )
    (root / "LR_FOLDER").mkdir()
    for folder in ("LR_FOLDER", "DIR/NTIRE2020/LR", "DIR/AIM2019/LR"):
        (root / folder).mkdir(exist_ok=True)
        for j in range(2):
            write_image(root / folder / f"{j}.png", np.ascontiguousarray(photo[:128:4, :96:4]))
    for name in ("PHOTO.png", "photo.jpg", "a.jpg", "b.tif"):
        write_image(root / name, photo)
    write_image(root / "LR.png", np.ascontiguousarray(photo[::4, ::4]))
    write_image(root / "HR.png", photo)
    torch.manual_seed(0)
    for name, (network, scale) in WEIGHTS.items():
        sizes = {"CDSR": {"n_blocks": 1}, "EDSR": {"n_feats": 8, "n_blocks": 1}}
        net = build(network, scale=scale, **sizes.get(network, {"n_feats": 8, "n_blocks": 1, "n_resblocks": 1}))
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(net, path.with_suffix(".pt"))
        if path.suffix != ".pt":
            path.with_suffix(".pt").replace(path)
    return root


def toy(words: list[str]) -> list[str]:
    """The flags that make a training small enough, for this command."""
    text = " ".join(words)
    contrast, real = "CDSR" in text or "DASR" in text, "second_order" in text
    patch = 24 if contrast else 12
    flags = [*TRAINING.split(), "--patch_size", str(patch), "--crop_size", str(24 if real else patch)]
    flags += ["--pool_size", "0"] if real else []
    shaped = any(told in text for told in ("--n_feats 32", "--config", "--pre_train kdsr_s"))
    flags += [] if "CDSR" in text or shaped else SIZES[:4] if re.search("DASR|EDSR|RRDB|IKC", text) else SIZES
    flags += ["--perceptual_weight", "0", "--d_feats", "4"] if "adversarial" in text else []
    flags += ["--epochs_sr", "2", "--epochs_encoder", "1"] if "aniso_gaussian" in text and "KDSR_S" in text else []
    flags += ["--epochs_encoder", "1"] if "DASR" in text else []
    return flags


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page, place, tmp_path, monkeypatch, no_curves):
    for entry in place.iterdir():
        if entry.name != "experiment":
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "mine.json").write_text(RECIPE if page in ("recipes.md", "train.md") else PROTOCOL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    for command in ALL:
        if command.page != page or not runs(command):
            continue
        for name in WEIGHTS:
            if not Path(name).exists():  # inside a run that made way for another
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place / name, name)
        words = [word.replace("/root/DF2k/HR", "DIR") for word in command.words]
        if command.program == "main.py" and "--test_only" not in words:
            words += toy(words)
            if "--resume" not in words:  # commands of a page may give the same name to several runs
                shutil.rmtree(option.train_options(words, main.NAMES)[1].run_dir, ignore_errors=True)
        elif command.program in ("main.py", "test.py"):
            words += ["--cpu"]
        words = [path for word in words for path in expanded(word)]
        module = importlib.import_module(command.program.removesuffix(".py").replace("/", "."))
        try:
            module.main(words)
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{command}: {end.code}")


def expanded(word: str) -> list[str]:
    """The files that a pattern stands for; the word itself if there are none, as in a shell."""
    return (sorted(map(str, Path().glob(word))) if "*" in word else []) or [word]


def runs(command: Command) -> bool:
    """False for what needs a library, weights or a time that a test has not."""
    text = " ".join(command.words)
    needs = (
        "musiq",
        "lpips",
        "--precision bf16",
        "--data_cache /",
        "KDSRS-GAN",
        "--complexity",
        "--check",
    )
    left_out = ("scripts/reproduce.py", "scripts/embeddings.py", "scripts/pack_images.py", "scripts/add_to_zoo.py")
    left_out += ("scripts/compare_runs.py",) if command.page != "ablations.md" else ()
    return not any(word in text for word in needs) and command.program not in left_out
