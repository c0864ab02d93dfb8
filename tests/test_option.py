"""Flags: published commands, published defaults, contradictions, misspellings."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import main
import option
import parts
import published
import test
from data.testset import HELD_OUT
from flags import Given, When, flags_of, flat, spellings
from option import EvalOptions, TrainOptions
from utility import ROOT

CDSR = (
    "--dir_data=/root/DF2k/HR --model=CDSR --scale=2 --blur_type=aniso_gaussian --noise=0 --sig_min=0.35 --sig_max=5 "
    "--batch_size=32 --save=cdsr --epochs_encoder=-1 --n_GPUs=1 --freeze_epoch 600 --sv_mode 0"
)
KDSR = (
    "--dir_data d --model KDSR_S --scale 4 --blur_type iso_gaussian --noise 0 --sig_min 0.2 --sig_max 4.0 --save s "
    "--patch_size 64 --batch_size 64 --pre_train_TA t.pt --pre_train_ST s.pt --lambda_1 2.0 --lambda_2 1.0 --theta 30 "
    "--n_feats 128 --n_blocks 28 --n_resblocks 5 --temperature 0.15 --st_save_epoch 20 --n_threads 8 --lr_sr 1e-4 "
    "--epochs_sr 600 --lr_decay_sr 150 --blur_type aniso_gaussian --mode bicubic --resume 0 --test_every 1000"
)


def train(text: str) -> TrainOptions:
    return option.train_options(text.split(), main.NAMES)[1]


def evaluate(text: str, model: str = "KDSR_S", scale: int = 4) -> tuple[Given, EvalOptions]:
    given = option.parse(EvalOptions, text.split(), prog="test.py", names=test.NAMES)
    return given, option.eval_options(given, test.NAMES, model=model, scale=scale)


def idle(text: str) -> list[str]:
    """Return the flags of a training command that do not act."""
    return sorted(option.without_effect(*option.train_options(text.split(), main.NAMES)))


def test_the_published_cdsr_command():
    options = train(CDSR)
    assert options.run_dir.as_posix() == "experiment/cdsr_x2_bicubic_aniso"
    values = flat(options)
    published = {
        "degradation": "manet",
        "draw_per": "image",
        "protocol": "manet9",
        "metric": "matlab",
        "objective": "contrast",
        "patch_size": 48,
        "batch_size": 32,
        "epochs_sr": 500,
        "lr_sr": 1e-4,
        "lr_decay_sr": 125,
        "gamma_sr": 0.5,
        "test_every": None,  # the released trainer's, which depends on the number of images
        "freeze_epoch": 600,
    }
    assert {name: values[name] for name in published} == published
    assert options.warmup_epochs == 0


def test_the_official_kdsr_flags():
    options = train(KDSR)
    assert options.sizes == {"n_feats": 128, "n_blocks": 28, "n_resblocks": 5}
    assert str(options.loss.pre_train) == "s.pt"
    assert str(options.loss.pre_train_TA) == "t.pt"
    assert options.test_degradation.protocol == "flags"
    assert options.saving.st_save_epoch == 20
    assert options.run_dir.name == "s_x4_bicubic_aniso"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--model KDSR_T", {"objective": "pixel", "epochs_sr": 500, "lr_decay_sr": 125, "draw_per": "batch"}),
        (
            "--model KDSR_S --pre_train_TA t",
            {"objective": "distillation", "epochs_sr": 600, "lr_decay_sr": 150, "epochs_encoder": -1},
        ),
        (
            "--model KDSR_S --pre_train_TA t --blur_type aniso_gaussian",
            {"epochs_encoder": 100, "epochs_sr": 500, "lr_encoder": 2e-4, "lr_decay_encoder": 60, "protocol": "aniso9"},
        ),
        ("--model KDSR_T --scale 2", {"sig_min": 0.2, "sig_max": 2.0, "protocol": "gaussian8"}),
        ("--model CDSR --scale 3", {"sig_min": 0.525, "sig_max": 7.5, "patch_size": 48, "batch_size": 32}),
        ("--model DASR", {"objective": "contrast", "epochs_encoder": 100, "epochs_sr": 500, "draw_per": "image"}),
        ("--model EDSR", {"objective": "pixel", "batch_size": 16, "protocol": "gaussian8"}),
        ("--model CDSR --degradation gaussian", {"sig_max": 4.0, "protocol": "gaussian8", "metric": "matlab"}),
        ("--model CDSR --patch_size 32 --epochs_sr 7", {"patch_size": 32, "epochs_sr": 7}),
    ],
)
def test_published_defaults(arguments, expected):
    values = flat(train(f"{arguments} --save s --dir_data d"))
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model KDSR_S", "--pre_train_TA"),
        ("--model KDSR_T --objective distillation", "--model KDSR_S"),
        ("--model KDSR_S --objective contrast", "--objective contrast trains --model CDSR or DASR.*, not KDSR_S"),
        ("--model KDSR_T --batch_size 3 --n_GPUs 2 --cpu", "--batch_size 3 cannot be shared out evenly among"),
        (
            "--model KDSR_T --batch_size 8 --n_GPUs 2 --cpu --accumulate 8",
            "--batch_size 8, shared out among --n_GPUs 2, cannot be cut into --accumulate 8",
        ),
        ("--model KDSR_T --batch_size 8 --n_GPUs 2 --cpu --pool_size 9", "--pool_size 9 cannot be shared out evenly"),
        ("--model KDSR_T --objective sftmd", "--objective sftmd trains --model IKC, not KDSR_T"),
        (
            "--model IKC --degradation gaussian",
            "codes of kernels, which --degradation ikc draws: leave out --degradation",
        ),
        ("--model IKC --pool_size 64", "leave out --degradation and --pool_size"),
        ("--model IKC --objective correction", "name their checkpoint with --pre_train"),
        ("--model IKC --objective correction --pre_train f.pt --accumulate 2", "leave out --accumulate"),
        ("--model KDSR_T --protocol bicubic --sig 2", "--protocol bicubic has its own kernels"),
        ("--model KDSR_T --epochs_sr 0", "nothing to train"),
        *(
            (
                f"--model KDSR_T --milestones {words}",
                f"--milestones {re.escape(words)}: expected rising epochs joined by -",
            )
            for words in ("4-2", "2-2", "0-2", "2-", "2+4", "2.5")
        ),
        ("--model KDSR_T --epochs_encoder 2", "--epochs_encoder 2"),
        ("--model KDSR_S --pre_train_TA t --epochs_encoder 600", "--epochs_encoder 600 leaves none"),
        ("--model CDSR --epochs_encoder 5 --freeze_epoch 4", "--freeze_epoch 4 comes before"),
        ("--model KDSR_T --sv_mode 2 --protocol aniso9", "--sv_mode 2 has its own kernels"),
        ("--model KDSR_S --objective adversarial", "or leave it out with --kd_weight 0"),
        (
            "--model KDSR_T --objective adversarial --compile",
            "--compile takes an --objective whose steps are alike",
        ),
        ("--model CDSR --n_GPUs 2 --compile", "--compile takes .*contrast on one GPU"),
        ("--model IKC --objective correction --pre_train f.pt --compile", "contrast on one GPU only: leave it out"),
        ("--model KDSR_T --recipe light", "--recipe acts with second_order, in training or as --protocol"),
        ("--model KDSR_T --mix 0.5", "--mix acts with"),
        ("--model IKC --blur_type aniso_gaussian", "--blur_type acts with gaussian and manet"),
        *(
            (
                f"{words} --cuda_graph",
                "--cuda_graph takes one GPU and an --objective whose steps are alike",
            )
            for words in (
                "--model KDSR_T --objective adversarial",
                "--model IKC",
                "--model IKC --objective correction --pre_train f.pt",
                "--model CDSR --cpu",
                "--model CDSR --n_GPUs 2",
                "--model KDSR_T --accumulate 2",
                "--model KDSR_T --precision fp16",
            )
        ),
    ],
)
def test_contradictions_name_their_flags(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(f"{arguments} --save s --dir_data d")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--modle CDSR --save s", "there is no --modle; did you mean --model?"),
        ("--model CDSR --save s --btach_size=3", "did you mean --batch_size?"),
        ("--model CDSR", "--save must be given"),
        ("--model CDSR --save s --noise -1", "--noise -1.0 must be in 0..255"),
        ("--model CDSR --save s --noise nan", "--noise nan must be"),
        ("--model CDSR --save s --noise -inf", "--noise -inf must be in 0..255"),
        ("--model CDSR --save s --lr_sr -1e-4", "--lr_sr -0.0001 must be in 0..1"),
        ("--model CDSR --save s --lr_sr=-1e-4", "--lr_sr -0.0001 must be in 0..1"),
        ("--model CDSR --save s --lr_sr -.5E+0", "--lr_sr -0.5 must be in 0..1"),
        ("--model CDSR --save s --sig_max inf", "--sig_max inf must be"),
        ("--model CDSR --save s --cpu=maybe", "maybe is neither True nor False"),
        ("--model CDSR --save s --scale 5", "--scale 5 must be in 2..4"),
        ("--model CDSR --save s --sv_mode 7", "--sv_mode 7"),
        ("--model CDSR --save s --n_GPUs -1", "--n_GPUs -1"),
        ("--model CDSR --save s --batch_size 0", "--batch_size 0"),
        ("--model BSRGAN --save s", "--model"),
        ("--model BICUBIC --save s", "--model"),
        ("--model CDSR --save s --scale two", "--scale"),
        ("--resume RUN", "RUN is none of no, yes, auto, 0, -1; --resume goes on with the run that --save names"),
    ],
)
def test_bad_values_end_with_the_flag_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        train(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_flags_without_effect_are_told():
    assert idle("--model KDSR_T --save s --c_weight 2 --lambda_max 3 --batch_size 4") == ["c_weight", "lambda_max"]


@pytest.mark.parametrize(
    ("text", "without_effect"),
    [
        ("--model KDSR_T --sig 2 --lambda_1 3 --lambda_2 1", ["lambda_1", "lambda_2"]),
        ("--model KDSR_T --blur_type aniso_gaussian --sig 2 --lambda_1 3 --lambda_2 1", ["sig"]),
        ("--model CDSR --c_weight 2 --freeze_epoch 0", ["c_weight"]),
        ("--model CDSR --check --dry_run", ["dry_run"]),
        ("--model KDSR_T --lr_encoder 1e-3 --temperature 0.2", ["lr_encoder", "temperature"]),
        ("--model KDSR_T --vgg v.pth --objective adversarial --perceptual_weight 0", ["vgg"]),
        ("--model KDSR_T --codec libjpeg", ["codec"]),
        ("--model KDSR_T --degradation second_order --recipe light", []),
        ("--model KDSR_T --protocol second_order --recipe light", []),
        ("--model KDSR_T --degradation second_order --codec libjpeg --draw_per batch", ["draw_per"]),
    ],
)
def test_flags_without_effect_beside_others(text, without_effect):
    assert idle(f"{text} --save s") == without_effect


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("--c_weight 2", "--objective contrast"),
        ("--gamma_sr 0.1 --decay_type none", "--decay_type step"),
        ("--lr_decay_sr 3 --decay_type none", "a learning rate that decays"),
        ("--lr_decay_sr 3 --milestones 2-5", "a learning rate that decays, without --milestones"),
        ("--milestones 2-5 --decay_type cosine", "--decay_type step"),
        ("--blur_type iso_gaussian --degradation ikc", "gaussian and manet"),
        ("--lambda_max 3", "--blur_type aniso_gaussian"),
        ("--temperature 1", "a teacher"),
        ("--lr_encoder 1e-3", "--epochs_encoder above 0"),
        ("--codec libjpeg", "--degradation second_order"),
        ("--gan hinge", "--objective adversarial"),
    ],
)
def test_a_note_names_the_condition(text, condition):
    (note,) = option.notes(*option.train_options(f"--model KDSR_T --save s {text}".split(), main.NAMES))
    assert note.startswith(f"{text.split()[0]} has no effect here; it acts with {condition}")


def test_a_resumed_run_is_told_of_the_flag_that_was_given_and_not_of_what_follows_from_it():
    place = "--model KDSR_S --objective pixel --save s --dir_data d --degradation second_order"
    before = flat(train(f"{place} --batch_size 4 --patch_size 32"))
    given, now = option.train_options(f"{place} --batch_size 6 --patch_size 24".split(), main.NAMES)
    assert option.changed(given, now, before) == ["--patch_size 32 (now 24)", "--batch_size 4 (now 6)"]


def test_sizes_are_those_of_the_weights_that_a_run_starts_from():
    real = "--model KDSR_S --objective pixel --save s --dir_data d --degradation second_order"
    assert train(real).sizes == {"n_feats": 128, "n_blocks": 42, "n_resblocks": 6}
    assert train(f"{real} --pre_train w.pt").sizes == {}
    assert train(f"{real} --pre_train w.pt --n_feats 16").sizes == {"n_feats": 16}
    assert train(f"{real} --pre_train w.pt --warm_start").sizes["n_feats"] == 128
    assert train("--model KDSR_S --save s --dir_data d --pre_train_TA t.pt").sizes == {}


def test_given_pairs_are_validated_on_some_of_them():
    pairs = "--model KDSR_T --save s --dir_data d --dir_lr l"
    assert train(pairs).images.data_test == HELD_OUT
    assert train(f"{pairs} --data_test real").images.data_test == "real"
    assert train(f"{pairs} --mix 0.5").images.data_test == "Set5"


@pytest.mark.parametrize("flag", ["--ema_decay=1", "--tile-pad", "--gt_usm", "-i", "--opt"])
def test_flags_of_other_projects_are_known(flag, capsys):
    for read in (train, evaluate):
        with pytest.raises(SystemExit):
            read(f"{flag} --save s --model KDSR_T --dir_data d")
        assert f"there is no {flag.split('=')[0]} here; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("read", "program", "ours", "other", "theirs"),
    [
        (train, "main.py", spellings(TrainOptions), "test.py", spellings(EvalOptions)),
        (evaluate, "test.py", spellings(EvalOptions), "main.py", spellings(TrainOptions)),
    ],
)
def test_flags_of_other_projects_and_of_the_other_program_are_told_and_not_guessed(
    read, program, ours, other, theirs, capsys
):
    assert not published.ELSEWHERE.keys() & (ours | theirs)
    for name, hint in {**published.ELSEWHERE, **dict.fromkeys(theirs - ours, f"{other} has it")}.items():
        with pytest.raises(SystemExit):
            read(f"--{name}")
        said = capsys.readouterr().err
        assert said.startswith(f"{program}: error: there is no --{name} here; ")
        assert hint in said.replace(f"{other}'s ", "")
        for place, flag in re.findall(r"(\S+'s )?--(\w+)", said.partition("; ")[2]):
            assert flag in (theirs - ours if place else ours)
            assert place in ("", f"{other}'s ")


@pytest.mark.parametrize(("words", "count"), [("250000-400000", 1), ("9-400", 0)])
def test_milestones_after_the_end_of_a_run_are_remarked(words, count):
    found = option.train_options(f"--model EDSR --save s --epochs_sr 9 --milestones {words}".split(), main.NAMES)
    assert len(option.notes(*found)) == count


@pytest.mark.parametrize("content", [b"\x80PK", b"2026 log", b"[]", b"{}"])
def test_another_file_than_the_config_of_a_run_is_named(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"`config`: .*file is no config\.json of a run; name that file, or "):
        train(f"--config {tmp_path / 'file'} --save s")


def test_a_gan_from_random_weights_is_remarked():
    words = "--model KDSR_S --save s --objective adversarial --kd_weight 0"
    for more, count in (("", 1), ("--pre_train s.pt", 0)):
        assert len(option.notes(*option.train_options([*words.split(), *more.split()], main.NAMES))) == count


@pytest.mark.parametrize("model", ["RRDB", "EDSR", "KDSR_T", "CDSR"])
def test_second_order_brings_its_setting_to_every_network(model):
    options = train(f"--model {model} --degradation second_order --save s")
    assert (options.loading.crop_size, options.loading.augment) == (100, "mirror")
    assert (options.training.ema, options.training.beta2) == (0.999, 0.99)
    assert options.test_degradation.metric == "matlab"


def test_a_test_may_differ_from_training():
    """A test whose protocol is named does not read what training draws from."""
    _, options = evaluate("--degradation second_order --protocol gaussian8 --noise 10")
    assert (options.test_degradation.protocol, options.degradation.noise) == ("gaussian8", 10.0)


def test_a_student_without_distillation_has_no_warm_up():
    assert train("--model KDSR_S --objective pixel --blur_type aniso_gaussian --save s").training.epochs_encoder == -1


def test_the_authors_way_to_write_booleans():
    given, _ = evaluate("--pre_train_ST s.pt --save_results False --cpu True --noise 10.0")
    assert (given["save_results"], given["cpu"], str(given["pre_train"])) == (False, True, "s.pt")


@pytest.mark.parametrize(("words", "value"), [("--cpu", True), ("--cpu True", True), ("--cpu=False", False)])
def test_a_switch(words, value):
    given, options = evaluate(f"{words} --noise 5")
    assert given["cpu"] is options.machine.cpu is value
    assert given["noise"] == 5


def test_a_switch_does_not_take_the_word_after_it(capsys):
    given, options = evaluate("--cpu photo.jpg --tile 64 folder")
    assert (given["photos"], options.machine.cpu) == ((Path("photo.jpg"), Path("folder")), True)
    with pytest.raises(SystemExit):
        train("--model CDSR --save s --cpu photo.jpg")
    assert "'photo.jpg' belongs to no flag" in capsys.readouterr().err


def test_help_names_one_default(capsys):
    with pytest.raises(SystemExit):
        evaluate("--help")
    flags = " ".join(capsys.readouterr().out.split()).split(" --")
    assert [flag for flag in flags if flag.count("default:") > 1] == []


@pytest.mark.parametrize("name", ["--target", "--colour", "--zzz"])
def test_an_unlikely_flag_is_not_guessed(name, capsys):
    with pytest.raises(SystemExit):
        evaluate(f"{name} x")
    assert f"there is no {name}; test.py --help lists all" in capsys.readouterr().err


def test_what_a_resumed_run_may_not_change(tmp_path):
    place = f"--save s --dir_experiment {tmp_path}"
    before = flat(train(f"--model KDSR_T {place} --noise 15"))
    words = f"--model KDSR_T {place} --n_threads 7 --epochs_sr 900 --gan hinge --lr_encoder 1e-5 --resume"
    given, now = option.train_options(words.split(), main.NAMES)
    assert option.changed(given, now, before) == ["--noise 15.0 (now left out)"]  # the GAN is none of this run
    told = option.retold(given, now, before)
    assert told == {"n_threads": (before["n_threads"], 7), "epochs_sr": (500, 900)}  # there is no warm-up either


def test_a_resumed_run_must_be_given_what_has_no_default_again(tmp_path):
    place = f"--model KDSR_T --save s --dir_experiment {tmp_path}"
    before = flat(train(f"{place} --test_every 60 --n_feats 16")) | {"epoch_steps": 60}
    given, now = option.train_options(f"{place} --resume".split(), main.NAMES)
    assert option.changed(given, now, before) == ["--n_feats 16 (now left out)", "--test_every 60 (now left out)"]
    del before["epoch_steps"]  # an older run, which may have got its length from its images
    assert option.changed(given, now, before) == ["--n_feats 16 (now left out)"]


RATES = {
    "lr_sr": 1e-5,
    "lr_decay_sr": 7,
    "milestones": "3-4",
    "gamma_sr": 0.9,
    "lr_encoder": 1e-6,
    "lr_decay_encoder": 8,
    "gamma_encoder": 0.8,
}


@pytest.mark.parametrize("name", RATES)
def test_a_resumed_run_gets_another_learning_rate_only_if_it_is_given(name, tmp_path):
    def resuming(more):
        words = f"--model DASR --save s --dir_experiment {tmp_path} --resume {more}"
        return option.train_options(words.split(), main.NAMES)

    given, now = resuming(f"--{name} {RATES[name]}")
    usual = flat(resuming("")[1])
    assert option.changed(given, now, usual) == []
    assert option.retold(given, now, usual) == {name: (usual[name], RATES[name])}
    now.run_dir.mkdir()
    (now.run_dir / "config.json").write_text(json.dumps(flat(now) | {"versions": {}}))
    given, left_out = resuming("")  # later: it keeps what it was given
    assert flat(left_out)[name] == RATES[name]
    assert option.changed(given, left_out, flat(now)) == []
    assert option.retold(given, left_out, flat(now)) == {}


@pytest.mark.parametrize(("protocol", "expected"), [("", []), ("--protocol gaussian8", ["blur_type"])])
def test_the_blur_type_chooses_the_protocol_of_a_test_unless_that_is_named(protocol, expected):
    found = evaluate(f"--pre_train s.pt --blur_type aniso_gaussian {protocol}")
    assert list(option.without_effect(*found)) == expected


@pytest.mark.parametrize("source", ["--data_test LR --hr_dir HR", "--dir_demo D"])
def test_what_makes_lr_images_is_idle_where_they_are_given(source):
    found = evaluate(f"--pre_train s.pt {source} --noise 10 --protocol gaussian8 --theta 3 --seed 2 --scale 4")
    assert sorted(option.without_effect(*found)) == ["noise", "protocol", "seed", "theta"]


def test_crop128_acts_on_pairs():
    assert option.without_effect(*evaluate("--pre_train s.pt --data_test LR --hr_dir HR --protocol crop128")) == {}
    found = option.without_effect(*evaluate("--pre_train s.pt --dir_demo D --protocol crop128"))
    assert list(found) == ["protocol"]


def test_what_needs_or_forbids_an_hr_image_is_idle_with_the_others():
    flags = "--save_results --metric rgb --quality 90"
    for source, expected in (("Demo --dir_demo D", ["metric", "save_results"]), ("LR --hr_dir H", ["quality"])):
        found = evaluate(f"--pre_train s.pt --data_test {source} {flags}")
        assert sorted(option.without_effect(*found)) == expected


def test_the_published_test_command():
    text = (
        "--dir_data=/root/DF2k/HR --model=CDSR --scale=2 --blur_type=aniso_gaussian --noise=0 "
        "--pre_train experiment/cdsr_x2_bicubic_aniso/model/model_492_psnr_36.17.pt --sv_mode 0 --n_GPUs=1"
    )
    given, options = evaluate(text, model="CDSR", scale=2)
    assert option.notes(given, options) == []
    assert options.test_degradation.protocol == "manet9"
    assert options.images.data_test == "Set5+Set14+B100+Urban100"


# ------------------------------------------------------------------------------------- the commands of KDSR


LARGE = "--n_feats 128 --n_blocks 28 --n_resblocks 5"
TRAINING = (
    "--model=blindsr --scale=4 --dir_data={data} --n_GPUs=4 --data_test Set14 --data_train DF2K --patch_size 64 "
    "--batch_size 64"
)
ISO = "--blur_type=iso_gaussian --noise=0 --sig_min=0.2 --sig_max=4.0 --sig=3.6 --epochs_encoder 0"
ANISO = (
    "--blur_type=aniso_gaussian --noise=25.0 --lambda_min=0.2 --lambda_max=4.0 --lambda_1 4.0 --lambda_2 1.5 "
    "--theta 120 --epochs_sr 500 --st_save_epoch 495"
)
ISO_T = f"{ISO} --epochs_sr 500 --st_save_epoch 495"
ISO_S = f"{ISO} --epochs_sr 600 --lr_decay_sr 150 --st_save_epoch 0 --lr_encoder 2e-4 --resume 0"
ANISO_T = f"{ANISO} --epochs_encoder 0"
ANISO_S = f"{ANISO} --epochs_encoder 100 --resume 0 --lr_encoder 2e-4"
# name, more flags, shape, stage 3 (teacher) and stage 4 (student): (flags, epochs, warm-up, epochs of the stairs)
SETTINGS = [
    ("KDSRsMx4_iso", "", "iso", (ISO_T, 500, 0, 125), (ISO_S, 600, 0, 150)),
    ("KDSRsLx4_iso", LARGE, "iso", (ISO_T, 500, 0, 125), (ISO_S, 600, 0, 150)),
    ("KDSRsMx4_anisonoise", "", "aniso", (ANISO_T, 500, 0, 125), (ANISO_S, 500, 100, 125)),
]
COMMANDS = [
    (name, more, shape, stage, 3 + i) for name, more, shape, *stages in SETTINGS for i, stage in enumerate(stages)
]


@pytest.mark.parametrize(("name", "more", "shape", "stage", "number"), COMMANDS)
def test_the_training_commands_of_kdsr(name, more, shape, stage, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, epochs, warmup, decay = stage
    words = f"{TRAINING.format(data='data')} --save {name}_stage{number} {more} {flags}"
    teacher = f"experiment/{name}_stage3_x4_bicubic_{shape}/model"
    if number == 4:
        words += f" --pre_train_TA={teacher}/model_TA_last.pt --pre_train_ST={teacher}/model_TA_last.pt"
        Path(teacher).mkdir(parents=True)
        Path(teacher, "model_latest.pt").touch()  # a teacher that was trained here
    options = train(words)
    assert options.run_dir.as_posix() == f"experiment/{name}_stage{number}_x4_bicubic_{shape}"
    assert options.network.model == ("KDSR_T" if number == 3 else "KDSR_S")
    assert options.sizes == ({"n_feats": 128, "n_blocks": 28, "n_resblocks": 5} if more else {})
    assert options.loss.objective == ("pixel" if number == 3 else "distillation")
    assert (options.epochs, options.warmup_epochs) == (epochs, warmup)
    assert (options.training.lr_sr, options.training.lr_decay_sr, options.training.gamma_sr) == (1e-4, decay, 0.5)
    assert (options.training.lr_encoder, options.training.lr_decay_encoder) == (2e-4, 60)
    assert options.saving.st_save_epoch == (0 if name.endswith("_iso") and number == 4 else 495)
    assert options.degradation.degradation == "gaussian"
    assert options.training_degradation.draw_per == "batch"
    assert options.images.data_test == "Set14"
    assert not options.resuming
    assert options.has_teacher == (number == 4)
    latest = Path(teacher, "model_latest.pt") if number == 4 else None
    assert (options.loss.pre_train, options.loss.pre_train_TA) == (latest, latest)
    kernel = {key: options.validation[key] for key in ("protocol", "noise", "sig", "lambda_1", "lambda_2", "theta")}
    if shape == "iso":  # eight widths, whatever --sig says
        assert (kernel["protocol"], kernel["noise"], kernel["sig"]) == ("gaussian8", 0, None)
        assert (options.training_degradation.sig_min, options.training_degradation.sig_max) == (0.2, 4.0)
    else:
        assert options.degradation.noise == 25
        one = {"protocol": "flags", "noise": 10, "sig": None, "lambda_1": 4.0, "lambda_2": 1.5, "theta": 120}
        assert kernel == one
        assert (options.training_degradation.lambda_min, options.training_degradation.lambda_max) == (0.2, 4.0)


def test_the_stairs_of_kdsr():
    """Stairs count epochs from 1: the rate is halved after 124 epochs, then after every 125."""
    options = train(f"{TRAINING.format(data='data')} --save s {ISO_T}")
    steps = published.epoch_steps("KDSR_T", "gaussian", 64, 3450)
    schedule = parts.schedule_of(options, steps)
    assert schedule.total_steps == 500 * steps
    rates = [schedule(steps * epoch) for epoch in range(options.epochs)]
    assert [i for i in range(1, 500) if rates[i] != rates[i - 1]] == [124, 249, 374, 499]
    assert rates[:1] + rates[-1:] == [1e-4, pytest.approx(1e-4 / 16)]


TESTING = "--test_only --resume 0 --n_GPUs=1 --save_results False --model=blindsr --scale=4 --dir_data=data"
SETS = "Set5+Set14+B100+Urban100+MANGA109"


@pytest.mark.parametrize(
    ("words", "name", "save", "protocol"),
    [
        (f"--data_test={SETS} --blur_type=iso_gaussian --noise 0", "KDSRsM_iso_x4", "KDSRsM_iso_test", "gaussian8"),
        (
            f"--data_test={SETS} --blur_type=iso_gaussian --noise 0 {LARGE}",
            "KDSRsL_iso_x4",
            "KDSRsL_iso_test",
            "gaussian8",
        ),
        (
            "--data_test Set14 --blur_type=aniso_gaussian --lambda_1 3.5 --lambda_2 1.5 --theta 30",
            "KDSRsM_anisonoise_x4",
            "KDSRsM_anisonoise_test",
            "flags",
        ),
    ],
)
def test_the_test_commands_of_kdsr(words, name, save, protocol):
    text = f"{TESTING} {words} --pre_train_ST experiment/{name}.pt --save {save}"
    given = option.parse(EvalOptions, test.released_words(text.split()), prog="test.py", names=test.NAMES)
    published.released_test(given)
    options = option.eval_options(given, test.NAMES, model="KDSR_S", scale=4)
    assert option.notes(given, options) == []
    assert (options.testing.pre_train, options.testing.save) == (Path(f"experiment/{name}.pt"), save)
    assert not options.testing.save_results
    assert options.images.data_test == (SETS if protocol == "gaussian8" else "Set14")
    assert (options.test_degradation.protocol, options.test_degradation.metric) == (protocol, "kdsr")
    if protocol == "flags":
        asked = options.test_degradation
        assert (asked.lambda_1, asked.lambda_2, asked.theta) == (3.5, 1.5, 30)
    assert options.degradation.noise == (10 if protocol == "flags" else 0)  # theirs is 10 whatever --noise says
    sizes = options.testing.n_feats, options.testing.n_blocks, options.testing.n_resblocks
    assert sizes == ((128, 28, 5) if LARGE in words else (None, None, None))


def test_a_noise_that_is_given_is_that_of_the_test():
    words = f"{TESTING} --data_test Set14 --blur_type=aniso_gaussian --noise 3 --pre_train_ST s.pt"
    given = option.parse(EvalOptions, test.released_words(words.split()), prog="test.py", names=test.NAMES)
    published.released_test(given)
    assert given["noise"] == 3


# ------------------------------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    "words",
    [
        "--n_threads 5000",
        "--batch_size 100000",
        "--n_blocks 100000000",
        "--n_feats 100000000",
        "--lr_sr 0",
        "--lr_sr -0.5",
        "--sig_max 1e9",
        "--beta2 1",
        "--gamma_sr 1e300",
        f"--seed {2**63}",
        "--seed -1",
        "--n_GPUs 100000",
        "--patch_size 1000000",
        "--ema 1",
        "--temperature 0",
    ],
)
def test_values_out_of_range_are_refused_by_name(words, capsys):
    with pytest.raises((SystemExit, ValueError)) as caught:
        train(f"--model KDSR_T --save s {words}")
    message = f"{caught.value} {capsys.readouterr().err}"
    assert words.split()[0] in message
    assert words.split()[1].split("e")[0].rstrip("0") in message


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "", ".", ".."])
def test_a_run_is_named_by_a_word(name):
    with pytest.raises(ValueError, match="--save"):
        option.train_options(["--model", "CDSR", "--save", name], main.NAMES)
    given = option.parse(EvalOptions, ["--save", name], prog="test.py", names=test.NAMES)
    with pytest.raises(ValueError, match="--save"):
        option.eval_options(given, test.NAMES, model="CDSR", scale=4)


# ---------------------------------------------------------------------------------------------- messages


def test_arguments_in_backticks_become_flags():
    message = "`patch_size` 8: 12 LR pixels are the least; `hr_dir`, `data_test`, `another`, `two words`"
    expected = "--patch_size 8: 12 LR pixels are the least; --hr_dir, --data_test, `another`, `two words`"
    assert option.as_flags(ValueError(message)) == expected


@pytest.mark.parametrize("flag", ["pre_train", "pre_train_TA"])
def test_a_run_is_not_its_weights(flag, tmp_path):
    models = tmp_path / "run_x4" / "model"
    models.mkdir(parents=True)
    for name in ("state.pt", "model_latest.pt"):
        (models / name).touch()
    for path in (tmp_path / "run_x4", models, models / "state.pt"):
        words = f"--model KDSR_S --save s --{flag} {path} --pre_train_TA {path}"
        with pytest.raises(ValueError, match=rf"--{flag}: .* weights are \S*model_latest\.pt"):
            train(words)
    for name in ("model_TA_last.pt", "model_latest.pt"):
        assert option.weights({flag: models / name}) == {flag: models / "model_latest.pt"}


def test_the_table_of_differences():
    text = option.differences(train(f"{CDSR} --data_cache"))
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert rows["freeze_epoch"] == "600"
    assert rows["dir_data"] == "/root/DF2k/HR"
    assert not {"epochs_sr", "batch_size", "sv_mode", "lr_sr", "sig_max", "n_GPUs"} & rows.keys()  # as published
    columns = [len(found[0]) for line in text.splitlines() if (found := re.match(r"  \w+ +", line))]
    assert len(columns) == len(rows)
    assert len(set(columns)) == 1


def test_values_survive_config_json():
    options = train(CDSR)
    values = json.loads(json.dumps(flat(options)))
    assert option.changed({}, options, values) == []


@pytest.mark.parametrize("file", ["", "/config.json"])
def test_the_config_of_a_run_names_the_run_to_resume(tmp_path, file, monkeypatch):
    options = train(f"--model KDSR_T --dir_experiment {tmp_path} --save s --dir_data d --noise 15")
    options.run_dir.mkdir()
    config = flat(options) | {"dir_experiment": "experiment", "versions": {}}  # it was moved since
    (options.run_dir / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    for words in ("--resume", "--resume auto", "--max_minutes 3 --resume -1"):
        given, resumed = option.train_options(f"{words} --config {options.run_dir.name}{file}".split(), main.NAMES)
        assert resumed.run_dir == options.run_dir
        assert resumed.degradation.noise == 15
        assert "data_test" not in given  # or it would have to be there
        assert option.retold(given, resumed, config).keys() <= {"max_minutes"}
    other = train(f"--resume --config {options.run_dir.name}{file} --save t")  # its flags, for another run
    assert other.run_dir.parent.name == "experiment"
    with pytest.raises(SystemExit):
        train(f"--config {options.run_dir.name}{file}")
    options.run_dir.rename(tmp_path / "renamed")
    assert train(f"--resume --config renamed{file}").run_dir == tmp_path / "renamed"


def test_a_recipe_file_is_kept_by_its_content(tmp_path):
    file = tmp_path / "phone.json"
    words = f"--model KDSR_T --save s --degradation second_order --recipe {file}"
    assert train(words).degradation.recipe == str(file)  # there is no such file: the recipe refuses it as a name
    file.write_text('{"first": {"share": 0.5}}')
    before = json.loads(json.dumps(flat(train(words))))
    assert before["recipe"] == {"name": "phone", "first": {"share": 0.5}}
    assert option.changed({}, train(words), before) == []
    (tmp_path / "config.json").write_text(json.dumps(before))
    again = f"--config {tmp_path / 'config.json'} --save t"
    file.write_text('{"first": {"share": 0.25}}')
    assert train(again).degradation.recipe == before["recipe"]  # not the file's, which may be anywhere by now
    assert train(f"{again} --recipe {file}").degradation.recipe == {"name": "phone", "first": {"share": 0.25}}
    assert "--recipe" in option.changed({}, train(words), before)[0]
    for content, message in (("{", "cannot be read as JSON"), ("[1]", "must hold keys and values")):
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"^--recipe: .*phone\.json {message}"):
            train(words)


def test_every_flag_is_used_somewhere():
    """A flag that no code reads does not exist: it is an attribute or a given value that is read, or a parameter."""
    used: set[str] = set()
    hallway = [ROOT / f"{name}.py" for name in ("main", "test", "option", "parts", "trainer")]
    hallway += (ROOT / "preflight").glob("*.py")
    for file in (
        *hallway,
        *(p for room in ("data", "loss", "evaluation", "model") for p in (ROOT / room).rglob("*.py")),
    ):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                used.add(node.attr)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "given.get" and file.name == "test.py":
                used.update(str(word.value) for word in node.args if isinstance(word, ast.Constant))
            elif isinstance(node, ast.arg) and file not in hallway:
                used.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and file not in hallway:
                used.add(node.target.id)  # the fields of a dataclass are its parameters
    names = flags_of(TrainOptions).keys() | flags_of(EvalOptions).keys()
    assert names - used == set()


@pytest.mark.parametrize(
    ("words", "acting", "idle"),
    [
        ("--model CDSR", {"c_weight", "freeze_epoch"}, {"kd_weight", "lr_d", "gan"}),
        ("--model KDSR_S --pre_train_TA t.pt", {"kd_weight", "temperature"}, {"c_weight", "gan"}),
        ("--model KDSR_S --objective adversarial --pre_train_TA t.pt", {"kd_weight", "lr_d", "vgg"}, {"c_weight"}),
        ("--model EDSR --perceptual_weight 0 --objective adversarial --kd_weight 0", {"gan"}, {"vgg", "temperature"}),
    ],
)
def test_an_objective_gets_the_flags_that_act(words, acting, idle):
    options = train(f"{words} --save s --dir_data d")
    found = option.acting(options.loss, options)
    assert acting | {"objective", "loss"} <= found.keys()
    assert not idle & found.keys()


def test_flags_of_recipes_act_in_tests_where_their_recipe_is_the_protocol():
    box = When("the recipe box", option._drawn("radius", "").test)
    names = {**test.NAMES, "degradation": {**test.NAMES["degradation"], "box": lambda radius: None}}
    for words, expected in (("--protocol box", True), ("--protocol gaussian8", False), ("--protocol gaussian", False)):
        given = option.parse(EvalOptions, words.split(), prog="test.py", names=names)
        options = option.eval_options(given, names, model="EDSR", scale=4)
        assert option.acts(box, options) == expected


def test_a_recipe_as_a_protocol_is_that_of_the_training_unless_flags_say_otherwise():
    def protocol(words, trained):
        given, options = evaluate(words)
        return parts.test_protocol_of(options, 4, trained, given)

    real = {"degradation": "second_order", "recipe": "light"}
    assert str(protocol("--protocol second_order", real)) == "second_order light"
    assert str(protocol("--protocol second_order --recipe realesrgan", real)) == "second_order"
    assert str(protocol("--protocol second_order", {**real, "degradation": "gaussian"})) == "second_order"
    iso = protocol("--protocol gaussian", {})
    noisy = {"degradation": "gaussian", "blur_type": "iso_gaussian", "noise": 25.0, "noise_var": True, "sv_mode": 3}
    assert protocol("--protocol gaussian", noisy).digest == iso.digest  # how noisy a test is, is for its flags to say
    aniso = {**noisy, "blur_type": "aniso_gaussian"}
    assert protocol("--protocol gaussian", aniso).digest != iso.digest
    assert protocol("--protocol gaussian --blur_type iso_gaussian", aniso).digest == iso.digest


def test_flags_of_networks_are_none_where_they_are_not_given():
    """So that a size of one network is not asked of another."""
    options = train("--model CDSR --save s --dir_data d")
    assert {name for name, value in vars(options.network).items() if value is not None} == {"model", "scale"}


def test_sizes_of_another_network_are_not_taken_from_its_config(tmp_path):
    options = train("--model KDSR_T --n_feats 32 --n_resblocks 2 --lr_sr 1e-3 --save s --dir_data d")
    (tmp_path / "config.json").write_text(json.dumps(flat(options)))
    again = train(f"--config {tmp_path / 'config.json'} --model EDSR --save t")
    assert (again.network.model, again.network.n_feats, again.network.n_resblocks) == ("EDSR", 32, None)
    assert again.training.lr_sr == 1e-3
