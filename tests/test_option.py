"""Flags: published commands, published defaults, contradictions, misspellings."""

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest

import option
from commandline import parse
from option import EvalOptions, TrainOptions
from resolve import changed, idle, notes, resolve

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


def train(text):
    given = parse(TrainOptions, text.split(), prog="main.py")
    scale = given.get("scale", option.DEFAULT_SCALE)
    return resolve(TrainOptions, given, model=given["model"], scale=scale, data_test="Set5")


def test_the_published_cdsr_command():
    options = train(CDSR)
    assert options.run_dir.as_posix() == "experiment/cdsr_x2_bicubic_aniso"
    values = option.flat(options)
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
        "test_every": 1000,
        "freeze_epoch": 600,
    }
    assert {name: values[name] for name in published} == published
    assert options.training.warmup_epochs == 0


def test_the_official_kdsr_flags():
    options = train(KDSR)
    assert options.network.sizes == {"n_feats": 128, "n_blocks": 28, "n_resblocks": 5}
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
    values = option.flat(train(f"{arguments} --save s --dir_data d"))
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model KDSR_S", "--pre_train_TA"),
        ("--model KDSR_T --objective distillation", "--model KDSR_S"),
        ("--model KDSR_S --objective contrast", "CDSR and DASR have"),
        ("--model CDSR --sig_min 6 --sig_max 5", "--sig_min 6 is more than --sig_max 5"),
        ("--model KDSR_T --blur_type aniso_gaussian --lambda_min 5", "--lambda_min 5 is more than --lambda_max 4"),
        ("--model CDSR --sample_mode s-fold", "--sample_mode s-fold"),
        ("--model KDSR_T --protocol flags", "needs --sig"),
        ("--model KDSR_T --blur_type aniso_gaussian --lambda_1 2", "needs --lambda_2"),
        ("--model KDSR_T --protocol bicubic --sig 2", "--protocol bicubic has its own kernels"),
        ("--model KDSR_T --epochs_sr 0", "nothing to train"),
        ("--model KDSR_T --epochs_encoder 2", "--epochs_encoder 2"),
        ("--model KDSR_S --pre_train_TA t --epochs_encoder 600", "--epochs_encoder 600 leaves none"),
        ("--model CDSR --epochs_encoder 5 --freeze_epoch 4", "--freeze_epoch 4 comes before"),
        ("--model KDSR_T --sv_mode 2 --protocol aniso9", "--sv_mode 2 has its own kernels"),
        ("--model KDSR_T --sample_mode s-fold --protocol manet9", "--sample_mode s-fold"),
        ("--model KDSR_T --sample_mode s-fold --sv_mode 1", "--sample_mode s-fold"),
        ("--model KDSR_T --degradation second_order --noise 5", "leave out --noise"),
        ("--model KDSR_S --objective adversarial", "--pre_train_TA, or leave the teacher out with --kd_weight 0"),
        ("--model KDSR_T --jpeg_low 0.5", "--jpeg_low 0.5 must be in 1..100"),
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
        ("--model CDSR --save s --sig_max inf", "--sig_max inf must be"),
        ("--model CDSR --save s --cpu maybe", "maybe is neither True nor False"),
        ("--model CDSR --save s --scale 5", "--scale 5 must be in 2..4"),
        ("--model CDSR --save s --sv_mode 6", "--sv_mode 6"),
        ("--model CDSR --save s --n_GPUs -1", "--n_GPUs -1"),
        ("--model CDSR --save s --batch_size 0", "--batch_size 0"),
        ("--model BSRGAN --save s", "--model"),
        ("--model BICUBIC --save s", "--model"),
        ("--model CDSR --save s --scale two", "--scale"),
    ],
)
def test_bad_values_end_with_the_flag_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(TrainOptions, arguments.split(), prog="main.py")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_flags_without_effect_are_told():
    text = "--model KDSR_T --save s --c_weight 2 --lambda_max 3 --batch_size 4"
    given = parse(TrainOptions, text.split())
    options = resolve(TrainOptions, given, model="KDSR_T", scale=4, data_test="Set5")
    assert sorted(idle(given, options)) == ["--c_weight", "--lambda_max"]


@pytest.mark.parametrize(
    ("text", "without_effect"),
    [
        ("--model KDSR_T --sig 2 --lambda_1 3 --lambda_2 1", ["--lambda_1", "--lambda_2"]),
        ("--model KDSR_T --blur_type aniso_gaussian --sig 2 --lambda_1 3 --lambda_2 1", ["--sig"]),
        ("--model CDSR --c_weight 2 --freeze_epoch 0", ["--c_weight"]),
        ("--model CDSR --check --dry_run", ["--dry_run"]),
    ],
)
def test_flags_without_effect_beside_others(text, without_effect):
    given = parse(TrainOptions, [*text.split(), "--save", "s"])
    options = resolve(TrainOptions, given, model=given["model"], scale=4, data_test="Set5")
    assert sorted(idle(given, options)) == without_effect


def test_a_gan_from_random_weights_is_remarked():
    words = "--model KDSR_S --save s --objective adversarial --kd_weight 0"
    for more, count in (("", 1), ("--pre_train s.pt", 0)):
        given = parse(TrainOptions, [*words.split(), *more.split()])
        assert len(notes(given, resolve(TrainOptions, given, model="KDSR_S", scale=4, data_test="Set5"))) == count


@pytest.mark.parametrize("model", ["RRDB", "EDSR", "KDSR_T", "CDSR"])
def test_second_order_brings_its_setting_to_every_network(model):
    options = train(f"--model {model} --degradation second_order --save s")
    assert (options.loading.crop_size, options.loading.augment) == (100, "mirror")
    assert (options.training.ema, options.training.beta2) == (0.999, 0.99)
    assert options.test_degradation.metric == "matlab"


def test_a_test_may_differ_from_training():
    """What training draws is nothing to a test whose protocol is named."""
    given = parse(EvalOptions, ["--degradation", "second_order", "--protocol", "gaussian8", "--noise", "10"])
    options = resolve(EvalOptions, given, model="KDSR_S", scale=4, data_test="Set5")
    assert (options.test_degradation.protocol, options.degradation.noise) == ("gaussian8", 10.0)


def test_a_student_without_distillation_has_no_warm_up():
    assert train("--model KDSR_S --objective pixel --blur_type aniso_gaussian --save s").training.epochs_encoder == -1


def test_the_authors_way_to_write_booleans():
    given = parse(
        EvalOptions,
        ["--pre_train_ST", "s.pt", "--save_results", "False", "--cpu", "True", "--noise", "10.0"],
        prog="test.py",
    )
    assert (given["save_results"], given["cpu"], str(given["pre_train"])) == (False, True, "s.pt")


def test_what_a_resumed_run_may_not_change():
    before = option.flat(train("--model KDSR_T --save s --noise 15"))
    words = "--model KDSR_T --save s --n_threads 7 --epochs_sr 900 --gan hinge --resume"
    given = parse(TrainOptions, words.split())
    now = resolve(TrainOptions, given, model="KDSR_T", scale=4, data_test="Set5")
    assert changed(given, now, before) == ["--noise 15.0 (now 0.0)"]  # the GAN is none of this run


@pytest.mark.parametrize(("protocol", "expected"), [("", []), ("--protocol gaussian8", ["--blur_type"])])
def test_the_blur_type_chooses_the_protocol_of_a_test_unless_that_is_named(protocol, expected):
    given = parse(EvalOptions, f"--pre_train s.pt --blur_type aniso_gaussian {protocol}".split(), prog="test.py")
    assert idle(given, resolve(EvalOptions, given, model="KDSR_S", scale=4, data_test="Set5")) == expected


@pytest.mark.parametrize("source", ["--data_test LR --hr_dir HR", "--dir_demo D"])
def test_what_makes_lr_images_is_idle_where_they_are_given(source):
    text = f"--pre_train s.pt {source} --noise 10 --protocol gaussian8 --theta 3 --seed 2 --scale 4"
    given = parse(EvalOptions, text.split(), prog="test.py")
    options = resolve(EvalOptions, given, model="KDSR_S", scale=4, data_test="Demo")
    assert sorted(idle(given, options)) == ["--noise", "--protocol", "--seed", "--theta"]


def test_what_needs_or_forbids_an_hr_image_is_idle_with_the_others():
    flags = "--lpips vgg --metric rgb --no_reference niqe"
    for source, expected in (("Demo --dir_demo D", ["--lpips", "--metric"]), ("LR --hr_dir H", ["--no_reference"])):
        given = parse(EvalOptions, f"--pre_train s.pt --data_test {source} {flags}".split(), prog="test.py")
        options = resolve(EvalOptions, given, model="KDSR_S", scale=4, data_test="Demo")
        assert sorted(idle(given, options)) == expected


def test_the_published_test_command():
    text = (
        "--dir_data=/root/DF2k/HR --model=CDSR --scale=2 --blur_type=aniso_gaussian --noise=0 "
        "--pre_train experiment/cdsr_x2_bicubic_aniso/model/model_492_psnr_36.17.pt --sv_mode 0 --n_GPUs=1"
    )
    given = parse(EvalOptions, text.split(), prog="test.py")
    options = resolve(EvalOptions, given, model="CDSR", scale=2, data_test="Set5+Set14+B100+Urban100")
    assert options.test_degradation.protocol == "manet9"
    assert options.images.data_test == "Set5+Set14+B100+Urban100"


def test_every_flag_is_used_somewhere():
    """A flag that no code reads does not exist."""
    root = Path(option.__file__).parent
    files = [root / f"{name}.py" for name in ("main", "test", "results", "option", "resolve")]
    code = "".join(file.read_text() for file in [*files, *(root / "build").glob("*.py")])
    sections = [s for options in (TrainOptions, EvalOptions) for s in get_type_hints(options).values()]
    names = {f.name for section in sections for f in dataclasses.fields(section)}
    assert [name for name in names if not re.search(rf"\.{name}\b(?!\()", code)] == []
