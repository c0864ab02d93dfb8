"""Published defaults: the table of each network and recipe, lengths of epochs, validation, released file names."""

from __future__ import annotations

from pathlib import Path

import pytest

import published
from data.degradation import DEGRADATIONS
from data.protocol import NAMED
from flags import AS_PUBLISHED, flags_of
from loss import OBJECTIVES
from model import NETWORKS
from option import TrainOptions

MODELS = [name for name in NETWORKS if name != "BICUBIC"]
DF2K = 3450  # images


@pytest.mark.parametrize(
    ("model", "recipe", "batch_size", "images", "steps"),
    [
        ("KDSR_T", "gaussian", 64, DF2K, 971),
        ("KDSR_S", "gaussian", 64, DF2K, 971),
        ("CDSR", "manet", 32, DF2K, 970),
        ("DASR", "gaussian", 32, DF2K, 970),
        ("KDSR_S", "second_order", 72, DF2K, 1000),  # iterations are counted, in thousands
        ("EDSR", "gaussian", 16, DF2K, 1000),
        ("IKC", "ikc", 32, DF2K, 1000),
        ("KDSR_T", "gaussian", 64, 64_000, 1000),
        ("KDSR_T", "gaussian", 64, 100_000, 1563),  # more images than 1000 batches: each once
        ("CDSR", "manet", 32, 100_000, 3125),
        ("CDSR", "manet", 2, 5, 1000),
        ("KDSR_T", "gaussian", 64, 1, 1000),
    ],
)
def test_steps_of_an_epoch(model, recipe, batch_size, images, steps):
    assert published.epoch_steps(model, recipe, batch_size, images) == steps


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_published_flag_has_a_value(model, scale):
    wanted = {name for name, field in flags_of(TrainOptions).items() if field.default is AS_PUBLISHED} - {"data_test"}
    for degradation in DEGRADATIONS:
        for blur in ("iso_gaussian", "aniso_gaussian"):
            values = published.defaults(model, scale, {"degradation": degradation, "blur_type": blur})
            assert wanted <= values.keys()
            assert values.keys() <= flags_of(TrainOptions).keys()
            assert values["objective"] in OBJECTIVES
            assert values["protocol"] in {*NAMED, *DEGRADATIONS}
            assert values["sig_min"] < values["sig_max"]
            assert values["crop_size"] >= values["patch_size"]


@pytest.mark.parametrize(
    ("model", "scale", "given", "widths"),
    [
        ("CDSR", 2, {}, (0.35, 5)),  # variances with aniso_gaussian
        ("CDSR", 3, {}, (0.525, 7.5)),
        ("CDSR", 4, {}, (0.7, 10)),
        ("KDSR_T", 2, {}, (0.2, 2)),
        ("KDSR_T", 3, {}, (0.2, 3)),
        ("KDSR_T", 4, {}, (0.2, 4)),
        ("DASR", 2, {}, (0.2, 4)),  # as at x4
        ("DASR", 2, {"degradation": "manet"}, (0.35, 5)),
        ("IKC", 2, {}, (0.2, 2)),
        ("IKC", 3, {}, (0.2, 3)),
        ("IKC", 4, {}, (0.2, 4)),
    ],
)
def test_widths(model, scale, given, widths):
    values = published.defaults(model, scale, given)
    assert (values["sig_min"], values["sig_max"]) == widths
    assert values["lambda_max"] == 4  # at every scale


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("DASR", {}, {"batch_size": 32, "patch_size": 48, "epochs_encoder": 100, "lr_encoder": 1e-3}),
        ("CDSR", {}, {"batch_size": 32, "patch_size": 48, "epochs_encoder": -1, "epochs_sr": 500, "metric": "matlab"}),
        ("KDSR_S", {}, {"batch_size": 64, "patch_size": 64, "draw_per": "batch", "metric": "kdsr"}),
        ("KDSR_S", {"degradation": "second_order"}, {"lr_sr": 2e-4, "lr_decay_sr": 600, "ema": 0.999, "beta2": 0.99}),
        (
            "KDSR_S",
            {"degradation": "second_order", "objective": "adversarial"},
            {"lr_sr": 1e-4, "epochs_sr": 400, "pool_size": 1440, "crop_size": 100, "patch_size": 64, "n_blocks": 42},
        ),
        ("KDSR_T", {"degradation": "second_order", "batch_size": 9}, {"pool_size": 180, "draw_per": "image"}),
        ("IKC", {}, {"batch_size": 32, "patch_size": 64, "epochs_sr": 500, "lr_decay_sr": 125, "decay_type": "cosine"}),
        ("IKC", {}, {"objective": "sftmd", "degradation": "ikc", "beta2": 0.99, "metric": "matlab", "lr_sr": 1e-4}),
        ("IKC", {"objective": "correction"}, {"epochs_sr": 5, "decay_type": "none", "beta2": 0.99}),
        ("CDSR", {"degradation": "second_order"}, {"pool_size": 0}),  # views of one image cannot be pooled
    ],
)
def test_defaults(model, given, expected):
    values = published.defaults(model, 4, given)
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("model", "given", "noisy"),
    [
        ("KDSR_T", {"blur_type": "aniso_gaussian", "noise": 25.0}, True),
        ("KDSR_S", {"blur_type": "aniso_gaussian", "noise": 25.0}, True),
        ("KDSR_S", {"blur_type": "aniso_gaussian", "noise": 0.0}, False),
        ("KDSR_S", {"blur_type": "iso_gaussian", "noise": 25.0}, False),
        ("DASR", {"blur_type": "aniso_gaussian", "noise": 25.0}, False),
        ("CDSR", {"blur_type": "aniso_gaussian", "noise": 15.0}, False),
    ],
)
def test_noisy_training_of_kdsr_is_validated_as_released(model, given, noisy):
    expected = {"protocol": "flags", "lambda_1": 4.0, "lambda_2": 1.5, "theta": 120.0, "data_test": "Set14"}
    assert published.validation(model, given) == (expected if noisy else {})
    noise = model, given["blur_type"], given["noise"]
    assert published.validation_noise(*noise, "flags") == (10 if noisy else given["noise"])
    assert published.validation_noise(*noise, "aniso9") == given["noise"]
    assert published.validation(model, given | {"protocol": "aniso9"}) == {}
    assert published.validation(model, given | {"lambda_1": 2.0}) == {}


@pytest.mark.parametrize("name", ["model_TA_last.pt", "model_ST_last.pt", "model_last.pt"])
def test_a_released_name_stands_for_the_latest_weights(name, tmp_path):
    asked, latest = tmp_path / name, tmp_path / "model_latest.pt"
    assert published.weights_path(asked) == asked  # neither is there: the error names what was asked for
    latest.touch()
    assert published.weights_path(asked) == latest
    asked.touch()
    assert published.weights_path(asked) == asked
    assert published.weights_path(Path("model_best.pt")) == Path("model_best.pt")


def test_where_stairs_begin():
    assert [published.first_epoch(recipe) for recipe in ("gaussian", "manet", "second_order")] == [1, 1, 0]


def test_a_name_that_begins_like_one_of_kdsr_is_another_network():
    given = {"blur_type": "aniso_gaussian", "noise": 25.0}
    assert published.validation("KDSR_S", given) != {}
    assert published.validation("KDSR_X", given) == {}
    assert published.validation_noise("KDSR_X", "aniso_gaussian", 25.0, "flags") == 25.0
