"""Put a trained network into the zoo: half-precision weights, a card, its log, and a line of the list.

    python scripts/add_to_zoo.py RUN NAME --data DIR --note "..."

RUN is a run's directory. Its last weights (their moving average, if there is one) become NAME.safetensors in
experiment/zoo, and are scored on Set5, Set14 and B100 under the protocol that they were trained for. The card says with
which command, commit, seed, steps and machine they were trained, and what they score; model/zoo.json lists them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import option
import published
from data.degradation.recipe import read_recipe
from data.find_testsets import named_test_sets
from data.protocol_flags import build_protocol
from evaluation import evaluate, mean
from evaluation.report import training_seconds
from model import BlindSR, build, load_model, name_of, save_model
from model.zoo import CLONE, LIST, entries
from scripts.program import one_line, program, words_of
from utility import Run, duration, read_rows, write_text

SETS = "Set5+Set14+B100"
# Flags that say where this machine keeps its files and how a run goes on, not what the run is.
OF_THIS_MACHINE = {
    *("data_cache", "dir_experiment", "n_threads", "print_every"),
    *("save_minutes", "max_minutes", "st_save_epoch"),
}
PLACES = {"dir_data": "DIR", "dir_lr": "LR_DIR"}


def public_command(run: Path) -> str:
    """Return the command that trains a run anew elsewhere: DIR for its images, other runs under experiment/."""
    config = Run(run).config()
    flags = option.values_of_config(run) | {"save": config["save"]}
    flags |= {name: place for name, place in PLACES.items() if name in flags}
    words = ["python", "main.py"]
    for name, value in flags.items():
        if name not in OF_THIS_MACHINE:
            word = f"{value['name']}.json" if isinstance(value, dict) else str(value)
            word = word.replace(config["dir_experiment"].rstrip("/"), "experiment")
            words += [f"--{name}"] if value is True else [f"--{name}", word]
    return shlex.join(words)


def scores(net: BlindSR, config: dict[str, Any], data: Path, sets: str) -> tuple[dict[str, dict[str, float]], str, str]:
    """Return PSNR and SSIM by test set, the protocol, and its digest."""
    given = {name: config[name] for name in ("degradation", "blur_type")}
    if config["degradation"] == "second_order":
        given["recipe"] = config["recipe"]
    name = published.defaults(config["model"], net.scale, given)["protocol"]
    protocol = build_protocol(name, scale=net.scale, **given)
    test_sets, missing = named_test_sets(sets, dir_data=data, protocol=protocol, seed=1)
    if missing:
        raise FileNotFoundError(f"`data`: there is no {', '.join(missing)} under {data}")
    found = {}
    for test_set in test_sets:
        rows = evaluate(
            lambda lr, hr: net(lr, hr).image,
            test_set,
            scale=net.scale,
            planes=config["metric"],
            device=torch.device("cpu"),
        )
        found[test_set.name] = mean(rows)
    return found, str(protocol), protocol.digest


def trained_for(config: dict[str, Any]) -> str:
    """Return the degradation of a run in words."""
    if config["degradation"] == "second_order":
        return f"`second_order`, recipe `{read_recipe(config['recipe']).name}`"
    return f"`{config['degradation']}`, {config['blur_type']}, noise {config['noise']:g}"


def card(
    name: str, net: BlindSR, config: dict[str, Any], measured: dict[str, Any], about: dict[str, str], sha256: str
) -> str:
    """Return the card of the weights, in Markdown."""
    sizes = ", ".join(f"{key} {value}" for key, value in net.config.items())
    parameters = sum(parameter.numel() for parameter in net.parameters())
    machine = config["gpu"] or f"{config['processor']}, {config['threads']} thread(s)"
    lines = [
        f"# {name}",
        "",
        about["note"],
        "",
        "| | |",
        "|---|---|",
        f"| network | {name_of(net)}, {sizes}: {parameters / 1e6:.2f} M parameters |",
        f"| trained for | {trained_for(config)} |",
        f"| images | {about['images']} |",
        f"| command | `{about['command']}` |",
        f"| commit, seed | {config['commit']}, {config['seed']} |",
        f"| steps, time | {about['steps']}, {about['time']} |",
        f"| machine | {machine}, PyTorch {config['versions']['torch']} |",
        f"| SHA-256 | `{sha256}` |",
        f"| licence | {about['licence']} |",
        "",
        f"PSNR / SSIM of the half-precision weights under `{measured['protocol']}` (digest {measured['digest']}),",
        f"planes `{config['metric']}`:",
        "",
        f"| | {' | '.join(measured['scores'])} |",
        "|---" * (len(measured["scores"]) + 1) + "|",
        *(
            f"| {label} | " + " | ".join(f"{s['psnr']:.2f} / {s['ssim']:.4f}" for s in row.values()) + " |"
            for label, row in ((name, measured["scores"]), ("bicubic", measured["bicubic"]))
        ),
        "",
        f"`{name}.csv` holds the scores of its validations.",
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--data", "--dir_data", required=True, type=Path, metavar="DIR", help="root with benchmark/<Set>/HR"
    )
    parser.add_argument("--sets", default=SETS, metavar="A+B", help=f"test sets (default: {SETS})")
    parser.add_argument("--note", required=True, help="a sentence or two at the top of the card")
    parser.add_argument("--images", required=True, help="the training images")
    parser.add_argument("--licence", required=True, help="of the weights")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        add(given)


def add(given: argparse.Namespace) -> None:
    """Write weights, card and log of a run, and its entry in the list."""
    run = Run(given.run)
    config, log = run.config(), read_rows(run.psnr_log)
    if not config or not log:
        raise ValueError(f"`run`: {given.run} is no run that has validated")
    net = load_model(run.models / "model_latest.pt")
    CLONE.mkdir(parents=True, exist_ok=True)
    file = CLONE / f"{given.name}.safetensors"
    save_model(net, file, dtype=torch.float16)
    net = load_model(file)  # as it will be used
    found, protocol, digest = scores(net, config, given.data, given.sets)
    bicubic = scores(build("BICUBIC", scale=net.scale), config, given.data, given.sets)[0]
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    about = {
        "note": given.note,
        "images": given.images,
        "licence": given.licence,
        "command": public_command(given.run),
        "steps": f"{log[-1]['step']} of batch {config['batch_size']}, LR patch {config['patch_size']}",
        "time": duration(training_seconds((run.path / "log.txt").read_text(encoding="utf-8"))),
    }
    measured = {"scores": found, "bicubic": bicubic, "protocol": protocol, "digest": digest}
    write_text(file.with_suffix(".md"), card(given.name, net, config, measured, about, sha256))
    shutil.copy(run.psnr_log, file.with_suffix(".csv"))
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    listed[given.name] = {
        "file": file.name,
        "sha256": sha256,
        "network": name_of(net),
        "config": net.config,
        "degradation": config["degradation"],
        "blur_type": config["blur_type"],
        "protocol": protocol,
        "scores": {name: round(score["psnr"], 2) for name, score in found.items()},
        "note": given.note,
        "urls": [],
    }
    write_text(LIST, json.dumps(dict(sorted(listed.items())), indent=1) + "\n")
    entries.cache_clear()
    print(file.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
