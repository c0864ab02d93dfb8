"""The two parts of the check, what a run makes of the cheap one, and what is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import main
import model
import preflight
from data.degradation import DEGRADATIONS, Gaussian
from data.degradation.params import description
from evaluation.results import training_of
from model import write_file
from option import TrainOptions
from preflight import inputs, machine, room
from preflight.finding import Grade, attempt, error, note, ok

SIZES = {"n_feats": 8, "n_blocks": 1, "n_resblocks": 1}
Options = Callable[..., TrainOptions]


def grades(findings: object) -> set[Grade]:
    return {finding.grade for finding in findings}  # pyright: ignore[reportGeneralTypeIssues]


def test_nothing_is_to_be_mended_of_a_good_run(options: Options, tmp_path: Path) -> None:
    assert Grade.ERROR not in grades(preflight.cheap(options()))
    assert grades(inputs.weights(options())) == {Grade.OK}
    assert grades(inputs.images(options())) == {Grade.OK}
    assert list(tmp_path.iterdir()) == []


def test_a_run_starts_with_a_note(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.psutil.Process, "cpu_affinity", lambda self: [0], raising=False)
    log: list[str] = []
    preflight.before_start(options("--n_threads 2"), log.append)
    assert [text for text in log if "--n_threads 2 on 1 CPU cores" in text]
    assert not [text for text in log if text.startswith("ok")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sig_min 6 --sig_max 5", "--sig_min 6 is more than --sig_max 5"),
        ("--blur_type aniso_gaussian --lambda_min 5", "--lambda_min 5 is more than --lambda_max 4"),
        ("--degradation ikc --sig_min 5 --sig_max 1", "--sig_min 5 is more than --sig_max 1"),
        ("--degradation manet --sample_mode s-fold", "--sample_mode s-fold: CDSR's released code"),
        ("--sample_mode s-fold --protocol manet9", "--sample_mode s-fold: manet9 takes every s-th pixel"),
        ("--sample_mode s-fold --sv_mode 1 --sig 2", "--sample_mode s-fold"),
        ("--protocol flags", "needs --sig"),
        ("--blur_type aniso_gaussian --lambda_1 2", "needs --lambda_1 and --lambda_2"),
        ("--degradation second_order --protocol bicubic --noise 5", "--degradation second_order takes no --noise"),
        ("--degradation ikc --protocol bicubic --noise 10", "--degradation ikc takes no --noise: leave it out"),
        ("--noise 5 --noise_var", "--degradation gaussian takes no --noise_var"),
        ("--protocol second_order --noise 5", "--protocol second_order takes no --noise"),
        ("--jpeg_low 0.5", "--jpeg_low 0.5 must be in 1..100"),
        ("--jpeg_quality 0.5", "--jpeg_quality 0.5 must be in 1..100"),
    ],
)
def test_recipe_and_protocol_refuse_flags_that_they_do_not_take(
    options: Options, arguments: str, message: str, told: Callable[..., str]
) -> None:
    refused = [line for line in told(preflight.cheap(options(arguments))).splitlines() if line.startswith("error: ")]
    assert len(refused) == 1
    assert message in refused[0]


def test_a_run_does_not_start_before_it_is_mended(options: Options, tmp_path: Path) -> None:
    (tmp_path / "experiment").write_text("a file in the way")
    with pytest.raises(ValueError, match="`dir_experiment`"):
        preflight.before_start(options(), print)


def check(asked: TrainOptions, given: dict[str, object] | None = None) -> bool:
    return preflight.check(given or {}, asked, main.check_run)


def test_a_network_that_cannot_be_is_said_once(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(options(network="--model CDSR --n_resblocks 8"))
    assert capsys.readouterr().out.count("n_resblocks means nothing to CDSR") == 1


def test_weights_that_are_not_there(options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(options(f"--pre_train {tmp_path / 'nowhere.pt'}"))
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("error")] == [
        f"error: --pre_train: there is no file {tmp_path / 'nowhere.pt'}"
    ]
    assert "training images" in out  # they are looked at all the same


def test_a_patch_that_is_too_small(options: Options) -> None:
    findings = attempt(inputs.weights, options("--patch_size 4"))
    (refusal,) = (found for found in findings if found.grade is Grade.ERROR)
    assert str(refusal).startswith("error: --patch_size 4")


def test_refusals_of_others_are_findings(options: Options) -> None:
    def refuse(asked: TrainOptions) -> None:
        raise FileExistsError("`save` s: there is a run already")

    assert list(attempt(refuse, options())) == [error("`save` s: there is a run already")]
    assert not list(attempt(lambda: None))


def test_a_run_that_is_there_is_found(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    models = options().run_dir / "model"
    models.mkdir(parents=True)
    (models / "model_latest.pt").touch()
    assert not check(options())
    assert f"error: --save s: {models.parent} holds a run already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--sig_max 2", ""),
        ("--sig_max 2 --draw_per image", ""),
        ("--sig_max 1", "width [0.2, 2.0] instead of [0.2, 1.0]"),
        ("--sig_max 2 --noise 51", "noise 0.0 instead of 0.2"),
        ("--degradation manet", "name Gaussian instead of MANet"),
        ("--degradation manet --resume", ""),
    ],
)
def test_a_teacher_of_another_degradation(
    arguments: str, words: str, options: Options, told: Callable[..., str], tmp_path: Path
) -> None:
    """Whether it can be found or not: some files tell no degradation."""
    teacher, recipe = model.build("KDSR_T", scale=2, **SIZES), Gaussian(scale=2, iso=True, width=(0.2, 2.0))
    path = tmp_path / "TA.pt"
    asked = options(arguments, network=f"--model KDSR_S --pre_train_TA {path}")
    write_file(model.checkpoint(teacher, degradation=description(recipe)), path)
    expected = f"note: --pre_train_TA {path} was trained on another degradation than this run: {words}" if words else ""
    assert told(inputs.learned_from(asked)) == expected
    write_file(model.checkpoint(teacher), path)
    training_of.cache_clear()
    assert not told(inputs.learned_from(asked))


def test_a_teacher_of_another_recipe(options: Options, told: Callable[..., str], tmp_path: Path) -> None:
    teacher, path = model.build("KDSR_T", scale=2, **SIZES), tmp_path / "TA.pt"
    recipe = DEGRADATIONS["second_order"](scale=2, recipe="light")
    write_file(model.checkpoint(teacher, degradation=description(recipe)), path)
    network = f"--model KDSR_S --pre_train_TA {path} --degradation second_order --crop_size 48 --recipe"
    assert not told(inputs.learned_from(options(network=f"{network} light")))
    assert told(inputs.learned_from(options(network=f"{network} realesrgan"))).endswith("than this run: other ranges")


def test_weights_that_a_run_refines(options: Options, told: Callable[..., str], tmp_path: Path) -> None:
    net, path = model.build("IKC", scale=2, n_feats=8, n_blocks=1), tmp_path / "sftmd.pt"
    write_file(model.checkpoint(net, degradation={"name": "IKC", "sig_min": 1.0, "sig_max": 2.0}), path)
    text = told(inputs.learned_from(options(network=f"--model IKC --objective correction --pre_train {path}")))
    assert text.endswith("on another degradation than this run: sig_min 1.0 instead of 0.2")


def test_a_system_without_shared_memory(options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "SHARED", tmp_path / "nowhere")
    text = "\n".join(map(str, preflight.cheap(options())))
    assert "error" not in text
    assert "batches" not in text


def test_what_is_printed(options: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    findings = [ok("a"), note("b"), note("`save` b"), note("b")]
    monkeypatch.setattr(preflight, "cheap", lambda options: findings)
    for name in ("weights", "images"):
        monkeypatch.setattr(preflight, name, lambda *_, **__: [])
    assert check(options())
    assert capsys.readouterr().out == "ok: a\nnote: b\nnote: --save b\n0 errors, 2 notes, 1 ok\n"
    findings.append(error("c"))
    assert not check(options())
    assert capsys.readouterr().out.endswith("error: c\n1 error, 2 notes, 1 ok\n")


def test_notes_on_flags_are_findings(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(options("--gan hinge"), {"gan": "hinge"})
    assert "note: --gan has no effect here; it acts with --objective adversarial" in capsys.readouterr().out


def test_validation_is_looked_at_as_it_will_be(options: Options) -> None:
    """The released KDSR validates noisy training with noise 10, and so does a check of it."""
    asked = options("--blur_type aniso_gaussian --noise 25 --data_test Set5", network="--model KDSR_T --n_feats 8")
    assert (asked.degradation.noise, asked.validation["noise"]) == (25, 10)
    (told,) = [found for found in inputs.test_images(asked, [], True) if "test set Set5" in found.text]
    assert told.text.endswith("lambda 4 1.5 theta 120 noise 10")


def test_a_perceptual_loss_needs_its_network(options: Options, tmp_path: Path) -> None:
    gan = f"--model KDSR_T --n_feats 8 --n_blocks 1 --objective adversarial --vgg {tmp_path / 'vgg.pth'}"
    asked = options("--patch_size 16", network=gan)
    (refusal,) = (found for found in attempt(inputs.weights, asked) if found.grade is Grade.ERROR)
    assert str(refusal).startswith("error: --vgg")
    assert Grade.ERROR not in grades(inputs.weights(options("--patch_size 16 --perceptual_weight 0", network=gan)))
