"""From plain values to a network, its teacher and its objective."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import model
from loss.adversarial import Adversarial
from loss.contrast import Contrast
from loss.correction import Correction
from loss.distillation import Distillation
from loss.objective import Objective
from loss.pixel import Pixel
from loss.sftmd import SFTMD
from model import NETWORKS, BlindSR
from model.checkpoint import averaged
from utility import argument, call, listing, taken

# A constructor, or `from_flags` where there is one, is given those of the flags that it takes by name, and, where it
# takes them: `net`, `teacher` (None: there is none), `warmup_steps` and `freeze_step`, and `pretrained` (False: its
# weights come with the state of a run).
OBJECTIVES: dict[str, type[Objective[Any]]] = {
    "pixel": Pixel,
    "distillation": Distillation,
    "contrast": Contrast,
    "sftmd": SFTMD,
    "correction": Correction,
    "adversarial": Adversarial,
}


def sizes_of_weights(
    name: str,
    asked: dict[str, Any],
    *,
    pre_train: Path | None,
    pre_train_TA: Path | None,  # noqa: N803 (published name)
) -> dict[str, Any]:
    """Return the sizes of a network: those asked for, else those of the weights it starts from or of its teacher.

    Raises ValueError or FileNotFoundError for a file that cannot be read.
    """
    for argument_name, path in (("pre_train", pre_train), ("pre_train_TA", pre_train_TA)):
        if path is not None:
            with argument(argument_name):
                source = model.load_model(path)
            if model.name_of(source) in (name, NETWORKS[name].teacher):
                return {key: value for key, value in source.config.items() if key != "scale"} | asked
    return asked


def network(
    name: str,
    *,
    scale: int,
    sizes: dict[str, Any],
    pre_train: Path | None = None,
    warm_start: bool = False,
    log: Callable[[str], None] = print,
) -> BlindSR:
    """Build a network, fresh or with weights to start from.

    A student may start from a teacher's SR network, as the released stage S does. From a network of another scale
    everything is taken whose shape fits: all but the upsampler. With `warm_start` the same goes for any network.

    Raises:
        ValueError: sizes that the network does not have, or weights of another network or size; with `warm_start`,
            weights of which none fits.
        FileNotFoundError: there is no such file.
    """
    if pre_train is None:
        return model.build(name, scale=scale, **sizes)
    with argument("pre_train"):
        _tell_average(pre_train, log)
    if warm_start:
        return _from_any(model.build(name, scale=scale, **sizes), pre_train, log)
    with argument("pre_train"):
        source = model.load_model(pre_train)
    if model.name_of(source) == NETWORKS[name].teacher:
        shared = {size: value for size, value in sizes.items() if size in source.config}  # a student may have others
        require(source, "pre_train", pre_train, scale=scale, **shared)
        student = model.build(name, **source.config | sizes)
        take_restoration(student, source)
        log(f"{pre_train}: the teacher's SR network is taken, the estimator starts afresh")
        return student
    require(source, "pre_train", pre_train, model=name, **sizes)
    if source.scale == scale:
        log(f"{pre_train}: all {len(source.state_dict())} tensors are taken")
        return source.train()
    net = model.build(name, **source.config | {"scale": scale})
    fresh = model.warm_start(net, source)
    log(f"{pre_train} is a network for x{source.scale}; at x{scale} these start afresh: {listing(fresh, 8)}")
    return net


def _tell_average(path: Path, log: Callable[[str], None]) -> None:
    if averaged(path):
        log(f"{path}: of its weights, the averaged ones are taken, params_ema")


def _from_any(net: BlindSR, path: Path, log: Callable[[str], None]) -> BlindSR:
    """Start a network from every layer whose name and shape fit: of a network, or of any other file of weights."""
    with argument("pre_train"):
        try:
            source = model.load_model(path)
            holds = f"{model.name_of(source)} {source.config}"
        except ValueError:  # such as a network that has been changed since
            if not path.is_file():
                raise
            source = model.read_tensors(path)
            holds = f"tensors such as {listing(list(source), 3)}"
    fresh = model.warm_start(net, source)
    total = len(net.state_dict())
    if len(fresh) == total:
        raise ValueError(f"`pre_train` {path} holds {holds}, of which nothing fits {model.name_of(net)} {net.config}")
    layers = dict.fromkeys(name.rpartition(".")[0] for name in fresh)
    log(
        f"{path}: {total - len(fresh)} of {total} tensors fit; these start afresh: {listing(list(layers), 8) or 'none'}"
    )
    if 2 * len(fresh) > total:
        log(f"note: more than half of {model.name_of(net)} starts afresh: what it was given may help little")
    return net


def take_restoration(student: BlindSR, teacher: BlindSR) -> None:
    """Start a student as published: with the teacher's SR network, and an estimator of its own."""
    try:
        weights = teacher.get_submodule("restoration").state_dict()
        student.get_submodule("restoration").load_state_dict(weights)
    except (AttributeError, RuntimeError) as error:
        raise ValueError(
            f"`model`: {model.name_of(student)} and {model.name_of(teacher)} need a submodule `restoration` with the "
            f"same layers, which a student takes from its teacher ({str(error).splitlines()[0]})"
        ) from error


def require(net: BlindSR, argument: str, path: Path, **asked: str | int | None) -> None:
    """Raise ValueError unless a loaded network is what was asked for; None asks for nothing."""
    found = {"model": model.name_of(net), **net.config}
    other = {name: value for name, value in asked.items() if value is not None and found.get(name) != value}
    if other:
        holds = ", ".join(f"{name} {found[name]}" if name in found else f"no {name}" for name in other)
        raise ValueError(
            f"`{argument}` {path} holds {holds}, and {', '.join(f'`{name}` {value}' for name, value in other.items())} "
            f"{'was' if len(other) == 1 else 'were'} asked for"
        )


def teacher(
    net: BlindSR,
    pre_train_TA: Path | None,  # noqa: N803 (published name)
    log: Callable[[str], None] = print,
) -> BlindSR:
    """Return the teacher of a student; without a file an empty one, whose weights come with the state of a run."""
    if pre_train_TA is None:
        return model.build(net.teacher, **_shared(net))
    with argument("pre_train_TA"):
        _tell_average(pre_train_TA, log)
        loaded = model.load_model(pre_train_TA)
    require(loaded, "pre_train_TA", pre_train_TA, model=net.teacher, **_shared(net))
    return loaded


def _shared(student: BlindSR) -> dict[str, Any]:
    """Return the sizes of a student that its teacher has, too, in which they must be alike."""
    return {name: size for name, size in student.config.items() if name in taken(NETWORKS[student.teacher])}


def check_teacher(objective: Objective[Any], pre_train_TA: Path | None) -> None:  # noqa: N803
    """Raise ValueError if a resumed run is given another teacher than the one it began with."""
    teacher = getattr(objective, "teacher", None)
    if pre_train_TA is None or teacher is None:
        return
    with argument("pre_train_TA"):
        asked = model.load_model(pre_train_TA).state_dict()
    if any(not torch.equal(value.cpu(), asked[name]) for name, value in teacher.state_dict().items()):
        raise ValueError(
            f"`pre_train_TA` {pre_train_TA} is not the teacher that this run began with; leave it out to go on with "
            "that one, or start a run of another name"
        )


def objective(name: str, net: BlindSR, **values: Any) -> Objective[Any]:
    """Build the objective that `net` is trained for.

    Args:
        name: one of `OBJECTIVES`.
        values: the flags, and what else the comment on `OBJECTIVES` lists.
    """
    kind = OBJECTIVES[name]
    return call(getattr(kind, "from_flags", kind), net=net, **values)
