"""ONNX files: they give what the network gives at any size, by standard operators alone."""

import numpy as np
import pytest
import torch

from model import build, save_model
from scripts import export_onnx
from utility import ROOT

SMALL = {"n_feats": 4, "n_blocks": 1}
NETWORKS = {
    "EDSR": SMALL,
    "KDSR_S": {**SMALL, "n_resblocks": 1},
    "KDSR_T": {**SMALL, "n_resblocks": 1},
    "DASR": SMALL,
    "RRDB": SMALL,
    "CDSR": {"n_blocks": 1},
    "IKC": SMALL,
}


@pytest.fixture(autouse=True)
def default_switches():
    """torch.export fails where a run in this process has set TF32 by its new switches; the old one sets all of them."""
    torch.backends.cudnn.allow_tf32 = True


@pytest.fixture
def net_file(tmp_path):
    """Writes a toy network and returns it with its file."""

    def write(name, scale=2):
        torch.manual_seed(0)
        net = build(name, scale=scale, **NETWORKS.get(name, {})).eval()
        save_model(net, tmp_path / "net.pt")
        return net, tmp_path / "net.pt"

    return write


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_gives_what_pytorch_gives(name, net_file, tmp_path, capsys):
    onnx, runtime, _ = (pytest.importorskip(extra) for extra in export_onnx.EXTRA)
    (net, file), out = net_file(name, scale=4 if name == "EDSR" else 2), tmp_path / "net.onnx"
    export_onnx.main([str(file), str(out)])
    assert f"{name} x{net.scale}, opset 18" in capsys.readouterr().out
    model = onnx.load(out)
    onnx.checker.check_model(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not {node.domain for node in model.graph.node} - {""}
    assert str(ROOT) not in str(model)
    about = {entry.key: entry.value for entry in model.metadata_props}
    expected = {"network": name, "scale": net.scale, "halo": net.halo, "min_size": net.min_size}
    assert about == {key: str(value) for key, value in expected.items()}
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    for size in ((12, 12), (17, 50)):
        images = export_onnx.random_images(net, size)
        found = session.run(["sr"], dict(zip(("lr", "hr"), map(np.asarray, images), strict=False)))[0]
        expected = net(*images).image.detach().numpy()
        np.testing.assert_allclose(found, expected, atol=export_onnx.TOLERANCE)


@pytest.mark.slow
def test_bicubic_says_that_it_cannot(net_file, tmp_path):
    for extra in export_onnx.EXTRA:
        pytest.importorskip(extra)
    with pytest.raises(SystemExit, match=r"error: ONNX Runtime cannot run BICUBIC: .*Resize"):
        export_onnx.main([str(net_file("BICUBIC")[1]), str(tmp_path / "net.onnx")])


def test_a_folder_that_is_missing_is_named_before_anything_is_exported(net_file, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "export", None)
    with pytest.raises(SystemExit, match=r"error: OUT.onnx: there is no folder .*nowhere"):
        export_onnx.main([str(net_file("EDSR")[1]), str(tmp_path / "nowhere/net.onnx")])


def test_missing_packages_are_named(net_file, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "EXTRA", ("torch", "nosuchpackage"))
    with pytest.raises(SystemExit, match=r"error: missing: nosuchpackage; pip install torch nosuchpackage$"):
        export_onnx.main([str(net_file("EDSR")[1]), str(tmp_path / "net.onnx")])


@pytest.mark.parametrize("difference", [1e-3, float("nan")])
def test_a_wrong_file_is_not_written(difference, net_file, tmp_path, monkeypatch):
    class Model:
        def SerializeToString(self):  # noqa: N802 (its name in protobuf)
            return b""

    monkeypatch.setattr(export_onnx, "EXTRA", ())
    monkeypatch.setattr(export_onnx, "export", lambda net: Model())
    monkeypatch.setattr(export_onnx, "differences", lambda net, model: {(24, 24): 0.0, (31, 45): difference})
    with pytest.raises(SystemExit, match=r"differs from PyTorch by .*; nothing is written"):
        export_onnx.main([str(net_file("EDSR")[1]), str(tmp_path / "net.onnx")])
    assert not (tmp_path / "net.onnx").exists()
