"""Export a network to ONNX, for images of any size, and check it against PyTorch.

    pip install onnx onnxruntime onnxscript
    python scripts/export_onnx.py kdsr_s_x4_iso kdsr_s_x4_iso.onnx

Input `lr` is (1, 3, H, W), RGB in [0, 1]; a teacher has `hr`, (1, 3, s·H, s·W), too. Output `sr` is (1, 3, s·H, s·W),
not clamped. The file has opset 18 and standard operators alone. Before it is written, ONNX Runtime must give at three
sizes what PyTorch gives, to 1e-4, a fortieth of a grey level.

All networks export but BICUBIC, whose resize in float64 ONNX Runtime lacks. IKC takes minutes: the file holds all seven
steps of its loop. Networks see the whole image at once: cut large ones into tiles yourself. The file's metadata has
`network`, `scale`, `halo` (the LR pixels that a tile needs on each side) and `min_size` (of an image).
"""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import BlindSR, load_model, name_of
from scripts.program import check_picture, one_line, program, words_of
from utility import argument, atomic_write

EXTRA = ("onnx", "onnxruntime", "onnxscript")
OPSET = 18
TOLERANCE = 1e-4
EXAMPLE = (29, 37)  # LR pixels of the image that the network is traced with
SIZES = ((24, 24), (31, 45), (64, 40))  # LR pixels of the images that the result is checked with


class SuperResolution(nn.Module):
    """The network as a plain function of its images."""

    def __init__(self, net: BlindSR) -> None:
        super().__init__()
        self.net = net

    def forward(self, lr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Map (1, 3, H, W) to (1, 3, s·H, s·W)."""
        return self.net(lr, hr).image


def random_images(net: BlindSR, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return an LR image of this size, and for a teacher an HR image."""
    generator = torch.Generator().manual_seed(0)
    sizes = [size, (net.scale * size[0], net.scale * size[1])][: 2 if net.sees_hr else 1]
    return tuple(torch.rand(1, 3, *sides, generator=generator) for sides in sizes)


def export(net: BlindSR) -> Any:
    """Return the network as an `onnx.ModelProto`. Raise ValueError if it cannot be exported."""
    dims = {2: torch.export.Dim("height", min=net.min_size), 3: torch.export.Dim("width", min=net.min_size)}
    shapes = (dims, {axis: net.scale * dim for axis, dim in dims.items()})
    images = random_images(net, EXAMPLE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            exported = torch.onnx.export(
                SuperResolution(net),
                images,
                input_names=["lr", "hr"][: len(images)],
                output_names=["sr"],
                opset_version=OPSET,
                dynamic_shapes=shapes[: len(images)],
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"{name_of(net)} cannot be exported: {_first_line(error)}") from None
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in which file of this machine its line stands
    about = {"network": name_of(net), "scale": net.scale, "halo": net.halo, "min_size": net.min_size}
    for key, value in about.items():
        model.metadata_props.add(key=key, value=str(value))
    return model


def differences(net: BlindSR, model: bytes) -> dict[tuple[int, int], float]:
    """Return by LR size the largest difference of ONNX Runtime from PyTorch. Raise ValueError if it cannot run."""
    import onnxruntime  # pyright: ignore[reportMissingImports]  # an optional extra

    found = {}
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        for size in SIZES:
            images = random_images(net, size)
            with torch.inference_mode():
                expected = SuperResolution(net)(*images)
            named = {entry.name: image.numpy() for entry, image in zip(session.get_inputs(), images, strict=True)}
            found[size] = (torch.from_numpy(session.run(["sr"], named)[0]) - expected).abs().max().item()
    except Exception as error:  # its exceptions have no common base
        raise ValueError(f"ONNX Runtime cannot run {name_of(net)}: {_first_line(error)}") from None
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def run(given: Namespace) -> None:
    """Export, check, write. Raise ValueError or OSError that names the argument to mend."""
    check_picture("OUT", given.out, (".onnx",))
    if not given.out.absolute().parent.is_dir():
        raise FileNotFoundError(f"`out`: there is no folder {given.out.parent}")
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise ValueError(f"missing: {', '.join(missing)}; pip install {' '.join(EXTRA)}")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with argument("network"):
        net = load_model(given.network)
    model = export(net).SerializeToString()
    found = differences(net, model)
    if wrong := [value for value in found.values() if not value <= TOLERANCE]:
        raise ValueError(f"the exported network differs from PyTorch by {max(wrong):.1e}; nothing is written")
    with atomic_write(given.out) as temporary:
        temporary.write_bytes(model)
    sizes = ", ".join(f"{value:.1e} at {height} x {width}" for (height, width), value in found.items())
    print(f"{given.out}: {name_of(net)} x{net.scale}, opset {OPSET}, {len(model) / 2**20:.1f} MiB")
    print(f"largest difference from PyTorch: {sizes} LR pixels")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("network", type=Path, metavar="MODEL", help="a checkpoint, or a name in the zoo")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="file to write")
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


if __name__ == "__main__":
    main()
