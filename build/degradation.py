"""Degradations of training, protocols of tests. Published units become the units used inside."""

from __future__ import annotations

import dataclasses
from math import radians
from pathlib import Path
from typing import Any, Literal, cast

from data.degradation import Degradation, Gaussian, MANet, SecondOrder
from data.degradation.jpeg import Codec
from data.protocol import NAMED, Case, Protocol, manet_sv, read_protocol
from option import EvalOptions, TrainOptions


def recipe(options: TrainOptions) -> Degradation[Any]:
    """The degradation of training. manet: sig_min and sig_max are variances, standard deviations inside."""
    given, drawn = options.degradation, options.training_degradation
    if given.degradation == "second_order":
        return SecondOrder(scale=options.network.scale, codec=cast(Codec, drawn.codec))
    common = {
        "scale": options.network.scale,
        "iso": given.isotropic,
        "noise": given.noise / 255,
        "quality": drawn.jpeg_low or None,
        "per_batch": drawn.draw_per == "batch",
    }
    if given.degradation == "manet":
        return MANet(width=(drawn.sig_min**0.5, drawn.sig_max**0.5), **common)
    width = (drawn.sig_min, drawn.sig_max) if given.isotropic else (drawn.lambda_min, drawn.lambda_max)
    return Gaussian(width=width, sampling=_sampling(given.sample_mode), **common)


def protocol(options: TrainOptions | EvalOptions, scale: int) -> Protocol:
    """The protocol of tests and validation, with its noise and JPEG."""
    given, test = options.degradation, options.test_degradation
    if given.sv_mode:
        rule = manet_sv(scale, given.sv_mode)
    elif test.protocol == "flags":
        rule = _protocol_of_flags(options, scale)
    elif test.protocol in NAMED:
        rule = NAMED[test.protocol](scale)
    else:
        return read_protocol(Path(test.protocol), scale)  # says all of itself
    if given.sample_mode == "s-fold":
        rule = dataclasses.replace(rule, name=f"{rule.name} s-fold", recipe="gaussian s-fold")
    return dataclasses.replace(rule, noise=given.noise / 255, quality=test.jpeg_quality or None)


def _protocol_of_flags(options: TrainOptions | EvalOptions, scale: int) -> Protocol:
    given, test = options.degradation, options.test_degradation
    first, second = (test.sig, test.sig) if given.isotropic else (test.lambda_1, test.lambda_2)
    if first is None or second is None:
        raise ValueError("--protocol flags needs --sig, or --lambda_1 and --lambda_2")
    theta = 0.0 if given.isotropic else radians(test.theta)
    name = f"sig {first:g}" if given.isotropic else f"lambda {first:g} {second:g} theta {test.theta:g}"
    if given.degradation == "manet":  # the flags are variances
        return Protocol(f"manet {name}", scale, "manet", (Case(name, (first**0.5, second**0.5), theta),))
    return Protocol(name, scale, "gaussian", (Case(name, (first, second), theta),))


def _sampling(sample_mode: str) -> Literal["bicubic", "s-fold"]:
    return "s-fold" if sample_mode == "s-fold" else "bicubic"
