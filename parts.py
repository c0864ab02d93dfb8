"""From options to the parts of a training run, and to the protocol of a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import option
import published
from data import factory as data_factory
from data.degradation import DEGRADATIONS, Degradation
from data.protocol import Protocol
from data.protocol_flags import build_protocol
from flags import Given, fill
from loss import Objective
from loss import factory as loss_factory
from model import BlindSR
from option import EvalOptions, TrainingDegradationOptions, TrainOptions
from runtime.distributed import Ranks
from runtime.schedule import Schedule

OF_TESTS = {"noise", "noise_var", "sv_mode"}  # flags with another meaning in tests than in training


def recipe_of(options: TrainOptions) -> Degradation[Any]:
    """Return the recipe of a training run."""
    return data_factory.degradation(
        options.degradation.degradation,
        scale=options.network.scale,
        **dataclasses.asdict(options.degradation),
        **dataclasses.asdict(options.training_degradation),
    )


def protocol_of(options: TrainOptions) -> Protocol:
    """Return the protocol by which a training run is validated."""
    return build_protocol(options.test_degradation.protocol, scale=options.network.scale, **options.validation)


def test_protocol_of(options: EvalOptions, scale: int, trained: Mapping[str, Any], given: Given) -> Protocol:
    """Return the protocol by which test.py degrades images for a network of this scale.

    Args:
        trained: flags of the run that trained it. A recipe as a protocol draws from the ranges of that run, if it was
            trained on this recipe, else from the published ones. It records only the strongest noise of training, so
            the noise of a test comes from the command line.
        given: the flags of the command line, which override those of the run.
    """
    name, degradation = options.test_degradation.protocol, {**vars(options.degradation)}
    drawn: dict[str, Any] = {}
    if name in DEGRADATIONS:
        like = trained if trained.get("degradation") == name else {}
        degradation |= {key: like[key] for key in degradation.keys() & like.keys() - given.keys() - OF_TESTS}
        network = "CDSR" if name == "manet" else "KDSR_S"
        drawn = published.defaults(network, scale, {"degradation": name, "blur_type": degradation["blur_type"]})
        drawn = vars(fill(TrainingDegradationOptions, {**drawn, **like}))
    return build_protocol(name, scale=scale, **{**drawn, **degradation, **vars(options.test_degradation)})


def network_of(options: TrainOptions, log: Callable[[str], None]) -> BlindSR:
    """Return the network of a training run, with the weights that it starts from; `log` is told which."""
    start = None if options.resuming else options.loss.pre_train  # the state of a resumed run has its weights
    return loss_factory.network(
        options.network.model,
        scale=options.network.scale,
        sizes=options.sizes if start else network_sizes(options),  # or those of the file to start from
        pre_train=start,
        warm_start=options.loss.warm_start,
        log=log,
    )


def network_sizes(options: TrainOptions) -> dict[str, Any]:
    """Return the sizes of the network of a training run: those asked for, else those of the weights it starts from.

    A resumed run knows its sizes, so it needs no such file.
    """
    loss = options.loss
    if loss.warm_start or options.resuming:
        return options.sizes
    taught = loss.pre_train_TA if options.has_teacher else None
    return loss_factory.sizes_of_weights(
        options.network.model, options.sizes, pre_train=loss.pre_train, pre_train_TA=taught
    )


def objective_of(
    options: TrainOptions, net: BlindSR, epoch_steps: int, ranks: Ranks, log: Callable[[str], None]
) -> Objective[Any]:
    """Return what is to be minimised, with its teacher; a student without weights takes the teacher's SR network."""
    loss = options.loss
    teacher = loss_factory.teacher(net, loss.pre_train_TA, log) if options.has_teacher else None
    starts = not options.resuming and loss.pre_train is None
    if starts and teacher is not None and options.objective_class.needs_teacher:
        loss_factory.take_restoration(net, teacher)
        log("the student starts with its teacher's SR network")
    with ranks.main_first():  # one downloads, the others find
        return loss_factory.objective(
            loss.objective,
            net,
            teacher=teacher,
            pretrained=not options.resuming,
            warmup_steps=options.warmup_epochs * epoch_steps,
            freeze_step=loss.freeze_epoch * epoch_steps,
            lr_sr=options.training.lr_sr,
            **option.acting(loss, options),  # a flag of one objective is no argument of another that has its name
        )


def schedule_of(options: TrainOptions, epoch_steps: int) -> Schedule:
    """Return the learning rate of each step, and their number."""
    training = options.training
    return Schedule(
        epoch_steps=epoch_steps,
        total_steps=options.epochs * epoch_steps,
        warmup_epochs=options.warmup_epochs,
        warmup_rate=training.lr_encoder,
        warmup_decay=training.lr_decay_encoder,
        warmup_gamma=training.gamma_encoder,
        rate=training.lr_sr,
        decay=training.lr_decay_sr,
        milestones=training.milestone_epochs,
        gamma=training.gamma_sr,
        first=published.first_epoch(options.degradation.degradation),
        decay_type=training.decay_type,
    )
